package hostsvc_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/redistest"
)

var pepper = bytes.Repeat([]byte{7}, 32)

// gateway is a process of its own that uses a store.
type gateway struct {
	services *hostsvc.Services
	pool     *hostsvc.RedisPool
	store    *hostsvc.SharedStore
}

func gatewayAt(t *testing.T, server hostsvc.RedisServer, peppers ...[]byte) *gateway {
	t.Helper()
	g := &gateway{services: hostsvc.New(hostsvc.Config{})}
	g.pool = g.services.RedisPool(server, testkit.Logger(t))
	var err error
	if len(peppers) == 0 {
		peppers = [][]byte{pepper}
	}
	if g.store, err = hostsvc.NewSharedStore(g.pool, peppers); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) replays(strict bool) *hostsvc.Replays {
	return g.services.Replays.Bind("hmac-auth", "x").Through(g.store.Uses(strict))
}

func (g *gateway) use() *hostsvc.RedisUse { return hostsvc.Held[hostsvc.RedisUse](&g.services.Kept)[0] }

// at says how a Redis of a test is reached, in the clear, with time for a loaded machine.
func at(nodes ...*redistest.Server) hostsvc.RedisServer {
	s := hostsvc.RedisServer{
		Name: "nonces", Plain: true, Password: redistest.Password, Cluster: len(nodes) > 1,
		DialTimeout: 2 * time.Second, Timeout: 5 * time.Second, MaxConnections: 8, IdleTimeout: time.Minute,
	}
	for _, n := range nodes {
		s.Addresses = append(s.Addresses, n.Address)
	}
	return s
}

// taker is what takes something once: of the name, for a time.
type taker func(name string, ttl time.Duration) hostsvc.Replay

// TestTakenOnce holds for everything that takes things once that two who ask do not both get one.
func TestTakenOnce(t *testing.T) {
	t.Parallel()
	of := func(r *hostsvc.Replays) taker {
		return func(name string, ttl time.Duration) hostsvc.Replay {
			now := time.Now()
			return r.Take("owner", []byte(name), now, now.Add(ttl))
		}
	}
	proofs := func(p *hostsvc.Proofs) taker {
		return func(name string, ttl time.Duration) hostsvc.Replay {
			now := time.Now()
			return p.Use("key", name, now, now.Add(ttl))
		}
	}
	through := func(t *testing.T, server hostsvc.RedisServer) (one, other taker) {
		a, b := gatewayAt(t, server), gatewayAt(t, server)
		return of(a.replays(true)), of(b.replays(true))
	}
	for name, make := range map[string]func(t *testing.T) (one, other taker){
		"table": func(*testing.T) (taker, taker) {
			r := hostsvc.NewReplayTable(0).Bind("x")
			return of(r), of(r)
		},
		"proofs": func(*testing.T) (taker, taker) {
			p := hostsvc.NewProofTable(0).Through("proof", nil)
			return proofs(p), proofs(p)
		},
		"redis": func(t *testing.T) (taker, taker) { return through(t, at(redistest.Start(t))) },
		"redis, proofs": func(t *testing.T) (taker, taker) {
			s := at(redistest.Start(t))
			a, b := gatewayAt(t, s), gatewayAt(t, s)
			return proofs(a.services.Proofs.Through("proof", a.store.Uses(true))), proofs(b.services.Proofs.Through("proof", b.store.Uses(true)))
		},
		"redis over TLS, as a user who may do little": func(t *testing.T) (taker, taker) {
			r := redistest.Start(t)
			s := at(r)
			s.Plain, s.Addresses, s.Authorities = false, []string{r.TLSAddress}, []*x509.Certificate{r.CA.Cert}
			s.Username, s.Password, s.Database = redistest.Guard, redistest.GuardPassword, 0
			return through(t, s)
		},
		"cluster": func(t *testing.T) (taker, taker) {
			s := at(redistest.StartCluster(t)...)
			s.Addresses = s.Addresses[1:] // the others are found
			return through(t, s)
		},
		"master of a sentinel": func(t *testing.T) (taker, taker) {
			sentinel, master, _ := redistest.StartSentinel(t)
			return through(t, bySentinel(at(master), "127.0.0.1:1", sentinel))
		},
		"cluster, as a user who may do little": func(t *testing.T) (taker, taker) {
			s := at(redistest.StartCluster(t)...)
			s.Username, s.Password = redistest.Guard, redistest.GuardPassword
			return through(t, s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, other := make(t)
			conforms(t, one, other)
		})
	}
}

func conforms(t *testing.T, one, other taker) {
	t.Helper()
	for i, s := range []struct {
		by     taker
		name   string
		expect hostsvc.Replay
	}{
		{one, "a", hostsvc.ReplayFirst},
		{one, "a", hostsvc.ReplayAgain},
		{other, "a", hostsvc.ReplayAgain},
		{other, "b", hostsvc.ReplayFirst},
		{one, "b", hostsvc.ReplayAgain},
		{one, "", hostsvc.ReplayFirst},
		{other, "", hostsvc.ReplayAgain},
		{one, "{a}", hostsvc.ReplayFirst}, // of which a cluster would take a part for the whole
		{other, strings.Repeat("long ", 1000), hostsvc.ReplayFirst},
		{one, strings.Repeat("long ", 1000), hostsvc.ReplayAgain},
	} {
		if got := s.by(s.name, time.Minute); got != s.expect {
			t.Errorf("step %d, %.10q: %d, want %d", i, s.name, got, s.expect)
		}
	}
	var first atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			by := []taker{one, other}[i%2]
			for n := range 100 {
				if by("race "+strconv.Itoa(n), time.Minute) == hostsvc.ReplayFirst {
					first.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := first.Load(); got != 100 {
		t.Errorf("%d were first, want 100", got)
	}
	// What has ended counts no more, anywhere. Who asks too early has asked, so that each name is tried once.
	n := 0
	testkit.Await(t, testkit.Deadline, func() error {
		n++
		one("soon "+strconv.Itoa(n), time.Millisecond)
		if n%2 == 1 {
			return errors.New("later")
		}
		if got := other("soon "+strconv.Itoa(n/2), time.Minute); got != hostsvc.ReplayFirst {
			return fmt.Errorf("it still counts: %d", got)
		}
		return nil
	})
}
