package vaultclient_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
)

// FuzzAnswers holds that no answer of a server, which may be a tenant's, ends the process.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", "0", `{"data": null}`, `{"data": []}`, `{"auth": {}}`, `{"auth": {"client_token": "t", "lease_duration": -1}}`,
		`{"errors": null}`, `{"errors": [null, 1]}`, `{"errors": ["sealed"]}`, `{"data": {"ttl": 1e99, "expire_time": "x", "renewable": 1}}`,
		`{"auth": {"client_token": "t", "lease_duration": 99999999999999999999, "renewable": true}}`, `{"wrap_info": {}}`, `{"warnings": [1]}`,
		`{"auth": {"client_token": "t\r\nX: y", "lease_duration": 1, "renewable": true}}`,
	} {
		f.Add(200, []byte(seed))
		f.Add(403, []byte(seed))
		f.Add(503, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}))
		defer server.Close()
		for _, auth := range []vaultclient.Auth{
			{Method: vaultclient.MethodToken, Secret: settings.NewSecret("t")},
			{Method: vaultclient.MethodAppRole, Role: "r", Secret: settings.NewSecret("s")},
		} {
			c, err := vaultclient.New(vaultclient.Config{Address: server.URL, Timeout: time.Second, Auth: auth})
			if err != nil {
				t.Fatal(err)
			}
			c.Tend(t.Context())
			_, _ = c.Read(t.Context(), "kv/x")
			_, _ = c.Write(t.Context(), "pki/issue/x", map[string]any{"a": "b"})
		}
	})
}
