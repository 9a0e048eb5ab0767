package vaultclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/vaultclient"
)

// TestNothingIsTakenForNothing has answers that are not what there is: only Vault's own word says that there is nothing.
func TestNothingIsTakenForNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		names  []string
		list   error // nil: names
		read   error
	}{
		"names":              {200, `{"data": {"keys": ["a", "b/"]}}`, []string{"a", "b/"}, nil, nil},
		"nothing":            {404, `{"errors": []}`, nil, vaultclient.ErrNotFound, vaultclient.ErrNotFound},
		"no engine":          {404, `{"errors": ["no handler for route \"x\". route entry not found."]}`, nil, vaultclient.ErrRejected, vaultclient.ErrRejected},
		"a redirect":         {302, ``, nil, vaultclient.ErrUnreachable, vaultclient.ErrUnreachable},
		"no content":         {204, ``, nil, vaultclient.ErrUnreachable, vaultclient.ErrUnreachable},
		"empty":              {200, ``, nil, vaultclient.ErrUnreachable, vaultclient.ErrUnreachable},
		"no JSON":            {200, `<html>`, nil, vaultclient.ErrUnreachable, vaultclient.ErrUnreachable},
		"no data":            {200, `{"auth": {}}`, nil, vaultclient.ErrUnreachable, vaultclient.ErrUnreachable},
		"no names":           {200, `{"data": {"keys": []}}`, nil, vaultclient.ErrFailed, nil},
		"names are no texts": {200, `{"data": {"keys": ["a", 1]}}`, nil, vaultclient.ErrFailed, nil},
		"forbidden":          {403, `{"errors": ["permission denied"]}`, nil, vaultclient.ErrForbidden, vaultclient.ErrForbidden},
		"on standby":         {429, ``, nil, vaultclient.ErrFailed, vaultclient.ErrFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.status == http.StatusFound {
					w.Header().Set("Location", "/v1/elsewhere")
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			c, err := vaultclient.New(vaultclient.Config{Address: server.URL, Timeout: 5 * time.Second, Auth: token("hvs.test")})
			if err != nil {
				t.Fatal(err)
			}
			names, err := c.List(t.Context(), "kv/metadata/x")
			if !errors.Is(err, tt.list) || (err == nil) != (tt.list == nil) {
				t.Errorf("List() = %v, want %v", err, tt.list)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("List() (-want +got):\n%s", diff)
			}
			if _, err := c.Read(t.Context(), "kv/data/x"); !errors.Is(err, tt.read) || (err == nil) != (tt.read == nil) {
				t.Errorf("Read() = %v, want %v", err, tt.read)
			}
		})
	}
}
