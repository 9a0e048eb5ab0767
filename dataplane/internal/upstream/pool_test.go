package upstream_test

import (
	"bufio"
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

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// counted is an upstream that knows how many connections it has and had. Requests for /wait are answered when released.
type counted struct {
	address     string
	open, total atomic.Int64
	waiting     atomic.Int64
	release     chan struct{}
}

func newCounted(t *testing.T) *counted {
	t.Helper()
	u := &counted{release: make(chan struct{})}
	u.address = listen(t, func(n int, c net.Conn) {
		u.open.Add(1)
		u.total.Add(1)
		defer u.open.Add(-1)
		answerAll(c, func(r *http.Request, _ string) string {
			if r.URL.Path == "/wait" {
				u.waiting.Add(1)
				<-u.release
			}
			return ok(fmt.Sprint(n))
		})
	})
	return u
}

func (u *counted) await(t *testing.T, what string, value *atomic.Int64, want int64) {
	t.Helper()
	testkit.Await(t, testkit.Deadline, func() error {
		if n := value.Load(); n != want {
			return fmt.Errorf("%d %s, want %d", n, what, want)
		}
		return nil
	})
}

// burst makes n requests at once.
func burst(t *testing.T, g *gateway, s *runtime.Service, u *counted, n int) {
	t.Helper()
	before := u.waiting.Load()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if a := g.do(get(t, s, "/wait")); a.err != nil {
				t.Error(a)
			}
		})
	}
	u.await(t, "requests wait", &u.waiting, before+int64(n))
	for range n {
		u.release <- struct{}{}
	}
	wg.Wait()
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 3} {
		g, u := start(t, ""), newCounted(t)
		s := service(u.address)
		s.Pool.MaxIdle = most
		burst(t, g, s, u, 10)
		u.await(t, "connections are open", &u.open, int64(most))
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	s.Pool.IdleTimeout = 300 * time.Millisecond
	burst(t, g, s, u, 5)
	u.await(t, "connections are open", &u.open, 0)
	if a := g.do(get(t, s, "/")); a.err != nil {
		t.Error(a)
	}
}

// The connection that was used last is used next, so that the others can end.
func TestLastConnectionFirst(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	burst(t, g, s, u, 5)
	first := g.do(get(t, s, "/"))
	for range 10 {
		if a := g.do(get(t, s, "/")); a.body != first.body {
			t.Errorf("connection %s after %s", a.body, first.body)
		}
	}
	if n := u.total.Load(); n != 5 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	s.Pool.MaxConns = 3
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a := g.do(get(t, s, "/")); a.err != nil {
				t.Error(a)
			}
		})
	}
	wg.Wait()
	if n := u.total.Load(); n > 3 {
		t.Errorf("%d connections, want at most 3", n)
	}
}

// Who waits longest for a connection gets it first, and who waits for too long is told.
func TestWaitingInTurn(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	s.Pool.MaxConns = 1
	first := make(chan answer, 1)
	go func() { first <- g.do(get(t, s, "/wait")) }()
	u.await(t, "requests wait", &u.waiting, 1)

	order := make(chan int, 10)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if a := g.do(get(t, s, "/")); a.err != nil {
				t.Error(a)
			}
			order <- i
		})
		testkit.Await(t, testkit.Deadline, func() error {
			if n := upstream.Waiting(g.Manager); n != i+1 {
				return fmt.Errorf("%d requests wait", n)
			}
			return nil
		})
	}
	impatient := *s
	impatient.Call.Connect = 50 * time.Millisecond
	if a := g.do(get(t, &impatient, "/")); a.status != 503 || a.code != "pool_exhausted" {
		t.Errorf("%v, want 503 pool_exhausted", a)
	}
	u.release <- struct{}{}
	<-first
	wg.Wait()
	for i := range 10 {
		if got := <-order; got != i {
			t.Errorf("request %d came in place %d", got, i)
		}
	}
}

// A place is given on when its connection breaks, or could not be made.
func TestPlacesAreNotLost(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	s := service(listen(t, func(n int, c net.Conn) {
		in := bufio.NewReader(c)
		for i := range 3 {
			if _, _, err := readRequest(in); err != nil {
				return
			}
			if n%2 == 0 && i == 1 {
				return
			}
			fmt.Fprint(c, ok("x"))
		}
	}))
	s.Pool.MaxConns = 2
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				if a := g.do(get(t, s, "/")); a.code == "pool_exhausted" {
					t.Error(a)
				}
			}
		})
	}
	wg.Wait()
}

// A changed configuration with the same key keeps connections and applies its own limits.
func TestConnectionsOutliveChanges(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	g.do(get(t, s, "/"))
	changed := *s
	changed.Call.Idle = time.Second
	changed.Targets = append([]runtime.Target{{Address: "127.0.0.1:1", Weight: 0}}, s.Targets...)
	g.do(get(t, &changed, "/"))
	if n := u.total.Load(); n != 1 {
		t.Errorf("%d connections after a change, want 1", n)
	}
	other := *s
	other.Key = "another"
	g.do(get(t, &other, "/"))
	if n := u.total.Load(); n != 2 {
		t.Errorf("%d connections with another key, want 2", n)
	}
	strict := get(t, s, "/")
	strict.Settings.EgressKey = "others"
	g.do(strict)
	if n := u.total.Load(); n != 3 {
		t.Errorf("%d connections under other rules, want 3", n)
	}
}

func TestEgressRulesHoldForEveryConnection(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		for _, address := range []string{"169.254.169.254:80", "[fe80::1]:80", "0.0.0.0:80"} {
			if a := g.do(get(t, service(address), "/")); a.status != 502 || a.code != "egress_denied" {
				t.Errorf("%s: %v, want 502 egress_denied", address, a)
			}
		}
	})
}

func TestUnreachableTargets(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		for address, want := range map[string]string{
			testkit.Addr(t): "upstream_unreachable", "no-such-host.invalid:80": "upstream_unreachable", "127.0.0.1": "upstream_unreachable",
		} {
			if a := g.do(get(t, service(address), "/")); a.status != 502 || a.code != want {
				t.Errorf("%s: %v, want 502 %s", address, a, want)
			}
		}
		none := service("127.0.0.1:1")
		none.Targets[0].Weight = 0
		for _, s := range []*runtime.Service{service(), none} {
			if a := g.do(get(t, s, "/")); a.status != 503 || a.code != "no_target" {
				t.Errorf("%v, want 503 no_target", a)
			}
		}
	})
}

// The goroutines that send bodies are few and end when there is nothing to send; those of a manager that has ended too.
func TestPumpsEnd(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	s := service(answering(t, func(_ *http.Request, body string) string { return ok(body) }))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if a := g.do(post(t, s, "/", newPieces("a", "b"), -1)); a.body != "ab" {
					t.Error(a)
				}
			}
		})
	}
	wg.Wait()
	if n := upstream.Workers(g.Manager); n > 8 || n == 0 {
		t.Errorf("%d goroutines wait for bodies", n)
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if n := upstream.Workers(g.Manager); n > 0 {
			return fmt.Errorf("%d goroutines still wait", n)
		}
		return nil
	})
}

// Two bodies that flow at once through one service do not mix.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(r *http.Request, _ string) string { return ok(strings.Repeat(r.URL.Path[1:], 20_000)) }))
		var one, two upstream.Response
		if err := g.Do(t.Context(), get(t, s, "/one"), &one); err != nil {
			t.Fatal(err)
		}
		if err := g.Do(t.Context(), get(t, s, "/two"), &two); err != nil {
			t.Fatal(err)
		}
		var a, b strings.Builder
		for errA, errB := error(nil), error(nil); errA == nil || errB == nil; {
			var p []byte
			if errA == nil {
				p, errA = one.Next()
				a.Write(p)
			}
			if errB == nil {
				p, errB = two.Next()
				b.Write(p)
			}
			if errA != nil && !errors.Is(errA, io.EOF) || errB != nil && !errors.Is(errB, io.EOF) {
				t.Fatal(errA, errB)
			}
		}
		one.Close()
		two.Close()
		if a.String() != strings.Repeat("one", 20_000) || b.String() != strings.Repeat("two", 20_000) {
			t.Error("the answers are mixed up")
		}
	})
}
