package scenario_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// dialTLS makes connections to a gateway for a server name.
type dialTLS struct {
	addr, sni string
	roots     *x509.CertPool
	client    *certtest.Cert // nil: none
	protocols []string
}

func (d dialTLS) dial(ctx context.Context) (*tls.Conn, error) {
	config := &tls.Config{
		RootCAs: d.roots, ServerName: d.sni, NextProtos: d.protocols, InsecureSkipVerify: d.sni == "",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if d.client == nil {
				return &tls.Certificate{}, nil
			}
			return &tls.Certificate{Certificate: [][]byte{d.client.Cert.Raw}, PrivateKey: d.client.Key}, nil
		},
	}
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	secure, _ := c.(*tls.Conn)
	return secure, secure.SetDeadline(time.Now().Add(20 * time.Second))
}

// transport sends requests for any host over connections for that name.
func (d dialTLS) transport(h2 bool) *http.Transport {
	d.protocols = []string{"http/1.1"}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	if h2 {
		d.protocols = []string{"h2"}
	}
	return &http.Transport{Protocols: protocols, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }}
}

func poolOf(c *certtest.Cert) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Cert)
	return p
}

// TestCertificatesAreReplacedUnderTraffic pushes certificates one after the other while clients come and go. The gateway was
// given none of its own.
func TestCertificatesAreReplacedUnderTraffic(t *testing.T) {
	t.Parallel()
	c, addr, ca := harness.New(t, harness.Options{}), testkit.Addr(t), certtest.CA(t, "shop")
	echo := harness.Echo(t)
	push := func(leaf *certtest.Cert) int64 {
		return c.Apply(fmt.Sprintf(`group: default
certificates: [{name: shop, snis: [shop.test, "*.shop.test"], current: %q}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: [shop.test, www.shop.test]}]
`, leaf.ChainPEM()+leaf.KeyPEM(t), echo))
	}
	issue := func() *certtest.Cert { return ca.Issue(t, "shop", certtest.Names("shop.test", "*.shop.test")) }
	leaf := issue()
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(push(leaf))
	var sent, failed atomic.Int64
	stop, workers := make(chan struct{}), sync.WaitGroup{}
	for i := range 4 {
		d := dialTLS{addr: addr, sni: []string{"shop.test", "www.shop.test"}[i%2], roots: poolOf(ca)}
		tr := d.transport(i < 2)
		workers.Go(func() {
			defer tr.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if n%5 == 4 {
					tr.CloseIdleConnections()
				}
				sent.Add(1)
				if err := passes(t.Context(), tr, d.sni); err != nil {
					failed.Add(1)
					t.Errorf("a request under way: %v", err)
				}
			}
		})
	}
	for range 5 {
		leaf = issue()
		before := sent.Load()
		g.AwaitRevision(push(leaf))
		conn, err := dialTLS{addr: addr, sni: "shop.test", roots: poolOf(ca)}.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(leaf.Cert) {
			t.Errorf("after the push number %v is shown, want %v", got.SerialNumber, leaf.Cert.SerialNumber)
		}
		_ = conn.Close()
		testkit.Await(t, 20*time.Second, func() error {
			if sent.Load() < before+40 {
				return errors.New("little traffic")
			}
			return nil
		})
	}
	close(stop)
	workers.Wait()
	t.Logf("%d requests over five replacements, %d failed", sent.Load(), failed.Load())
	if _, err := (dialTLS{addr: addr, sni: "other.test", roots: poolOf(ca)}).dial(t.Context()); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name of nobody: %v", err)
	}
}

func passes(ctx context.Context, tr *http.Transport, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	return nil
}

// TestClientCertificatesOverSockets has clients of all sorts come to two names, and takes one of them off the list.
func TestClientCertificatesOverSockets(t *testing.T) {
	t.Parallel()
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	ca, partners, others := certtest.CA(t, "shop"), certtest.CA(t, "partners"), certtest.CA(t, "others")
	names := []string{"alone.test", "shared.test", "open.test"}
	leaf := ca.Issue(t, "server", certtest.Names(names...))
	past := time.Now().Add(-time.Minute)
	clients := map[string]*certtest.Cert{
		"none": nil, "valid": partners.Issue(t, "client"), "listed": others.Issue(t, "client"), "other": others.Issue(t, "client"),
		"expired": partners.Issue(t, "client", certtest.Valid(past.Add(-time.Hour), past)),
	}
	document := fmt.Sprintf(`group: default
settings: {tls: {default_certificate: server}}
certificates:
  - {name: server, snis: [alone.test, shared.test, open.test], current: %q}
  - {name: listed, current: %q}
ca-certificates: [{name: partners, certificates: %q}]
services: [{name: s, url: "http://%s"}]
routes:
  - {name: alone, service: s, hosts: alone.test, client_certificates: {ca: partners, allow: listed}}
  - {name: closed, service: s, hosts: shared.test, client_certificates: {ca: partners, allow: listed}}
  - {name: beside, service: s, hosts: shared.test, paths: /open}
  - {name: open, service: s, hosts: open.test}
`, leaf.PEM()+leaf.KeyPEM(t), clients["listed"].PEM(), partners.PEM(), harness.Echo(t))
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document))
	to := func(sni, who string) dialTLS {
		return dialTLS{addr: addr, sni: sni, roots: poolOf(ca), client: clients[who]}
	}
	t.Run("all sorts", func(t *testing.T) {
		for _, tt := range []struct{ sni, host, who, want string }{
			{"alone.test", "alone.test", "valid", ""},
			{"alone.test", "alone.test", "listed", ""},
			{"alone.test", "alone.test", "none", "certificate required"},
			{"alone.test", "alone.test", "other", "bad certificate"},
			{"alone.test", "alone.test", "expired", "bad certificate"},
			{"shared.test", "shared.test", "valid", ""},
			{"shared.test", "shared.test", "none", "answered 403"},
			{"shared.test", "shared.test", "other", "answered 403"},
			{"shared.test", "shared.test", "expired", "answered 403"},
			{"", "alone.test", "listed", ""},
			{"", "alone.test", "none", "answered 403"},
			{"open.test", "open.test", "none", ""},
			{"open.test", "alone.test", "valid", "answered 421"},
			{"shared.test", "alone.test", "valid", "answered 421"},
		} {
			for _, h2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%q/%s/%s/h2=%v", tt.sni, tt.host, tt.who, h2), func(t *testing.T) {
					t.Parallel()
					if err := comes(t, to(tt.sni, tt.who), tt.host, h2); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
						t.Errorf("%v, want %q", err, tt.want)
					}
				})
			}
		}
	})
	t.Run("taken off the list", func(t *testing.T) { testTakenOff(t, c, g, to("alone.test", "listed"), document) })
}

// comes makes one request. The server may refuse the handshake only after the client is done with it.
func comes(t *testing.T, d dialTLS, host string, h2 bool) error {
	t.Helper()
	probe := d
	probe.protocols = []string{"h2"} // in which the server speaks first
	conn, err := probe.dial(t.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	tr := d.transport(h2)
	defer tr.CloseIdleConnections()
	return passes(t.Context(), tr, host)
}

// testTakenOff takes a client off the list that has a connection.
func testTakenOff(t *testing.T, c *harness.Cluster, g *harness.Gateway, d dialTLS, document string) {
	d.protocols = []string{"http/1.1"}
	conn, err := d.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for _, want := range []int{http.StatusOK, http.StatusForbidden} {
		if want == http.StatusForbidden {
			g.AwaitRevision(c.Apply(strings.ReplaceAll(document, ", allow: listed", "")))
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: alone.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Errorf("answered %d, want %d", resp.StatusCode, want)
		}
	}
	if err := comes(t, d, "alone.test", false); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("a new connection: %v", err)
	}
}
