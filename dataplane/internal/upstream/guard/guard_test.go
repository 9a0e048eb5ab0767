package guard_test

import (
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/guard"
)

const second = int64(time.Second)

func options() *runtime.Breaker {
	return &runtime.Breaker{FailureRatio: 50, MinRequests: 10, Window: 10 * time.Second, Open: 5 * time.Second, Probes: 2}
}

// calls makes n calls that end so, and returns how many were allowed.
func calls(b *guard.Breaker, now int64, o *runtime.Breaker, n int, how guard.Outcome) (allowed int) {
	for range n {
		if p, _, ok := b.Allow(now, o); ok {
			allowed++
			b.Done(now, o, p, how)
		}
	}
	return allowed
}

func TestBreakerOpensOnFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                   string
		failures, good, unsure int
		want                   guard.State
	}{
		{"few requests", 9, 0, 0, guard.Closed},
		{"enough of them", 10, 0, 0, guard.Open},
		{"half", 5, 5, 0, guard.Open},
		{"less than half", 5, 6, 0, guard.Closed},
		{"those nobody waited for do not count", 9, 0, 20, guard.Closed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b guard.Breaker
			o := options()
			calls(&b, second, o, tt.unsure, guard.Unknown)
			calls(&b, second, o, tt.good, guard.Success)
			calls(&b, second, o, tt.failures, guard.Failure)
			if got := b.State(); got != tt.want {
				t.Errorf("it is %s, want %s", got, tt.want)
			}
		})
	}
}

func TestBreakerForgets(t *testing.T) {
	t.Parallel()
	var b guard.Breaker
	o := options()
	calls(&b, second, o, 9, guard.Failure)
	calls(&b, 12*second, o, 9, guard.Failure)
	if got := b.State(); got != guard.Closed {
		t.Errorf("failures that lie further apart than the window: %s", got)
	}
	calls(&b, 13*second, o, 1, guard.Failure)
	if got := b.State(); got != guard.Open {
		t.Errorf("failures within the window: %s", got)
	}
}

func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	o := options()
	opened := func() *guard.Breaker {
		b := &guard.Breaker{}
		calls(b, second, o, 10, guard.Failure)
		return b
	}
	b := opened()
	if _, wait, ok := b.Allow(2*second, o); ok || wait != 4*time.Second {
		t.Errorf("while open: %t, wait %s", ok, wait)
	}
	first, _, ok1 := b.Allow(6*second, o)
	second1, _, ok2 := b.Allow(6*second, o)
	_, wait, ok3 := b.Allow(6*second, o)
	if !ok1 || !ok2 || ok3 || wait <= 0 || b.State() != guard.HalfOpen {
		t.Fatalf("half open it allows %t %t %t, wait %s", ok1, ok2, ok3, wait)
	}
	if _, changed := b.Done(6*second, o, first, guard.Success); changed {
		t.Error("one success is not enough")
	}
	if s, changed := b.Done(6*second, o, second1, guard.Success); !changed || s != guard.Closed {
		t.Errorf("after two successes it is %s", s)
	}
	calls(b, 6*second, o, 9, guard.Failure)
	if b.State() != guard.Closed {
		t.Error("failures from before it closed count still")
	}

	b = opened()
	p, _, _ := b.Allow(6*second, o)
	if s, changed := b.Done(7*second, o, p, guard.Failure); !changed || s != guard.Open {
		t.Errorf("after a failure it is %s", s)
	}
	if _, wait, ok := b.Allow(8*second, o); ok || wait != 4*time.Second {
		t.Errorf("open again: %t, wait %s", ok, wait)
	}

	b = opened()
	lost, _, _ := b.Allow(6*second, o)
	b.Done(6*second, o, lost, guard.Unknown) // its place is free again
	if n := calls(b, 6*second, o, 2, guard.Success); n != 2 || b.State() != guard.Closed {
		t.Errorf("%d calls allowed, it is %s", n, b.State())
	}
}

// A call that began before does not decide about what came after.
func TestBreakerIgnoresLateCalls(t *testing.T) {
	t.Parallel()
	var b guard.Breaker
	o := options()
	late, _, _ := b.Allow(second, o)
	calls(&b, second, o, 10, guard.Failure)
	old, _, _ := b.Allow(6*second, o)
	if _, changed := b.Done(6*second, o, late, guard.Failure); changed {
		t.Error("a call from when it was closed opened it")
	}
	other, _, _ := b.Allow(6*second, o)
	b.Done(6*second, o, other, guard.Failure)
	again, _, _ := b.Allow(12*second, o)
	if _, changed := b.Done(12*second, o, old, guard.Failure); changed || b.State() != guard.HalfOpen {
		t.Error("a call from an earlier trial decided about this one")
	}
	b.Done(12*second, o, again, guard.Success)
	if n := calls(&b, 12*second, o, 1, guard.Success); n != 1 || b.State() != guard.Closed {
		t.Errorf("it is %s", b.State())
	}
}

func TestBreakerUnderLoad(t *testing.T) {
	t.Parallel()
	var b guard.Breaker
	o := options()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for k := range int64(3000) {
				now := k * second / 100
				if p, _, ok := b.Allow(now, o); ok {
					b.Done(now, o, p, guard.Outcome(1+(int(k)/500+worker)%2))
				}
			}
		})
	}
	wg.Wait()
	end := 1000 * second
	for range 10 {
		calls(&b, end, o, 5, guard.Success)
		end += 10 * second
	}
	if b.State() != guard.Closed {
		t.Errorf("after many successes it is %s", b.State())
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b guard.Budget
	retries := func(now int64, percent int) (n int) {
		for b.Retry(now, percent) {
			n++
		}
		return n
	}
	if n := retries(second, 20); n != 30 {
		t.Errorf("%d retries without requests, want the few that are always free", n)
	}
	for range 1000 {
		b.Request(2 * second)
	}
	if n := retries(2*second, 20); n != 170 {
		t.Errorf("%d retries more for 1000 requests, want 200 in all", n)
	}
	if n := retries(30*second, 20); n != 30 {
		t.Errorf("%d retries after a while", n)
	}
	if n := retries(60*second, 0); n != 30 {
		t.Errorf("%d retries with no budget", n)
	}
}
