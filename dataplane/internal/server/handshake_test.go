package server_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/testkit"
)

func https() server.Listener {
	return server.Listener{Name: "https", Address: "127.0.0.1:0", TLS: true}
}

// shake shakes hands with a gateway; the connection ends with the test.
func (g *gateway) shake(c *tls.Config) (*tls.Conn, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: c}
	raw, err := d.DialContext(g.t.Context(), "tcp", g.address("https"))
	if err != nil {
		return nil, err
	}
	g.t.Cleanup(func() { raw.Close() })
	secure, _ := raw.(*tls.Conn)
	return secure, secure.SetDeadline(time.Now().Add(10 * time.Second))
}

// ask sends a request on a connection that speaks HTTP/1.1.
func ask(t *testing.T, c net.Conn, host, path string) (*http.Response, error) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

func (g *gateway) everywhere(url string, more ...statetest.Record) {
	g.t.Helper()
	g.config(append([]statetest.Record{settings(&configv1.Settings{}), record("services", "up", service(url)), record("routes", "r", route())}, more...)...)
}

func TestCertificatesAreThoseOfTheConfiguration(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		ca := newIssuer(t, "ca")
		exact, wild := ca.issue(issued{names: []string{"a.b.test"}}), ca.issue(issued{names: []string{"*.b.test"}})
		expired := ca.issue(issued{names: []string{"old.b.test"}, starts: -2 * time.Hour})
		g := start(t, e, https())
		g.everywhere(echo(t).URL,
			shownFor(t, "exact", exact, "a.b.test"), shownFor(t, "wild", wild, "*.b.test"), shownFor(t, "expired", expired, "old.b.test"))
		for _, tt := range []struct {
			name, ask string
			want      string // what the certificate is for; empty: the handshake fails
		}{
			{"exact", "a.b.test", "a.b.test"},
			{"in capitals", "A.B.Test", "a.b.test"},
			{"wildcard", "x.b.test", "*.b.test"},
			{"the file's", "other.test", "gateway.test"},
			{"no name", "", "gateway.test"},
			{"expired", "old.b.test", ""},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c, err := g.shake(&tls.Config{ServerName: tt.ask, InsecureSkipVerify: true})
				if tt.want == "" {
					refusedAs(t, err, "unrecognized name")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := c.ConnectionState().PeerCertificates[0].DNSNames; !cmp.Equal(got, []string{tt.want}) {
					t.Errorf("shown is a certificate for %v, want %s", got, tt.want)
				}
			})
		}
	})
}

// refusedAs wants the peer to have ended the handshake with an alert.
func refusedAs(t *testing.T, err error, alert string) {
	t.Helper()
	if op := new(net.OpError); !errors.As(err, &op) || op.Op != "remote error" || !strings.Contains(err.Error(), alert) {
		t.Errorf("the handshake ended with %v, want the alert %q", err, alert)
	}
}

func TestNamesOfNobodyAreRefused(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		ca := newIssuer(t, "ca")
		g := startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}})
		_, err := g.shake(&tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
		refusedAs(t, err, "unrecognized name") // before there is a configuration
		main := shownFor(t, "main", ca.issue(issued{names: []string{"a.test"}}), "a.test")
		g.everywhere(echo(t).URL, main)
		for _, name := range []string{"b.test", ""} {
			_, err := g.shake(&tls.Config{ServerName: name, InsecureSkipVerify: true})
			refusedAs(t, err, "unrecognized name")
		}
		if _, err := g.shake(&tls.Config{ServerName: "a.test", RootCAs: ca.pool()}); err != nil {
			t.Error(err)
		}
		testkit.Await(t, testkit.Deadline, func() error { // the client hears of it before it is counted
			if n := g.server.HandshakeFailures()["no_certificate"]; n != 3 {
				return fmt.Errorf("%d handshakes are counted as without a certificate, want 3", n)
			}
			return nil
		})
	})
}

// TestPushedCertificatesAreShownAtOnce replaces a certificate beneath a connection and a session.
func TestPushedCertificatesAreShownAtOnce(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		ca, url := newIssuer(t, "ca"), echo(t).URL
		old, fresh := ca.issue(issued{names: []string{"a.test"}}), ca.issue(issued{names: []string{"a.test"}})
		g := startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}})
		g.everywhere(url, shownFor(t, "main", old, "a.test"))
		running, err := g.shake(&tls.Config{ServerName: "a.test", RootCAs: ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		g.everywhere(url, shownFor(t, "main", fresh, "a.test"))
		again, err := g.shake(&tls.Config{ServerName: "a.test", RootCAs: ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		if got := again.ConnectionState().PeerCertificates[0]; !got.Equal(fresh.Leaf) {
			t.Errorf("shown is %v, want the new certificate", got.SerialNumber)
		}
		for _, c := range []*tls.Conn{running, again} {
			if resp, err := ask(t, c, "a.test", "/"); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("a request: %v %v", resp, err)
			}
		}
	})
}

// TestSessionsDoNotOutliveTheirName resumes a session while the name has a certificate, and after it has none.
func TestSessionsDoNotOutliveTheirName(t *testing.T) {
	t.Parallel()
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, url := newIssuer(t, "ca"), echo(t).URL
			g := startWith(t, server.Config{Listeners: []server.Listener{https()}})
			main := shownFor(t, "main", ca.issue(issued{names: []string{"a.test"}}), "a.test")
			g.everywhere(url, main)
			client := &tls.Config{ServerName: "a.test", RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
			for i := range 3 {
				c, err := g.shake(client)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ask(t, c, "a.test", "/"); err != nil { // the ticket comes with the answer
					t.Fatal(err)
				}
				if c.ConnectionState().DidResume != (i > 0) {
					t.Errorf("handshake %d resumed a session: %v", i, i == 0)
				}
				g.everywhere(url, main) // pushes leave sessions alone
			}
			g.everywhere(url)
			_, err := g.shake(client)
			refusedAs(t, err, "unrecognized name")
		})
	}
}

func TestFailedHandshakesAreCountedByReason(t *testing.T) {
	t.Parallel()
	g := start(t, server.Keyward, https())
	g.everywhere(echo(t).URL)
	_, err := g.shake(&tls.Config{ServerName: "gateway.test"}) // which nobody believes
	if err == nil {
		t.Error("the client believes the certificate")
	}
	if _, err := g.shake(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.address("https")); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	want := map[string]uint64{"protocol": 1, "timeout": 0, "client_gone": 1, "refused_by_client": 1, "no_certificate": 0, "client_certificate": 0}
	testkit.Await(t, 10*time.Second, func() error {
		if diff := cmp.Diff(want, g.server.HandshakeFailures()); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}
