package hostsvc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/testkit/certtest"
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

// TestFetchingKeysOverTLS has a server with a certificate of an authority of one's own.
func TestFetchingKeysOverTLS(t *testing.T) {
	t.Parallel()
	set := tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "k"))
	ca, stranger := certtest.CA(t, "ca"), certtest.CA(t, "stranger")
	leaf := ca.Issue(t, "id", certtest.Template(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" {
			_, _ = w.Write(set)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, "https://"+r.Host, "https://"+r.Host+"/jwks")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	for _, tt := range []struct {
		name        string
		source      hostsvc.KeySource
		authorities string
		want        string
	}{
		{"its authority", hostsvc.KeySource{URL: s.URL + "/jwks"}, string(ca.Cert.Raw), "k "},
		{"one of two", hostsvc.KeySource{URL: s.URL + "/jwks"}, string(stranger.Cert.Raw) + string(ca.Cert.Raw), "k "},
		{"also of the metadata", hostsvc.KeySource{Issuer: s.URL}, string(ca.Cert.Raw), "k "},
		{"another", hostsvc.KeySource{URL: s.URL + "/jwks"}, string(stranger.Cert.Raw), "none"},
		{"those of the machine", hostsvc.KeySource{URL: s.URL + "/jwks"}, "", "none"},
		{"garbage", hostsvc.KeySource{URL: s.URL + "/jwks"}, "x", "none"},
		{"another name", hostsvc.KeySource{URL: strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/jwks"}, string(ca.Cert.Raw), "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			services := hostsvc.New(hostsvc.Config{})
			rules, err := hostsvc.NewEgressRules(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			services.Egress.Store(rules)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- services.KeySets.Run(ctx) }()
			tt.source.Authorities, tt.source.Refresh, tt.source.Timeout = tt.authorities, time.Minute, 5*time.Second
			if got := ids(services.KeySets.Open(tt.source).Keys()); got != tt.want {
				t.Errorf("keys %q, want %q", got, tt.want)
			}
			cancel()
			<-done
		})
	}
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
