package server_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/testkit"
)

// TestSessionsDoNotReplaceCertificates has a client that would resume.
func TestSessionsDoNotReplaceCertificates(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			p, url := newPartners(t), echo(t).URL
			g := start(t, server.Keyward, https())
			g.everywhere(url) // open
			v := visit{sni: "a.test", host: "a.test", path: "/", version: version}
			client := v.config()
			client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			pass := func() (resumed bool, err error) {
				c, err := g.shake(client)
				if err != nil {
					return false, err
				}
				_, err = ask(t, c, "a.test", "/")
				return c.ConnectionState().DidResume, err
			}
			for i := range 2 {
				if resumed, err := pass(); err != nil || resumed != (i > 0) {
					t.Fatalf("while it is open: resumed %v, %v", resumed, err)
				}
			}
			g.everywhere(url, append(p.records(), hostRoute("r2", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "a.test"))...)
			if _, err := pass(); err == nil {
				t.Error("a session of before gets past the demand")
			}
			v.cert = p.clients["valid"]
			for range 2 {
				if resumed, err := pass(); err != nil || resumed {
					t.Errorf("with the certificate: resumed %v, %v", resumed, err)
				}
			}
		})
	}
}

// TestConnectionsDoNotOutliveAnAllowList takes the client off the list beneath a connection at rest, and beneath streams.
func TestConnectionsDoNotOutliveAnAllowList(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		p := newPartners(t)
		listed := hostRoute("r2", "/", &configv1.RouteClientCertificates{Allow: []string{"pinned"}}, "a.test")
		unlisted := hostRoute("r2", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "a.test")
		testLockedOut(t, e, p.clients["allow-listed"], append(p.records(), listed), append(p.records(), unlisted))
	})
}

// TestConnectionsDoNotOutliveARevocation does the same with a revocation list.
func TestConnectionsDoNotOutliveARevocation(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		p := newPartners(t)
		r := hostRoute("r2", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "a.test")
		with := func(who ...string) []statetest.Record { return []statetest.Record{p.authority(p.listing(who...)), r} }
		testLockedOut(t, e, p.clients["valid"], with("revoked"), with("revoked", "valid"))
	})
}

// testLockedOut has a configuration with which a client may come to a.test, and one with which it may not.
func testLockedOut(t *testing.T, e server.Engine, client *tls.Certificate, listed, unlisted []statetest.Record) {
	t.Helper()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.URL.Path == "/endless" && r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(endless.Close)
	v := visit{sni: "a.test", host: "a.test", cert: client}
	t.Run("at rest", func(t *testing.T) {
		t.Parallel()
		g := start(t, e, https())
		g.everywhere(endless.URL, listed...)
		c, err := g.shake(v.config())
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			is   []statetest.Record
			want int
		}{{listed, 200}, {unlisted, 403}, {listed, 200}} {
			g.everywhere(endless.URL, tt.is...)
			if resp, err := ask(t, c, "a.test", "/"); err != nil || resp.StatusCode != tt.want {
				t.Errorf("answered %v, %v, want %d", resp, err, tt.want)
			}
		}
	})
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("a stream, h2=%v", h2), func(t *testing.T) {
			t.Parallel()
			g := start(t, e, https())
			g.everywhere(endless.URL, listed...)
			v := v
			v.path, v.h2 = "/endless", h2
			c, err := g.shake(v.config())
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { _, err := g.request(c, &v); ended <- err }()
			testkit.Await(t, 10*time.Second, func() error {
				if g.server.Active() == 0 {
					return errors.New("no stream yet")
				}
				return nil
			})
			g.everywhere(endless.URL, unlisted...)
			<-ended
			<-g.log.got
			g.log.mu.Lock()
			defer g.log.mu.Unlock()
			if line := g.log.all[0]; !strings.Contains(line, "client_certificate") {
				t.Errorf("log line is %s", line)
			}
		})
	}
	t.Run("a tunnel", func(t *testing.T) {
		t.Parallel()
		g := start(t, e, https())
		g.everywhere(switching(t).URL, listed...)
		c, err := g.shake(v.config())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("answered %v, %v, want 101", resp, err)
		}
		g.everywhere(switching(t).URL, unlisted...)
		_, _ = io.Copy(io.Discard, c)
		<-g.log.got
		g.log.mu.Lock()
		defer g.log.mu.Unlock()
		if line := g.log.all[0]; !strings.Contains(line, "client_certificate") {
			t.Errorf("log line is %s", line)
		}
	})
}

// TestCertificatesExpireBeneathConnections has a client whose certificate ends in a moment.
func TestCertificatesExpireBeneathConnections(t *testing.T) {
	t.Parallel()
	p := newPartners(t)
	g := start(t, server.Keyward, https())
	g.everywhere(echo(t).URL, append(p.records(), hostRoute("r2", "/", &configv1.RouteClientCertificates{Ca: []string{"partners"}}, "a.test"))...)
	v := visit{sni: "a.test", cert: p.ca.issue(issued{usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, lasts: 62 * time.Second})} // it began a minute ago
	c, err := g.shake(v.config())
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := ask(t, c, "a.test", "/"); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("while it is valid: %v, %v", resp, err)
	}
	testkit.Await(t, 9*time.Second, func() error {
		resp, err := ask(t, c, "a.test", "/")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden {
			return fmt.Errorf("answered %d", resp.StatusCode)
		}
		return nil
	})
}
