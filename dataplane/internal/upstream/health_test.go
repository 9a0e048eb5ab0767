package upstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/shardmap"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// patient is a target that can be made ill.
type patient struct {
	address         string
	ill             atomic.Bool
	probes, visits  atomic.Int64
	lastHost, agent atomic.Value
}

func newPatient(t *testing.T, name string) *patient {
	t.Helper()
	p := &patient{}
	p.address = answering(t, func(r *http.Request, _ string) string {
		status := "200 OK"
		if p.ill.Load() {
			status = "500 Internal Server Error"
		}
		if r.URL.Path == "/health" {
			p.probes.Add(1)
			p.lastHost.Store(r.Host)
			p.agent.Store(r.UserAgent())
		} else {
			p.visits.Add(1)
		}
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(name), name)
	})
	return p
}

// visitors returns who answers n requests.
func visitors(t *testing.T, g *gateway, s *runtime.Service, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		a := g.do(get(t, s, "/"))
		if a.err != nil {
			t.Fatal(a)
		}
		out[a.body]++
	}
	return out
}

func awaitVisitors(t *testing.T, g *gateway, s *runtime.Service, want string) {
	t.Helper()
	testkit.Await(t, testkit.Deadline, func() error {
		if got := fmt.Sprint(visitors(t, g, s, 10)); got != want {
			return fmt.Errorf("answers came from %s, want %s", got, want)
		}
		return nil
	})
}

func TestProbes(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		one, two := newPatient(t, "one"), newPatient(t, "two")
		s := service(one.address, two.address)
		s.Active = &runtime.ActiveHealth{
			Path: "/health", Host: "probe.test", Interval: 20 * time.Millisecond, Timeout: time.Second, Healthy: 2, Unhealthy: 2,
		}
		awaitVisitors(t, g, s, "map[one:5 two:5]")
		one.ill.Store(true)
		awaitVisitors(t, g, s, "map[two:10]")
		two.ill.Store(true) // nobody is left: all are used
		testkit.Await(t, testkit.Deadline, func() error {
			if got := visitors(t, g, s, 10); len(got) != 2 {
				return fmt.Errorf("answers came from %v, want both", got)
			}
			return nil
		})
		one.ill.Store(false)
		awaitVisitors(t, g, s, "map[one:10]")
		two.ill.Store(false)
		awaitVisitors(t, g, s, "map[one:5 two:5]")
		if h := one.lastHost.Load(); h != "probe.test" {
			t.Errorf("Host of probes is %v", h)
		}

		// Without probes nobody knows better: the target is used again, and not probed any more.
		one.ill.Store(true)
		awaitVisitors(t, g, s, "map[two:10]")
		changed := *s
		changed.Active = nil
		awaitVisitors(t, g, &changed, "map[one:5 two:5]")
		before := one.probes.Load()
		<-time.After(100 * time.Millisecond)
		if n := one.probes.Load() - before; n > 1 {
			t.Errorf("%d probes more", n)
		}
	})
}

// holding is a configuration with these services.
func holding(t *testing.T, services ...*runtime.Service) *runtime.Runtime {
	t.Helper()
	e := shardmap.New[*runtime.Service]().Edit()
	for _, s := range services {
		e.Put(s.Name, s)
	}
	return &runtime.Runtime{Settings: settings(t), Services: e.Map()}
}

// Services are probed from when they are known, not from the first request on, and not any more when they are gone.
func TestAdoptedServicesAreProbed(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	p := newPatient(t, "one")
	s := service(p.address)
	s.Active = &runtime.ActiveHealth{Path: "/health", Interval: 10 * time.Millisecond, Timeout: time.Second, Healthy: 1, Unhealthy: 1}
	g.Adopt(holding(t, s, &runtime.Service{Name: "closed", Closed: "for a reason"}))
	testkit.Await(t, testkit.Deadline, func() error {
		if p.probes.Load() < 3 {
			return errors.New("it is not probed")
		}
		return nil
	})
	g.Adopt(holding(t))
	testkit.Await(t, testkit.Deadline, func() error {
		before := p.probes.Load()
		<-time.After(50 * time.Millisecond)
		if p.probes.Load() > before {
			return errors.New("it is still probed")
		}
		return nil
	})
}

func TestFailingTargetsAreEjected(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		one, two := newPatient(t, "one"), newPatient(t, "two")
		s := service(one.address, two.address)
		s.Passive = &runtime.PassiveHealth{Failures: 3, Statuses: []int{500}, Ejection: 700 * time.Millisecond, MaxEjected: 50}
		one.ill.Store(true)
		visitors(t, g, s, 6)
		if got := visitors(t, g, s, 10); got["one"] > 0 {
			t.Errorf("answers came from %v", got)
		}
		two.ill.Store(true) // no more than half may be out
		if got := visitors(t, g, s, 10); got["two"] != 10 {
			t.Errorf("answers came from %v", got)
		}
		one.ill.Store(false)
		two.ill.Store(false)
		awaitVisitors(t, g, s, "map[one:5 two:5]")
	})
}

// Connections that fail, and answers that break off, count like bad answers.
func TestWhatCountsAsFailure(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, how := range []string{"refuse", "close", "half a head", "long 503", "silent"} {
			g := start(t, engine)
			var tries atomic.Int64
			s := service(broken(t, how, &tries), newPatient(t, "good").address)
			s.Call.ResponseHead, s.Call.Idle = 200*time.Millisecond, 200*time.Millisecond
			s.Passive = &runtime.PassiveHealth{Failures: 2, Ejection: time.Minute, MaxEjected: 50}
			for range 4 {
				g.do(get(t, s, "/"))
			}
			if got := visitors(t, g, s, 6); got["good"] != 6 {
				t.Errorf("%s: answers came from %v", how, got)
			}
		}
	})
}

// A client that goes away says nothing about the target.
func TestAbortedExchangesAreNoFailures(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		asked := make(chan bool, 10)
		quiet := listen(t, func(_ int, c net.Conn) {
			if _, _, err := readRequest(bufio.NewReader(c)); err == nil {
				asked <- true
				_, _ = io.Copy(io.Discard, c)
			}
		})
		s := service(quiet, newPatient(t, "good").address)
		s.Passive = &runtime.PassiveHealth{Failures: 1, Ejection: time.Minute, MaxEjected: 50}
		s.Breaker = &runtime.Breaker{FailureRatio: 1, MinRequests: 1, Window: time.Minute, Open: time.Minute, Probes: 1}
		aborted := 0
		for range 6 {
			var resp upstream.Response
			answered := make(chan bool)
			go func() {
				select {
				case <-asked:
					resp.Abort()
				case <-answered:
				}
			}()
			if a := g.doWith(get(t, s, "/"), &resp); a.code == "aborted" {
				aborted++
			} else if a.err != nil {
				t.Error(a)
			}
			close(answered)
		}
		if aborted != 3 {
			t.Errorf("%d of 6 requests went to the silent target, want half of them", aborted)
		}
	})
}

func TestCircuitBreaker(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		p := newPatient(t, "one")
		s := service(p.address)
		s.Breaker = &runtime.Breaker{FailureRatio: 50, MinRequests: 5, Window: time.Minute, Open: 500 * time.Millisecond, Probes: 2}
		p.ill.Store(true)
		for range 5 {
			if a := g.do(get(t, s, "/")); a.status != 500 {
				t.Fatal(a)
			}
		}
		var resp upstream.Response
		err := g.Do(t.Context(), get(t, s, "/"), &resp)
		e, _ := errors.AsType[*upstream.Error](err)
		if e == nil || e.Status != 503 || e.Code != "circuit_open" || e.RetryAfter <= 0 || e.RetryAfter > 500*time.Millisecond {
			t.Errorf("Do() = %+v, want 503 circuit_open and when to come back", err)
		}
		if n := p.visits.Load(); n != 5 {
			t.Errorf("%d requests reached the target", n)
		}
		p.ill.Store(false)
		testkit.Await(t, testkit.Deadline, func() error { return g.do(get(t, s, "/")).err })
		for range 10 {
			if a := g.do(get(t, s, "/")); a.status != 200 {
				t.Error(a)
			}
		}
	})
}

func TestHashKeys(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	var addresses []string
	for i := range 5 {
		addresses = append(addresses, newPatient(t, fmt.Sprint("target-", i)).address)
	}
	ask := func(on runtime.HashSource, name string, ip netip.Addr, h ...exchange.Header) string {
		t.Helper()
		s := service(addresses...)
		s.Key = fmt.Sprint(on, name)
		s.Balancer = runtime.Balancer{Algorithm: runtime.ConsistentHash, HashOn: on, HashName: name}
		r := get(t, s, "/")
		r.ClientIP, r.Header = ip, h
		a := g.do(r)
		if a.err != nil {
			t.Fatal(a)
		}
		return a.body
	}
	ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	keys := map[string]func(i, noise int) string{
		"ip": func(i, noise int) string {
			return ask(runtime.HashClientIP, "", ip(i), field("X-User", fmt.Sprint(noise)))
		},
		"header": func(i, noise int) string {
			return ask(runtime.HashHeader, "X-User", ip(noise), field("x-user", fmt.Sprint(i)))
		},
		"cookie": func(i, noise int) string {
			return ask(runtime.HashCookie, "session", ip(noise), field("Cookie", "a=b"), field("Cookie", fmt.Sprintf("x=%d; session=%d; y=1", noise, i)))
		},
		"no header": func(i, noise int) string {
			return ask(runtime.HashHeader, "X-User", ip(i), field("X-Other", fmt.Sprint(noise)))
		},
		"no cookie": func(i, noise int) string {
			return ask(runtime.HashCookie, "session", ip(i), field("Cookie", fmt.Sprint("sess=", noise)))
		},
	}
	for name, key := range keys {
		used := map[string]bool{}
		for i := range 20 {
			first := key(i, 1)
			used[first] = true
			for noise := range 3 {
				if got := key(i, noise); got != first {
					t.Errorf("%s: key %d went to %s and %s", name, i, first, got)
				}
			}
		}
		if len(used) < 3 {
			t.Errorf("%s: 20 keys went to %v only", name, used)
		}
	}
}

// What is known of a target outlives changes of its service, and is gone with the target.
func TestHealthOutlivesChanges(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	one, two, three := newPatient(t, "one"), newPatient(t, "two"), newPatient(t, "three")
	s := service(one.address, two.address)
	s.Passive = &runtime.PassiveHealth{Failures: 1, Statuses: []int{500}, Ejection: time.Minute, MaxEjected: 50}
	one.ill.Store(true)
	visitors(t, g, s, 2)
	one.ill.Store(false)
	changed := service(three.address, one.address)
	changed.Passive = s.Passive
	if got := visitors(t, g, changed, 10); got["three"] != 10 {
		t.Errorf("answers came from %v, want the ejected one left out", got)
	}
}
