package hostsvc_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := hostsvc.NewFlights[hostsvc.Landing]()
		var a, b hostsvc.Proof
		b[0] = 1
		gate := make(chan struct{})
		var asked, right atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				p := a
				if i%2 == 1 {
					p = b
				}
				got := f.Do(&p, func() hostsvc.Landing {
					asked.Add(1)
					<-gate
					return hostsvc.Landing{Known: true, Right: p == a}
				})
				if got.Known && got.Right {
					right.Add(1)
				}
			})
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if asked.Load() != 2 || right.Load() != 10 {
			t.Errorf("20 askers of 2 questions: asked %d times, %d yes", asked.Load(), right.Load())
		}
		if f.Do(&a, func() hostsvc.Landing { return hostsvc.Landing{} }).Known {
			t.Error("an answer outlives those who asked")
		}
	})
}

func TestFlightsOutliveAPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := hostsvc.NewFlights[hostsvc.Landing]()
		gate := make(chan struct{})
		var p hostsvc.Proof
		go func() {
			defer func() { _ = recover() }()
			f.Do(&p, func() hostsvc.Landing { <-gate; panic("ask") })
		}()
		synctest.Wait()
		follower := make(chan hostsvc.Landing)
		go func() {
			follower <- f.Do(&p, func() hostsvc.Landing { return hostsvc.Landing{Known: true, Right: true} })
		}()
		synctest.Wait()
		close(gate)
		if got := <-follower; got.Known {
			t.Errorf("who waited for what panicked is told %+v", got)
		}
	})
}
