package upstream_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

// What a new configuration says about connections holds before anybody calls.
func TestAdoptedLimitsHoldAtOnce(t *testing.T) {
	t.Parallel()
	g, u := start(t, ""), newCounted(t)
	s := service(u.address)
	g.Adopt(holding(t, s))
	burst(t, g, s, u, 5)
	g.Adopt(holding(t, s))
	changed := *s
	changed.Pool.IdleTimeout = 100 * time.Millisecond
	g.Adopt(holding(t, &changed))
	u.await(t, "connections are open", &u.open, 0)
}

// Everything at once: configurations, health and limits change while requests are made.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		patients := []*patient{newPatient(t, "one"), newPatient(t, "two"), newPatient(t, "three")}
		var current atomic.Pointer[runtime.Service]
		change := func(i int) {
			s := service(patients[i%3].address, patients[(i+1)%3].address)
			s.Pool = runtime.Pool{MaxIdle: i % 5, MaxConns: (i % 4) * 3, IdleTimeout: time.Duration(i%3+1) * 50 * time.Millisecond}
			s.Balancer = runtime.Balancer{Algorithm: runtime.Algorithm(i % 4), SlowStart: time.Duration(i%2) * time.Second}
			s.Call.Retry = runtime.Retry{Attempts: 1 + i%3, On: all, Budget: 50}
			if i%2 == 0 {
				s.Active = &runtime.ActiveHealth{Path: "/health", Interval: 5 * time.Millisecond, Timeout: time.Second, Healthy: 1, Unhealthy: 1}
				s.Passive = &runtime.PassiveHealth{Failures: 2, Statuses: []int{500}, Ejection: 10 * time.Millisecond, MaxEjected: 100}
			}
			s.Key = fmt.Sprint("key ", i%7/6)
			current.Store(s)
		}
		change(0)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if a := g.do(get(t, current.Load(), "/")); a.err != nil && a.code != "pool_exhausted" {
						t.Error(a)
					}
				}
			})
		}
		for i := range 60 {
			change(i)
			patients[i%3].ill.Store(i%4 == 0)
			<-time.After(10 * time.Millisecond)
		}
		stop()
		wg.Wait()
		if n := upstream.Active(g.Manager); n != 0 {
			t.Errorf("%d requests are still counted", n)
		}
	})
}
