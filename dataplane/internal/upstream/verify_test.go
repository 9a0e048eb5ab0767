package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
)

func TestDepthAndSuites(t *testing.T) {
	t.Parallel()
	root := newAuthority(t)
	first := root.intermediate("first")
	second := first.intermediate("second")
	chain := func(by *authority, between ...*authority) tls.Certificate {
		c := by.issue("127.0.0.1")
		c.Certificate = c.Certificate[:1]
		for _, a := range between {
			c.Certificate = append(c.Certificate, a.cert.Raw)
		}
		return c
	}
	direct, one, two := chain(root), chain(first, first), chain(second, second, first)
	const bad = "502 upstream_tls"
	aes128, chacha := tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	depth := func(n int) runtime.TLS {
		return runtime.TLS{Verify: true, Authorities: []*x509.Certificate{root.cert}, Depth: &n}
	}
	with := func(c runtime.TLS, change func(*runtime.TLS)) runtime.TLS {
		change(&c)
		return c
	}
	only := func(suites ...uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.CipherSuites, c.MaxVersion = suites, tls.VersionTLS12 }
	}
	unbounded := with(depth(0), func(c *runtime.TLS) { c.Depth = nil })
	for _, tt := range []struct {
		name   string
		tls    runtime.TLS
		server tls.Certificate
		change func(*tls.Config)
		want   string
	}{
		{"no bound", unbounded, two, nil, "200 nobody"},
		{"0 and none", depth(0), direct, nil, "200 nobody"},
		{"0 and one", depth(0), one, nil, bad},
		{"1 and one", depth(1), one, nil, "200 nobody"},
		{"1 and two", depth(1), two, nil, bad},
		{"2 and two", depth(2), two, nil, "200 nobody"},
		{"1 and two, with SAN", with(depth(1), func(c *runtime.TLS) { c.SANs = []string{"127.0.0.1"} }), two, nil, bad},
		{"2 and two, with SAN", with(depth(2), func(c *runtime.TLS) { c.SANs = []string{"127.0.0.1"} }), two, nil, "200 nobody"},
		{"an intermediate is believed", with(depth(0), func(c *runtime.TLS) { c.Authorities = []*x509.Certificate{second.cert} }), two, nil, "200 nobody"},
		{
			"the short chain is not the pinned one", with(depth(0), func(c *runtime.TLS) {
				c.Authorities, c.Pins = []*x509.Certificate{root.cert, second.cert}, [][32]byte{pin(root.cert)}
			}), two, nil, bad,
		},
		{"suite", with(unbounded, func(c *runtime.TLS) { c.Suites = []uint16{aes128} }), direct, only(aes128, chacha), "200 nobody"},
		{"other suite", with(unbounded, func(c *runtime.TLS) { c.Suites = []uint16{chacha} }), direct, only(aes128), bad},
		{"any suite", unbounded, direct, only(aes128), "200 nobody"},
		{"suites are of TLS 1.2", with(unbounded, func(c *runtime.TLS) { c.Suites = []uint16{chacha} }), direct, nil, "200 nobody"},
		{"least version", with(unbounded, func(c *runtime.TLS) { c.MinVersion = tls.VersionTLS13 }), direct, only(aes128), bad},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachSpoken(t, func(t *testing.T, how spoken) {
				u := newVisited(t, tt.server, nil, func(c *tls.Config) {
					c.ClientAuth = tls.NoClientCert
					if tt.change != nil {
						tt.change(c)
					}
				})
				g := start(t, how.engine)
				s := how.service(root, nil, u.address)
				conf := tt.tls
				s.TLS = &conf
				a := g.do(get(t, s, "/"))
				if got := fmt.Sprint(a.status, " ", a.code+a.body); got != tt.want {
					t.Errorf("%s (%v), want %s", got, a.err, tt.want)
				}
			})
		})
	}
}

// intermediate returns an authority that this one vouches for.
func (a *authority) intermediate(name string) *authority {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return &authority{t: a.t, key: key, cert: a.signFor(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, a.cert, &key.PublicKey)}
}
