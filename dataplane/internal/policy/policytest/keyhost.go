package policytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

// keyHost publishes keys: at /es256_a+eddsa_b those of that name, at /issuer/es256_a/.well-known/openid-configuration where they
// are.
type keyHost struct {
	world       *world
	plain, over *httptest.Server
	ca          *certtest.Cert
}

// fillKeyHost starts the host that a configuration asks for.
func (w *world) fillKeyHost(t testing.TB, b []byte) []byte {
	t.Helper()
	if w.keyHost == nil && bytes.Contains(b, []byte("$KEYHOST")) {
		w.keyHost = w.startKeyHost(t)
		w.keys["$KEYHOSTS"], w.keys["$KEYHOST"] = w.keyHost.over.URL, w.keyHost.plain.URL
	}
	if w.keyHost == nil {
		return b
	}
	return []byte(strings.NewReplacer(
		"$KEYHOST_CA", strings.ReplaceAll(w.keyHost.ca.PEM(), "\n", `\n`), "$KEYHOSTS", w.keyHost.over.URL, "$KEYHOST", w.keyHost.plain.URL,
	).Replace(string(b)))
}

func (w *world) startKeyHost(t testing.TB) *keyHost {
	t.Helper()
	h := &keyHost{world: w, ca: certtest.CA(t, "keys")}
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { h.answer(t, rw, r) })
	h.plain = httptest.NewServer(handler)
	t.Cleanup(h.plain.Close)
	h.over = httptest.NewUnstartedServer(handler)
	h.over.TLS = &tls.Config{Certificates: []tls.Certificate{pair(t, h.ca)}}
	h.over.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that are to fail
	h.over.StartTLS()
	t.Cleanup(h.over.Close)
	return h
}

// fetchKeys fetches keys from now on, once it is known which addresses may be dialled.
func (w *world) fetchKeys(t testing.TB) {
	t.Helper()
	if w.keyHost == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.services.KeySets.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func pair(t testing.TB, ca *certtest.Cert) tls.Certificate {
	t.Helper()
	c := ca.Issue(t, "host", certtest.Template(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }))
	out, err := tls.X509KeyPair([]byte(c.ChainPEM()), []byte(c.KeyPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *keyHost) answer(t testing.TB, rw http.ResponseWriter, r *http.Request) {
	var answer map[string]any
	name, discovers := strings.CutSuffix(r.URL.Path, "/.well-known/openid-configuration")
	switch {
	case discovers:
		base := "http://" + r.Host
		answer = map[string]any{"issuer": base + name, "jwks_uri": base + "/" + path.Base(name)}
	case strings.Count(r.URL.Path, "/") == 1:
		var keys []any
		for name := range strings.SplitSeq(r.URL.Path[1:], "+") {
			keys = append(keys, h.world.signer(t, name).Members())
		}
		answer = map[string]any{"keys": keys}
	default:
		http.NotFound(rw, r)
		return
	}
	if err := json.NewEncoder(rw).Encode(answer); err != nil {
		t.Error(err)
	}
}
