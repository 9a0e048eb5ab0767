package upstream_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	return a.signFor(template, parent, &key.PublicKey)
}

// signFor signs a certificate with the validity of the template.
func (a *authority) signFor(template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue returns a certificate for names, addresses and URIs.
func (a *authority) issue(names ...string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		switch ip := net.ParseIP(n); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case strings.Contains(n, "://"):
			u, err := url.Parse(n)
			if err != nil {
				a.t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		default:
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	leaf := a.sign(template, a.cert, key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func pin(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// write replaces a file at once, as those who rotate certificates should.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func listenTLS(t testing.TB, c *tls.Config, handle func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, tls.NewListener(l, c), handle)
	return l.Addr().String()
}

// port is the address under another name for this machine.
func under(name, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort(name, port)
}

func TestTargetsProveWhoTheyAre(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, others := newAuthority(t), newAuthority(t)
	write(t, filepath.Join(dir, "ours.pem"), ours.pem())
	write(t, filepath.Join(dir, "others.pem"), others.pem())
	write(t, filepath.Join(dir, "both.pem"), append(others.pem(), ours.pem()...))
	write(t, filepath.Join(dir, "empty.pem"), []byte("nothing"))
	outside := filepath.Join(t.TempDir(), "ours.pem")
	write(t, outside, ours.pem())
	if err := os.Symlink(outside, filepath.Join(dir, "out.pem")); err != nil {
		t.Fatal(err)
	}
	leaf := ours.issue("localhost", "api.test", "127.0.0.1", "spiffe://test/api")
	const lost, bad = "503 upstream_tls_unavailable", "502 upstream_tls"
	tests := []struct {
		name string
		tls  runtime.TLS
		host string
		want string // "200" and the SNI, or what goes wrong
	}{
		{name: "CA", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}}, host: "localhost", want: "200 localhost"},
		{name: "address", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}}, host: "127.0.0.1", want: "200 "},
		{name: "two files", tls: runtime.TLS{Verify: true, CA: []string{"others.pem", "ours.pem"}}, host: "localhost", want: "200 localhost"},
		{name: "two in a file", tls: runtime.TLS{Verify: true, CA: []string{"both.pem"}}, host: "localhost", want: "200 localhost"},
		{name: "system", tls: runtime.TLS{Verify: true}, host: "localhost", want: bad},
		{name: "other CA", tls: runtime.TLS{Verify: true, CA: []string{"others.pem"}}, host: "localhost", want: bad},
		{name: "missing file", tls: runtime.TLS{Verify: true, CA: []string{"missing.pem"}}, host: "localhost", want: lost},
		{name: "missing second file", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem", "missing.pem"}}, host: "localhost", want: lost},
		{name: "no certificate in it", tls: runtime.TLS{Verify: true, CA: []string{"empty.pem"}}, host: "localhost", want: lost},
		{name: "file outside", tls: runtime.TLS{Verify: true, CA: []string{outside}}, host: "localhost", want: lost},
		{name: "link outside", tls: runtime.TLS{Verify: true, CA: []string{"out.pem"}}, host: "localhost", want: lost},
		{name: "name", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, ServerName: "api.test"}, host: "localhost", want: "200 api.test"},
		{name: "wrong name", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, ServerName: "other.test"}, host: "localhost", want: bad},
		{
			name: "SAN", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, ServerName: "other.test", SANs: []string{"x.test", "api.test"}},
			host: "localhost", want: "200 other.test",
		},
		{name: "URI", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, SANs: []string{"spiffe://test/api"}}, host: "localhost", want: "200 localhost"},
		{name: "wrong SAN", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, SANs: []string{"x.test", "spiffe://test"}}, host: "localhost", want: bad},
		{name: "SAN of another CA", tls: runtime.TLS{Verify: true, CA: []string{"others.pem"}, SANs: []string{"api.test"}}, host: "localhost", want: bad},
		{name: "pinned leaf", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, Pins: [][32]byte{{1}, pin(leaf.Leaf)}}, host: "localhost", want: "200 localhost"},
		{name: "pinned CA", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, Pins: [][32]byte{pin(ours.cert)}}, host: "localhost", want: "200 localhost"},
		{name: "other pin", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, Pins: [][32]byte{pin(others.cert)}}, host: "localhost", want: bad},
		{
			name: "SAN and other pin", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, SANs: []string{"api.test"}, Pins: [][32]byte{{1}}},
			host: "localhost", want: bad,
		},
		{name: "pin without trust", tls: runtime.TLS{Verify: true, CA: []string{"others.pem"}, Pins: [][32]byte{pin(leaf.Leaf)}}, host: "localhost", want: bad},
		{name: "unverified", tls: runtime.TLS{}, host: "localhost", want: "200 localhost"},
		{name: "unverified but pinned", tls: runtime.TLS{Pins: [][32]byte{pin(leaf.Leaf)}}, host: "localhost", want: "200 localhost"},
		{name: "unverified and the CA pinned", tls: runtime.TLS{Pins: [][32]byte{pin(ours.cert)}}, host: "localhost", want: bad},
		{name: "CA of the configuration", tls: runtime.TLS{Verify: true, Authorities: []*x509.Certificate{others.cert, ours.cert}}, host: "localhost", want: "200 localhost"},
		{name: "other CA of the configuration", tls: runtime.TLS{Verify: true, Authorities: []*x509.Certificate{others.cert}}, host: "localhost", want: bad},
		{
			name: "CA of the configuration and a file", tls: runtime.TLS{Verify: true, CA: []string{"ours.pem"}, Authorities: []*x509.Certificate{others.cert}},
			host: "localhost", want: "200 localhost",
		},
		{
			name: "CA of the configuration and a missing file", tls: runtime.TLS{Verify: true, CA: []string{"missing.pem"}, Authorities: []*x509.Certificate{ours.cert}},
			host: "localhost", want: lost,
		},
		{
			name: "pin and SAN of the configuration's CA", host: "localhost", want: "200 localhost",
			tls: runtime.TLS{Verify: true, Authorities: []*x509.Certificate{ours.cert}, SANs: []string{"api.test"}, Pins: [][32]byte{pin(ours.cert)}},
		},
		{name: "old version", tls: runtime.TLS{MaxVersion: tls.VersionTLS12}, host: "localhost", want: bad},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine, dir)
		var sni atomic.Value
		config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			sni.Store(h.ServerName)
			return &leaf, nil
		}}
		address := listenTLS(t, config, func(_ int, c net.Conn) {
			answerAll(c, func(*http.Request, string) string { return ok("fine") })
		})
		for _, tt := range tests {
			tt.tls.CA = slices.Clone(tt.tls.CA)
			for i, f := range tt.tls.CA {
				if !filepath.IsAbs(f) {
					tt.tls.CA[i] = filepath.Join(dir, f)
				}
			}
			s := service(under(tt.host, address))
			s.Key, s.TLS = tt.name, &tt.tls
			for range 2 { // the second time a session may be resumed
				a := g.do(get(t, s, "/"))
				got := fmt.Sprint(a.status, " ", a.code)
				if a.err == nil {
					got = fmt.Sprint(a.status, " ", sni.Load())
				}
				if got != tt.want {
					t.Errorf("%s: %s (%v), want %s", tt.name, got, a.err, tt.want)
				}
				impatient := *s // a new connection next time
				impatient.Pool.MaxIdle = 0
				s = &impatient
			}
		}
	})
}

// A CA file that changes is taken up: connections made under the old one are not used any more, and without one there are
// none at all.
func TestChangedTrust(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		dir := t.TempDir()
		file := filepath.Join(dir, "ca.pem")
		ours, others := newAuthority(t), newAuthority(t)
		g := start(t, engine, dir)
		leaf := ours.issue("localhost")
		s := service(under("localhost", listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, func(_ int, c net.Conn) {
			answerAll(c, func(*http.Request, string) string { return ok("fine") })
		})))
		s.TLS = &runtime.TLS{Verify: true, CA: []string{file}}
		await := func(status int, code string) {
			t.Helper()
			testkit.Await(t, testkit.Deadline, func() error {
				if a := g.do(get(t, s, "/")); a.status != status || a.code != code {
					return fmt.Errorf("%v, want %d %s", a, status, code)
				}
				return nil
			})
		}
		await(503, "upstream_tls_unavailable")
		write(t, file, ours.pem())
		await(200, "")
		write(t, file, others.pem())
		await(502, "upstream_tls")
		write(t, file, append(others.pem(), ours.pem()...))
		await(200, "")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		await(503, "upstream_tls_unavailable")
	})
}

// Over TLS the end of a connection is only an end if close_notify says so.
func TestTruncatedTLS(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, orderly := range []bool{true, false} {
			g := start(t, engine)
			leaf := newAuthority(t).issue("localhost")
			s := service(listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, func(_ int, c net.Conn) {
				if _, _, err := readRequest(bufio.NewReader(c)); err != nil {
					return
				}
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\nhello")
				if !orderly {
					_ = c.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, c.(*tls.Conn).NetConn())
				}
			}))
			s.TLS = &runtime.TLS{}
			if a := g.do(get(t, s, "/")); (a.err == nil) != orderly || orderly && a.body != "hello" {
				t.Errorf("orderly %t: %v", orderly, a)
			}
		}
	})
}

// Over TLS, too, nothing that came after an answer is ever taken for the next one, in whichever layer it waits.
func TestDirtyTLSConnectionsAreNotReused(t *testing.T) {
	t.Parallel()
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	leaf := newAuthority(t).issue("localhost")
	tests := []struct {
		name  string
		extra func(c *tls.Conn)
		reuse bool
	}{
		{"nothing", func(*tls.Conn) {}, true},
		{"another answer", func(c *tls.Conn) { fmt.Fprint(c, evil) }, false},
		{"half a record header", func(c *tls.Conn) { _, _ = c.NetConn().Write([]byte{23, 3, 3}) }, false},
		{"half a record", func(c *tls.Conn) { _, _ = c.NetConn().Write([]byte{23, 3, 3, 1, 0, 1, 2, 3}) }, false},
		{"no record at all", func(c *tls.Conn) { fmt.Fprint(c.NetConn(), evil) }, false},
		{"end", func(c *tls.Conn) { _ = c.CloseWrite() }, false},
		{"end without notice", func(c *tls.Conn) { _ = c.NetConn().(*net.TCPConn).CloseWrite() }, false},
	}
	for _, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s %s", tt.name, tls.VersionName(version)), func(t *testing.T) {
				t.Parallel()
				g := start(t, "")
				now, done := make(chan bool, 1), make(chan bool, 1)
				s := service(listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: version}, func(n int, c net.Conn) {
					first := n == 0
					answerAll(c, func(*http.Request, string) string {
						if first {
							go func() {
								<-now
								tt.extra(c.(*tls.Conn))
								done <- true
							}()
							first = false
						}
						return ok(fmt.Sprint(n))
					})
				}))
				s.TLS = &runtime.TLS{}
				if a := g.do(get(t, s, "/")); a.body != "0" {
					t.Fatal(a)
				}
				now <- true
				<-done
				if !tt.reuse {
					testkit.Await(t, testkit.Deadline, func() error { return upstream.Arrived(g.Manager) })
				}
				want := map[bool]string{true: "0", false: "1"}[tt.reuse]
				if a := g.do(get(t, s, "/")); a.body != want {
					t.Errorf("the next request was answered %v, want by connection %s", a, want)
				}
			})
		}
	}
}

// An answer and more in one record: what crypto/tls has decrypted and not handed out counts too.
func TestTLSRecordWithTwoAnswers(t *testing.T) {
	t.Parallel()
	leaf := newAuthority(t).issue("localhost")
	for _, size := range []int{1, 100, 5000, 8 << 10, 12 << 10} {
		g := start(t, "")
		s := service(listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, func(n int, c net.Conn) {
			answerAll(c, func(*http.Request, string) string {
				if n > 0 {
					return ok("second")
				}
				return ok(strings.Repeat("x", size)) + ok("evil")
			})
		}))
		s.TLS = &runtime.TLS{}
		if a := g.do(get(t, s, "/")); len(a.body) != size {
			t.Fatal(a)
		}
		if a := g.do(get(t, s, "/")); a.body != "second" {
			t.Errorf("after %d bytes the next request was answered %v", size, a)
		}
	}
}
