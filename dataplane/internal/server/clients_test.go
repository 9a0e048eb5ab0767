package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// partners are an authority and clients of all sorts.
type partners struct {
	ca      *issuer
	clients map[string]*tls.Certificate // by what they are; "none" has none
}

func newPartners(t *testing.T) *partners {
	t.Helper()
	ca, other := newIssuer(t, "partners"), newIssuer(t, "others")
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return &partners{ca, map[string]*tls.Certificate{
		"none": nil, "valid": ca.issue(issued{usage: client}), "expired": ca.issue(issued{usage: client, starts: -2 * time.Hour}),
		"other CA": other.issue(issued{usage: client}), "allow-listed": other.issue(issued{usage: client}),
		"for servers": ca.issue(issued{usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "revoked": ca.issue(issued{usage: client}),
	}}
}

// authority is that of the clients, with what is said of revocation; nil: nothing.
func (p *partners) authority(r *configv1.Revocation) statetest.Record {
	return record(certs.KindCA, "partners", &configv1.CaCertificate{Name: "partners", Certificates: p.ca.PEM(), Revocation: r})
}

// listing is a list with some of the clients.
func (p *partners) listing(who ...string) *configv1.Revocation {
	var revoked []*x509.Certificate
	for _, w := range who {
		revoked = append(revoked, p.clients[w].Leaf)
	}
	return &configv1.Revocation{Crl: certtest.Block("X509 CRL", p.ca.CRL(p.ca.t, 1, nil, revoked...))}
}

// records are the authority, as "partners", and the certificate that is allowed as it is, as "pinned".
func (p *partners) records() []statetest.Record {
	pinned := p.clients["allow-listed"].Leaf
	return []statetest.Record{
		p.authority(p.listing("revoked")),
		record(certs.Kind, "pinned", &configv1.Certificate{Name: "pinned", Current: &configv1.CertificateVersion{Chain: certtest.Block("CERTIFICATE", pinned.Raw)}}),
	}
}

func hostRoute(name, path string, wanted *configv1.RouteClientCertificates, hosts ...string) statetest.Record {
	return record("routes", name, &configv1.Route{
		Name: name, Service: "up", Hosts: hosts, ClientCertificates: wanted, Upgrade: []string{"websocket"},
		Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: path}}},
	})
}

// visit is a client's request.
type visit struct {
	sni, host, path string
	cert            *tls.Certificate
	h2              bool
	version         uint16 // the highest; 0: the newest
}

func (v *visit) config() *tls.Config {
	c := &tls.Config{
		ServerName: v.sni, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, MaxVersion: v.version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if v.cert == nil {
				return &tls.Certificate{}, nil
			}
			return v.cert, nil // whatever the server would rather see
		},
	}
	if v.h2 {
		c.NextProtos = []string{"h2"}
	}
	return c
}

// visit returns what becomes of it: the status of the answer, or the alert that ended the handshake.
func (g *gateway) visit(v *visit) string {
	g.t.Helper()
	c, err := g.shake(v.config())
	if err == nil {
		err = rejected(c)
	}
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
			return strings.TrimPrefix(op.Err.Error(), "tls: ")
		}
		return err.Error()
	}
	if v.h2 {
		if c, err = g.shake(v.config()); err != nil {
			return err.Error()
		}
	}
	status, err := g.request(c, v)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(status)
}

// rejected waits for an alert: in TLS 1.3 the client has finished before the server has seen its certificate. In HTTP/2
// the server speaks first, so the connection is of no more use.
func rejected(c *tls.Conn) error {
	if c.ConnectionState().Version == tls.VersionTLS12 {
		return nil // it would have been told by now
	}
	if c.ConnectionState().NegotiatedProtocol != "h2" {
		_ = c.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		defer func() { _ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) }()
	}
	var one [1]byte
	if _, err := c.Read(one[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

func (g *gateway) request(c *tls.Conn, v *visit) (int, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!v.h2)
	protocols.SetHTTP2(v.h2)
	tr := &http.Transport{Protocols: protocols, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "https://"+v.host+v.path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

// TestClientCertificates is the whole table: the name that is asked for, who else is there under that name, what the client
// shows, and the protocol.
func TestClientCertificates(t *testing.T) { overEngines(t, testClientCertificates) }

func testClientCertificates(t *testing.T, e server.Engine) {
	p := newPartners(t)
	wanted := &configv1.RouteClientCertificates{Ca: []string{"partners"}, Allow: []string{"pinned"}}
	g := start(t, e, https())
	g.everywhere(echo(t).URL, append(p.records(),
		hostRoute("alone", "/", wanted, "alone.test", "*.alone.test"),
		hostRoute("closed", "/closed", wanted, "shared.test", "*.shared.test"), hostRoute("open", "/open", nil, "shared.test", "*.shared.test"))...)
	good := map[string]bool{"valid": true, "allow-listed": true}
	for _, sni := range []string{"exact", "wildcard", "absent"} {
		for _, under := range []string{"alone", "shared"} {
			for who, cert := range p.clients {
				host := map[string]string{"exact": under + ".test", "wildcard": "x." + under + ".test", "absent": under + ".test"}[sni]
				v := visit{sni: host, host: host, path: "/closed", cert: cert}
				if sni == "absent" {
					v.sni = ""
				}
				want := "403"
				switch {
				case good[who]:
					want = "200"
				case under == "alone" && sni != "absent" && who == "none":
					want = "certificate required"
				case under == "alone" && sni != "absent":
					want = "bad certificate"
				}
				for _, h2 := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/h2=%v", sni, under, who, h2), func(t *testing.T) {
						t.Parallel()
						v := v
						v.h2 = h2
						if got := g.visit(&v); got != want {
							t.Errorf("%+v: %s, want %s", v, got, want)
						}
						if under == "shared" {
							v.path = "/open"
							if got := g.visit(&v); got != "200" {
								t.Errorf("the open route beside it: %s", got)
							}
						}
					})
				}
			}
		}
	}
}

// TestOlderClientsAreRefusedInTheHandshake has clients of TLS 1.2, whose alerts are others.
func TestOlderClientsAreRefusedInTheHandshake(t *testing.T) {
	t.Parallel()
	p := newPartners(t)
	g := start(t, server.Keyward, https())
	g.everywhere(echo(t).URL, append(p.records(), hostRoute("alone", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "alone.test"))...)
	for who, want := range map[string]string{
		"none": "handshake failure", "valid": "200", "expired": "bad certificate", "other CA": "bad certificate", "for servers": "bad certificate", "revoked": "bad certificate", "allow-listed": "bad certificate",
	} {
		if got := g.visit(&visit{sni: "alone.test", host: "alone.test", path: "/", cert: p.clients[who], version: tls.VersionTLS12}); got != want {
			t.Errorf("%s: %s, want %s", who, got, want)
		}
	}
	testkit.Await(t, testkit.Deadline, func() error { // the client hears of it before it is counted
		if n := g.server.HandshakeFailures()["client_certificate"]; n != 6 {
			return fmt.Errorf("%d handshakes are counted as failed by the client's certificate, want 6", n)
		}
		return nil
	})
}

// TestHostsOfOtherDemandsAreMisdirected sends requests for one host over a connection for another one.
func TestHostsOfOtherDemandsAreMisdirected(t *testing.T) { overEngines(t, testMisdirected) }

func testMisdirected(t *testing.T, e server.Engine) {
	p := newPartners(t)
	byCA, byPin := &configv1.RouteClientCertificates{Ca: []string{"partners"}}, &configv1.RouteClientCertificates{Allow: []string{"pinned"}}
	g := start(t, e, https(), server.Listener{Name: "http", Address: "127.0.0.1:0"})
	g.everywhere(echo(t).URL, append(p.records(),
		hostRoute("ca", "/", byCA, "ca.test", "also.test"), hostRoute("pin", "/", byPin, "pin.test"), hostRoute("open", "/", nil, "open.test"),
		hostRoute("shared", "/", byCA, "shared.test"), hostRoute("beside", "/open", nil, "shared.test"))...)
	valid, pinned := p.clients["valid"], p.clients["allow-listed"]
	for _, tt := range []struct {
		name, sni, host string
		cert            *tls.Certificate
		want            string
	}{
		{"the same host", "ca.test", "ca.test", valid, "200"},
		{"in capitals", "CA.test", "ca.TEST", valid, "200"},
		{"with a port", "ca.test", "ca.test:443", valid, "200"},
		{"a host of the same demand", "ca.test", "also.test", valid, "200"},
		{"a host of another demand", "ca.test", "pin.test", valid, "421"},
		{"an open host", "ca.test", "open.test", valid, "421"},
		{"from an open host", "open.test", "ca.test", valid, "421"},
		{"from a host of nobody", "nobody.test", "pin.test", pinned, "421"},
		{"between hosts without demands", "open.test", "nobody.test", nil, "200"},
		{"where the same is wanted by some only", "ca.test", "shared.test", valid, "421"},
		{"no name", "", "ca.test", valid, "200"},
		{"no name, and another one", "", "pin.test", valid, "403"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				t.Parallel()
				if got := g.visit(&visit{sni: tt.sni, host: tt.host, path: "/", cert: tt.cert, h2: h2}); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
	if resp, body := get(t, g.address("http"), "/", "Host", "ca.test"); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "client_certificate_required") {
		t.Errorf("without TLS: %d %s", resp.StatusCode, body)
	}
}

// TestTheNarrowestLevelSaysWhoMayCome combines what settings, service and route say.
func TestTheNarrowestLevelSaysWhoMayCome(t *testing.T) {
	t.Parallel()
	p := newPartners(t)
	url := echo(t).URL
	byCA, byPin := &configv1.ClientCertificates{Ca: []string{"partners"}}, &configv1.ClientCertificates{Allow: []string{"pinned"}}
	id := certs.ID(p.clients["allow-listed"].Leaf.Raw)
	for _, tt := range []struct {
		name              string
		settings, service *configv1.ClientCertificates
		route             *configv1.RouteClientCertificates
		comes             string // who of valid, allow-listed and none
	}{
		{name: "nobody says anything", comes: "valid allow-listed none"},
		{name: "the settings", settings: byCA, comes: "valid"},
		{name: "the service before the settings", settings: byCA, service: byPin, comes: "allow-listed"},
		{name: "the route before the settings", settings: byCA, route: &configv1.RouteClientCertificates{Allow: []string{"pinned"}}, comes: "allow-listed"},
		{name: "the route before the service", service: byCA, route: &configv1.RouteClientCertificates{Allow: []string{id}}, comes: "allow-listed"},
		{name: "the route beside the settings", settings: byCA, route: &configv1.RouteClientCertificates{Allow: []string{"pinned"}, Inherit: true}, comes: "valid allow-listed"},
		{name: "the route beside the service only", settings: byCA, service: byPin, route: &configv1.RouteClientCertificates{Inherit: true}, comes: "allow-listed"},
		{name: "somebody who is not there", route: &configv1.RouteClientCertificates{Allow: []string{"gone"}, Ca: []string{"gone"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, server.Keyward, https())
			up := service(url)
			up.ClientCertificates = tt.service
			g.config(append(p.records(), settings(&configv1.Settings{ClientCertificates: tt.settings}), record("services", "up", up), hostRoute("r", "/", tt.route))...)
			var comes []string
			for _, who := range []string{"valid", "allow-listed", "none"} {
				if g.visit(&visit{sni: "a.test", host: "a.test", path: "/", cert: p.clients[who]}) == "200" {
					comes = append(comes, who)
				}
			}
			if got := strings.Join(comes, " "); got != tt.comes {
				t.Errorf("those who may come are %q, want %q", got, tt.comes)
			}
		})
	}
}

// TestClientsAreToldOfAuthoritiesWhereThatIsAll looks at the certificate request.
func TestClientsAreToldOfAuthoritiesWhereThatIsAll(t *testing.T) {
	t.Parallel()
	p := newPartners(t)
	g := start(t, server.Keyward, https())
	g.everywhere(echo(t).URL, append(p.records(),
		hostRoute("ca", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "ca.test"),
		hostRoute("both", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}, Allow: []string{"pinned"}}, "both.test"))...)
	for sni, want := range map[string]string{"ca.test": "1 told", "both.test": "0 told", "": "0 told", "open.test": "not asked"} {
		got := "not asked"
		v := visit{sni: sni, cert: p.clients["valid"]}
		c := v.config()
		c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			got = fmt.Sprint(len(r.AcceptableCAs), " told")
			return v.cert, nil
		}
		if _, err := g.shake(c); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", sni, got, err, want)
		}
	}
}
