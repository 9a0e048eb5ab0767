package upstream_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

func TestGatewaysProveWhoTheyAre(t *testing.T) {
	t.Parallel()
	servers, clients, others := newAuthority(t), newAuthority(t), newAuthority(t)
	now := time.Now()
	day := 24 * time.Hour
	past, future := clients.version("past", now.Add(-2*day), now.Add(-day)), clients.version("future", now.Add(day), now.Add(2*day))
	keyless := clients.valid("keyless")
	keyless.Key = nil
	byID := shown(clients.valid("current"), clients.valid("next"))
	byID.Reference = byID.Set.Next.ID
	expiredByID := shown(clients.valid("current"), past)
	expiredByID.Reference = past.ID
	noSuchID := shown(clients.valid("current"), nil)
	noSuchID.Reference = past.ID
	const closed = "503 upstream_tls_unavailable"
	tests := []struct {
		name   string
		shown  *runtime.Identity
		server func(*tls.Config)
		want   string
	}{
		{"one", shown(clients.valid("one"), nil), nil, "200 one"},
		{"one, over TLS 1.2", shown(clients.valid("one"), nil), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "200 one"},
		{"the current of two", shown(clients.valid("one"), clients.valid("two")), nil, "200 one"},
		{"the next after the current", shown(past, clients.valid("two")), nil, "200 two"},
		{"the next before the current", shown(future, clients.valid("two")), nil, "200 two"},
		{"one version by its id", byID, nil, "200 next"},
		{"expired", shown(past, nil), nil, closed},
		{"both expired", shown(past, past), nil, closed},
		{"not valid yet", shown(future, nil), nil, closed},
		{"without its key", shown(keyless, nil), nil, closed},
		{"the next without its key", shown(past, keyless), nil, closed},
		{"expired by its id", expiredByID, nil, closed},
		{"an id that is gone", noSuchID, nil, closed},
		{"expired, to who does not ask", shown(past, nil), func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }, closed},
		{"to who does not ask", shown(clients.valid("one"), nil), func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }, "200 nobody"},
		{"none, to who may go without", nil, func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven }, "200 nobody"},
		// To show none would do here, and would be somebody else's call.
		{"one of another authority than is asked for", shown(others.valid("one"), nil), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }, "200 one"},
	}
	eachSpoken(t, func(t *testing.T, how spoken) {
		g := start(t, how.engine)
		for _, tt := range tests {
			u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), tt.server)
			s := how.service(servers, tt.shown, u.address)
			s.Key = tt.name
			a := g.do(get(t, s, "/"))
			got := fmt.Sprint(a.status, " ", a.code+a.body)
			if got != tt.want {
				t.Errorf("%s: %s (%v), want %s", tt.name, got, a.err, tt.want)
			}
			if tt.want == closed && u.accepted.Load() > 0 {
				t.Errorf("%s: a connection was made all the same", tt.name)
			}
		}
		for name, i := range map[string]*runtime.Identity{"none": nil, "another authority's": shown(others.valid("one"), nil)} {
			u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
			s := how.service(servers, i, u.address)
			s.Key = name
			if a := g.do(get(t, s, "/")); a.status != 502 {
				t.Errorf("%s: %v, want 502", name, a)
			}
		}
	})
}

// Each target is shown its own certificate, also where all have one name and could share sessions.
func TestEachTargetIsShownItsOwn(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	eachSpoken(t, func(t *testing.T, how spoken) {
		tickets := [32]byte{7}
		leaf := servers.issue("api.test")
		var us []*visited
		for range 2 {
			us = append(us, newVisited(t, leaf, clients.pool(), func(c *tls.Config) { c.SetSessionTicketKeys([][32]byte{tickets}) }))
		}
		s := how.service(servers, nil, us[0].address, us[1].address)
		s.TLS.ServerName = "api.test"
		s.Pool.MaxIdle = 0 // every request makes a connection
		s.Targets[0].Identity, s.Targets[1].Identity = shown(clients.valid("one"), nil), shown(clients.valid("two"), nil)
		g := start(t, how.engine)
		seen := map[string]int{}
		for range 8 {
			a := g.do(get(t, s, "/"))
			if a.status != 200 {
				t.Fatal(a)
			}
			seen[a.body]++
		}
		if seen["one"] != 4 || seen["two"] != 4 {
			t.Errorf("targets were shown %v", seen)
		}
		for i, want := range []string{"one", "two"} {
			one := *s
			one.Targets, one.Weight = s.Targets[i:i+1], 100
			for range 3 {
				if a := g.do(get(t, &one, "/")); a.body != want {
					t.Errorf("target %d is shown %s, want %s", i, a.body, want)
				}
			}
		}
	})
}

// Another certificate is shown from the next connection on, which is the next request's; what is under way goes on, and its
// connection is not used again.
func TestAnotherIdentityTakesOver(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	eachSpoken(t, func(t *testing.T, how spoken) {
		g := start(t, how.engine)
		u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
		before := how.service(servers, shown(clients.valid("one"), nil), u.address)
		g.Adopt(holding(t, before))
		if a := g.do(get(t, before, "/")); a.body != "one" {
			t.Fatal(a)
		}
		late := make(chan answer, 1)
		go func() { late <- g.do(get(t, before, "/wait")) }()
		testkit.Await(t, testkit.Deadline, func() error {
			if u.waiting.Load() == 0 {
				return errors.New("no request is under way")
			}
			return nil
		})
		after := *before
		after.Targets = []runtime.Target{{Address: u.address, Weight: 100, Identity: shown(clients.valid("two"), nil)}}
		g.Adopt(holding(t, &after))
		for range 3 {
			if a := g.do(get(t, &after, "/")); a.body != "two" {
				t.Errorf("after the change: %v, want two", a)
			}
		}
		u.release <- struct{}{}
		if a := <-late; a.status != 200 || a.body != "one" {
			t.Errorf("the request under way: %v", a)
		}
		for range 3 {
			if a := g.do(get(t, &after, "/")); a.body != "two" {
				t.Errorf("later: %v, want two", a)
			}
		}
		testkit.Await(t, testkit.Deadline, func() error {
			if open := u.accepted.Load() - u.closed.Load(); open != 1 {
				return fmt.Errorf("%d connections are open, want one, with the other certificate", open)
			}
			return nil
		})
		same := after
		same.Targets = []runtime.Target{{Address: u.address, Weight: 100, Identity: after.Targets[0].Identity}}
		dials := u.accepted.Load()
		g.Adopt(holding(t, &same))
		if a := g.do(get(t, &same, "/")); a.body != "two" || u.accepted.Load() != dials {
			t.Errorf("a change of something else: %v, and %d new connections", a, u.accepted.Load()-dials)
		}
	})
}

// Trust that is taken back, such as a pin or an authority, makes the service another one: nothing of before is used for it.
func TestOtherTrustTakesOver(t *testing.T) {
	t.Parallel()
	servers, others, clients := newAuthority(t), newAuthority(t), newAuthority(t)
	for name, change := range map[string]func(*runtime.TLS){
		"pins":        func(c *runtime.TLS) { c.Pins = [][32]byte{{1}} },
		"authorities": func(c *runtime.TLS) { c.Authorities = []*x509.Certificate{others.cert} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachSpoken(t, func(t *testing.T, how spoken) {
				g := start(t, how.engine)
				u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
				before := how.service(servers, shown(clients.valid("one"), nil), u.address)
				g.Adopt(holding(t, before))
				late := make(chan answer, 1)
				go func() { late <- g.do(get(t, before, "/wait")) }()
				testkit.Await(t, testkit.Deadline, func() error {
					if u.waiting.Load() == 0 {
						return errors.New("no request is under way")
					}
					return nil
				})
				after, conf := *before, *before.TLS
				change(&conf)
				after.TLS, after.Key = &conf, "changed"
				g.Adopt(holding(t, &after))
				if a := g.do(get(t, &after, "/")); a.status != 502 || a.code != "upstream_tls" {
					t.Errorf("after the change: %v", a)
				}
				u.release <- struct{}{}
				if a := <-late; a.status != 200 {
					t.Errorf("the request under way: %v", a)
				}
				if a := g.do(get(t, &after, "/")); a.status != 502 {
					t.Errorf("later: %v", a)
				}
			})
		})
	}
}

// When the current version has expired the next one is shown, without a change of the configuration; after it nothing is.
func TestTimeTurnsVersions(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	eachSpoken(t, func(t *testing.T, how spoken) {
		g := start(t, how.engine)
		u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
		now := time.Now().Truncate(time.Second)
		i := shown(clients.version("one", now.Add(-time.Hour), now.Add(3*time.Second)), clients.version("two", now.Add(-time.Hour), now.Add(6*time.Second)))
		s := how.service(servers, i, u.address)
		g.Adopt(holding(t, s))
		for _, want := range []string{"200 one", "200 two", "503 upstream_tls_unavailable"} {
			testkit.Await(t, testkit.Deadline, func() error {
				a := g.do(get(t, s, "/"))
				if got := fmt.Sprint(a.status, " ", a.code+a.body); got != want {
					return fmt.Errorf("%v, want %s", a, want)
				}
				return nil
			})
		}
	})
}

// Sessions are resumed, and never with the certificate of somebody else.
func TestSessionsBelongToTheirIdentity(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			g := start(t, "")
			u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), func(c *tls.Config) { c.MaxVersion = version })
			for _, name := range []string{"one", "two"} {
				s := spoken{}.service(servers, shown(clients.valid(name), nil), u.address)
				s.Pool.MaxIdle = 0
				before := u.resumed.Load()
				for range 4 {
					if a := g.do(get(t, s, "/")); a.body != name {
						t.Errorf("%v, want %s", a, name)
					}
				}
				if u.resumed.Load() == before {
					t.Errorf("%s: no session was resumed, so that nothing is shown here", name)
				}
			}
		})
	}
}

func TestTunnelsAndProbesShowTheCertificate(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	eachEngine(t, func(t *testing.T, engine string) {
		u := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
		s := spoken{}.service(servers, shown(clients.valid("one"), nil), u.address)
		g := start(t, engine)
		r := get(t, s, "/")
		r.Upgrade = []byte("websocket")
		var resp upstream.Response
		if err := g.Do(t.Context(), r, &resp); err != nil || resp.Status != 101 {
			t.Fatalf("%d, %v, want 101", resp.Status, err)
		}
		c, behind, ok := resp.Tunnel()
		if !ok {
			t.Fatal("no tunnel")
		}
		rest, err := io.ReadAll(c)
		if string(behind)+string(rest) != "one" {
			t.Errorf("the tunnel shows %q, %v", string(behind)+string(rest), err)
		}
		c.Close()
		resp.Close()
	})
	eachSpoken(t, func(t *testing.T, how spoken) {
		ill := newVisited(t, servers.issue("127.0.0.1"), newAuthority(t).pool(), nil) // takes nobody's certificate
		well := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
		s := how.service(servers, shown(clients.valid("one"), nil), ill.address, well.address)
		s.Active = &runtime.ActiveHealth{Path: "/", Interval: 20 * time.Millisecond, Timeout: time.Second, Healthy: 1, Unhealthy: 1}
		g := start(t, how.engine)
		g.Adopt(holding(t, s))
		testkit.Await(t, testkit.Deadline, func() error {
			for range 4 {
				if a := g.do(get(t, s, "/")); a.body != "one" {
					return fmt.Errorf("%v, although the other target is well", a)
				}
			}
			return nil
		})
	})
}

// What is known of a target's health is known of its address: another certificate does not make it well again.
func TestHealthOutlivesIdentities(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	g := start(t, "")
	well := newVisited(t, servers.issue("127.0.0.1"), clients.pool(), nil)
	gone := listen(t, func(_ int, c net.Conn) { c.Close() })
	s := spoken{}.service(servers, shown(clients.valid("one"), nil), gone, well.address)
	s.Passive = &runtime.PassiveHealth{Failures: 1, Ejection: time.Hour, MaxEjected: 100}
	g.Adopt(holding(t, s))
	for range 4 {
		g.do(get(t, s, "/"))
	}
	after := *s
	after.Targets = nil
	two := shown(clients.valid("two"), nil)
	for _, target := range s.Targets {
		after.Targets = append(after.Targets, runtime.Target{Address: target.Address, Weight: 100, Identity: two})
	}
	g.Adopt(holding(t, &after))
	for range 6 {
		if a := g.do(get(t, &after, "/")); a.body != "two" {
			t.Errorf("%v, from the target that was taken out", a)
		}
	}
}
