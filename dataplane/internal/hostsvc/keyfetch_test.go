package hostsvc_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

// identityProvider answers as one does, and as some should not.
func identityProvider(t *testing.T, set []byte) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	answer := func(path, format string, args ...any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, format, args...) })
	}
	answer("/jwks", "%s", set)
	answer("/garbage", "<html>")
	answer("/huge", "%s", strings.Repeat(" ", jwk.MaxSet+1))
	answer("/.well-known/openid-configuration", `{"issuer":%q,"jwks_uri":%q}`, s.URL, s.URL+"/jwks")
	answer("/.well-known/oauth-authorization-server/tenant", `{"issuer":%q,"jwks_uri":%q}`, s.URL+"/tenant", s.URL+"/jwks")
	answer("/liar/.well-known/openid-configuration", `{"issuer":%q,"jwks_uri":%q}`, s.URL, s.URL+"/jwks")
	answer("/plain/.well-known/openid-configuration", `{"issuer":%q,"jwks_uri":"http://id.test/jwks"}`, s.URL+"/plain")
	answer("/nowhere/.well-known/openid-configuration", `{"issuer":%q}`, s.URL+"/nowhere")
	mux.Handle("/moved", http.RedirectHandler("/jwks", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	other := httptest.NewServer(http.RedirectHandler(s.URL+"/jwks", http.StatusFound))
	t.Cleanup(other.Close)
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return s
}

func TestFetchingKeys(t *testing.T) {
	t.Parallel()
	s := identityProvider(t, tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "k")))
	for _, tt := range []struct {
		name, url, issuer string
		deny              string
		want              string
	}{
		{"a set", "/jwks", "", "", "k "},
		{"moved on the server", "/moved", "", "", "k "},
		{"discovered", "", s.URL, "", "k "},
		{"discovered as RFC 8414 says", "", s.URL + "/tenant", "", "k "},
		{"metadata of another issuer", "", s.URL + "/liar", "", "none"},
		{"metadata without keys", "", s.URL + "/nowhere", "", "none"},
		{"keys in the clear", "", s.URL + "/plain", "", "none"},
		{"no metadata", "", s.URL + "/unknown", "", "none"},
		{"moved to another server", "/away", "", "", "none"},
		{"moved for ever", "/round", "", "", "none"},
		{"nothing there", "/missing", "", "", "none"},
		{"garbage", "/garbage", "", "", "none"},
		{"too much", "/huge", "", "", "none"},
		{"never", "/slow", "", "", "none"},
		{"denied", "/jwks", "", "127.0.0.0/8", "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			services := hostsvc.New(hostsvc.Config{Log: slog.New(slog.DiscardHandler)})
			rules, err := hostsvc.NewEgressRules(nil, strings.Fields(tt.deny))
			if err != nil {
				t.Fatal(err)
			}
			services.Egress.Store(rules)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- services.KeySets.Run(ctx) }()
			source := hostsvc.KeySource{Issuer: tt.issuer, Refresh: time.Minute, Timeout: time.Second}
			if tt.url != "" {
				source.URL = s.URL + tt.url
			}
			if got := ids(services.KeySets.Open(source).Keys()); got != tt.want {
				t.Errorf("keys %q, want %q", got, tt.want)
			}
			cancel()
			<-done
		})
	}
}
