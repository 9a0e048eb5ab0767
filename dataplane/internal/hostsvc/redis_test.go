package hostsvc_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/redistest"
)

// used takes a name for a minute and says how long it took.
func used(r *hostsvc.Replays, name string) (hostsvc.Replay, time.Duration) {
	now := time.Now()
	return r.Take("owner", []byte(name), now, now.Add(time.Minute)), time.Since(now)
}

func wantTake(t *testing.T, r *hostsvc.Replays, name string, want hostsvc.Replay) {
	t.Helper()
	if got, _ := used(r, name); got != want {
		t.Errorf("%s: %d, want %d", name, got, want)
	}
}

// awaitUp waits until a gateway's store answers, or does not.
func awaitUp(t *testing.T, g *gateway, want bool) {
	t.Helper()
	testkit.Await(t, testkit.Deadline, func() error {
		if up := g.use().DownSince().IsZero(); up != want {
			return fmt.Errorf("up is %v", up)
		}
		return nil
	})
}

func TestAStoreThatCrashed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	g, other := gatewayAt(t, at(s)), gatewayAt(t, at(s))
	strict, local := g.replays(true), other.replays(false)
	wantTake(t, strict, "before", hostsvc.ReplayFirst)
	wantTake(t, local, "before", hostsvc.ReplayAgain)
	s.Stop()
	wantTake(t, strict, "a", hostsvc.ReplayOutage)
	wantTake(t, strict, "before", hostsvc.ReplayAgain) // which needs no store
	wantTake(t, local, "b", hostsvc.ReplayFirst)
	wantTake(t, local, "b", hostsvc.ReplayAgain)
	for range 100 {
		if got, took := used(strict, "c"); got != hostsvc.ReplayOutage || took > time.Second {
			t.Fatalf("known to be down: %d after %s", got, took)
		}
	}
	// What looked whether it is there at the start may have found out first, which is no request.
	if failed, skipped := g.use().Failed.Load(), g.use().Skipped.Load(); failed > 1 || skipped < 100 {
		t.Errorf("counted are %d failures and %d that were not asked", failed, skipped)
	}
	s.Restart()
	awaitUp(t, g, true)
	awaitUp(t, other, true)
	// What was refused because of the store was not used up.
	wantTake(t, strict, "a", hostsvc.ReplayFirst)
	wantTake(t, local, "a", hostsvc.ReplayAgain)
}

// TestAStoreThatHangs costs those whom it meets the time that the configuration gives it, and others nothing.
func TestAStoreThatHangs(t *testing.T) {
	t.Parallel()
	const limit = 700 * time.Millisecond
	s := redistest.Start(t)
	server := at(s)
	server.Timeout, server.DialTimeout = limit, 2*time.Second
	g := gatewayAt(t, server)
	r := g.replays(true)
	wantTake(t, r, "before", hostsvc.ReplayFirst)
	s.Pause()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if got, took := used(r, fmt.Sprint("meanwhile ", i)); got != hostsvc.ReplayOutage || took > limit+time.Second {
				t.Errorf("it hangs: %d after %s", got, took)
			}
		})
	}
	wg.Wait()
	for i := range 100 {
		if got, took := used(r, fmt.Sprint("later ", i)); got != hostsvc.ReplayOutage || took > limit/2 {
			t.Fatalf("known to hang: %d after %s", got, took)
		}
	}
	s.Resume()
	awaitUp(t, g, true)
	// The store does now what it was told then. That these were never let in, it cannot know; who told it does.
	for i := range 50 {
		wantTake(t, r, fmt.Sprint("meanwhile ", i), hostsvc.ReplayFirst)
		wantTake(t, r, fmt.Sprint("meanwhile ", i), hostsvc.ReplayAgain)
	}
}

// TestAStoreThatCannotBeUsed takes nothing, for whatever reason, and says to nobody that something was used before.
func TestAStoreThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	full := redistest.Start(t, "maxmemory 1", "maxmemory-policy noeviction")
	secure := func(change func(*hostsvc.RedisServer)) hostsvc.RedisServer {
		server := at(s)
		server.Plain, server.Addresses, server.Authorities = false, []string{s.TLSAddress}, []*x509.Certificate{s.CA.Cert}
		change(&server)
		return server
	}
	denied, err := hostsvc.NewEgressRules([]string{"10.0.0.0/8"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, server := range map[string]hostsvc.RedisServer{
		"another password":                    secure(func(c *hostsvc.RedisServer) { c.Password = "guessed" }),
		"no password":                         secure(func(c *hostsvc.RedisServer) { c.Password = "" }),
		"another authority":                   secure(func(c *hostsvc.RedisServer) { c.Authorities = []*x509.Certificate{certtest.CA(t, "stranger").Cert} }),
		"another name":                        secure(func(c *hostsvc.RedisServer) { c.ServerName = "elsewhere.test" }),
		"no TLS there":                        secure(func(c *hostsvc.RedisServer) { c.Addresses = []string{s.Address} }),
		"TLS there":                           secure(func(c *hostsvc.RedisServer) { c.Plain = true }),
		"denied":                              secure(func(c *hostsvc.RedisServer) { c.Egress = denied }),
		"no such database":                    secure(func(c *hostsvc.RedisServer) { c.Database = 99 }),
		"no cluster":                          secure(func(c *hostsvc.RedisServer) { c.Cluster = true }),
		"full":                                at(full),
		"sentinels that are none":             bySentinel(at(s), s.Address),
		"a master that sentinels do not know": secureSentinel(t, "other"),
		"another password of sentinels":       secureSentinel(t, redistest.Master),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewayAt(t, server)
			wantTake(t, g.replays(true), "a", hostsvc.ReplayOutage)
			awaitUp(t, g, false)
			wantTake(t, g.replays(false), "a", hostsvc.ReplayFirst)
		})
	}
	g := gatewayAt(t, secure(func(c *hostsvc.RedisServer) { c.ServerName = "localhost" }))
	wantTake(t, g.replays(true), "the same, as it should be", hostsvc.ReplayFirst)
}

// TestPasswordsStayOnLoopbackWithoutTLS connects to an address of this machine that others can reach.
func TestPasswordsStayOnLoopbackWithoutTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	heard := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			b := make([]byte, 100)
			n, _ := c.Read(b)
			heard <- string(b[:n])
			c.Close()
		}
	}()
	server := hostsvc.RedisServer{
		Name: "x", Addresses: []string{net.JoinHostPort(elsewhere(t), port)}, Plain: true, Password: "secret",
		DialTimeout: 2 * time.Second, Timeout: 2 * time.Second, MaxConnections: 1, IdleTimeout: time.Minute,
	}
	wantTake(t, gatewayAt(t, server).replays(true), "a", hostsvc.ReplayOutage)
	if got := <-heard; got != "" {
		t.Errorf("it was told %q", got)
	}
	server.Anywhere = true
	g := gatewayAt(t, server)
	wantTake(t, g.replays(true), "a", hostsvc.ReplayOutage)
	for got := range heard {
		if strings.Contains(got, "secret") {
			return
		}
	}
}

// elsewhere is an address of this machine that is not on loopback.
func elsewhere(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("NOT RUN: this machine has no address but that of loopback")
	return ""
}

// TestPoolsOutlivePushesAndEndWithTheirUse counts the connections that the server has.
func TestPoolsOutlivePushesAndEndWithTheirUse(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	services := hostsvc.New(hostsvc.Config{})
	p := services.RedisPool(at(s), nil)
	if services.RedisPool(at(s), nil) != p {
		t.Error("a push makes another pool")
	}
	changed := at(s)
	changed.Password = "another"
	if services.RedisPool(changed, nil) == p {
		t.Error("another password is the same pool")
	}
	store, err := hostsvc.NewSharedStore(p, [][]byte{pepper})
	if err != nil {
		t.Fatal(err)
	}
	wantTake(t, services.Replays.Bind("x").Through(store.Uses(true)), "a", hostsvc.ReplayFirst)
	if n := clients(t, s); n < 2 {
		t.Errorf("%d connections while it is in use", n)
	}
	runtime.KeepAlive(store)
	p, store = nil, nil
	testkit.Await(t, testkit.Deadline, func() error {
		runtime.GC()
		if n := clients(t, s); n > 1 || services.Kept.Len() > 0 {
			return fmt.Errorf("there are still %d connections, and %d things are held", n, services.Kept.Len())
		}
		return nil
	})
}

// clients counts the connections of a server, with that which asks.
func clients(t *testing.T, s *redistest.Server) int {
	t.Helper()
	said, err := s.Do("CLIENT", "LIST")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(said, "id=")
}

// TestAStoreLearnsNothing looks at all that it holds.
func TestAStoreLearnsNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	g := gatewayAt(t, at(s))
	wantTake(t, g.replays(true), "the-nonce", hostsvc.ReplayFirst)
	g.services.Proofs.Through("proof", g.store.Uses(true)).Use("the-thumbprint", "the-id", time.Now(), time.Now().Add(time.Minute))
	seen := 0
	for _, key := range s.Keys() {
		value, err := s.Do("GET", key)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"the-", "owner", "hmac-auth"} {
			if strings.Contains(key+value, word) {
				t.Errorf("%s = %s", key, value)
			}
		}
		if ttl, _ := s.Do("PTTL", key); strings.HasPrefix(ttl, "-1") {
			t.Errorf("%s stays for ever", key)
		}
		if strings.HasPrefix(key, "keyward:once:{") {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("it holds %v", s.Keys())
	}
	stranger := gatewayAt(t, at(s), bytes.Repeat([]byte{8}, 32))
	wantTake(t, stranger.replays(true), "the-nonce", hostsvc.ReplayFirst)
}

// TestPeppersChangeWithoutAGap has gateways that hear of a new term, and of the end of the old one, one after the other.
func TestPeppersChangeWithoutAGap(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	before, after := pepper, bytes.Repeat([]byte{9}, 32)
	for i, terms := range [][2][][]byte{
		{{before}, {before, after}},
		{{before, after}, {after}},
		{{after, before}, {before, after}},
	} {
		one, other := gatewayAt(t, at(s), terms[0]...).replays(true), gatewayAt(t, at(s), terms[1]...).replays(true)
		wantTake(t, one, fmt.Sprint("a", i), hostsvc.ReplayFirst)
		wantTake(t, other, fmt.Sprint("a", i), hostsvc.ReplayAgain)
		wantTake(t, other, fmt.Sprint("b", i), hostsvc.ReplayFirst)
		wantTake(t, one, fmt.Sprint("b", i), hostsvc.ReplayAgain)
	}
	if _, err := hostsvc.NewSharedStore(nil, nil); err == nil {
		t.Error("names are told in the clear without a pepper")
	}
}
