package guard

import (
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/runtime"
)

// State is what a breaker does with calls.
type State int32

// States.
const (
	Closed   State = iota // calls pass
	HalfOpen              // a few calls pass, which decide
	Open                  // no call passes
)

// String returns the state's name in metrics and logs.
func (s State) String() string { return [...]string{"closed", "half_open", "open"}[s] }

// Outcome is how a call ended.
type Outcome uint8

// Outcomes.
const (
	Unknown Outcome = iota // nothing can be said: the client went away
	Success
	Failure
)

// Breaker stops calls to a service of which too many fail. The zero value is closed. What it is to do is told with every
// call and may change.
type Breaker struct {
	state  atomic.Int32
	window window

	mu     sync.Mutex
	until  int64  // guarded by mu: when it ceases to be open
	trial  uint32 // guarded by mu: counts how often it was half open
	out    int    // guarded by mu: calls under way or done that decide
	passed int    // guarded by mu: of them, how many succeeded
}

// Pass is the leave to make a call. It is given back to Done.
type Pass struct {
	trial uint32 // 0: the breaker was closed
}

// State returns what the breaker does now.
func (b *Breaker) State() State { return State(b.state.Load()) }

// Allow says whether a call may be made; if not, after how long it is worth another try.
func (b *Breaker) Allow(now int64, o *runtime.Breaker) (p Pass, wait time.Duration, ok bool) {
	if b.State() == Closed {
		return Pass{}, 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.State() {
	case Closed:
		return Pass{}, 0, true
	case Open:
		if now < b.until {
			return Pass{}, time.Duration(b.until - now), false
		}
		b.state.Store(int32(HalfOpen))
		b.trial = max(b.trial+1, 1)
		b.out, b.passed = 0, 0
	case HalfOpen:
	}
	if b.out >= max(o.Probes, 1) {
		return Pass{}, time.Second, false
	}
	b.out++
	return Pass{trial: b.trial}, 0, true
}

// Done notes how an allowed call ended and returns the state if that changed it.
func (b *Breaker) Done(now int64, o *runtime.Breaker, p Pass, how Outcome) (State, bool) {
	if p.trial != 0 {
		return b.decide(now, o, p, how)
	}
	if how == Unknown || b.State() != Closed {
		return 0, false
	}
	b.window.add(now, int64(o.Window), 1, int64(how-Success))
	if how == Success {
		return 0, false
	}
	all, failed := b.window.sum(now, int64(o.Window))
	if all < int64(o.MinRequests) || failed*100 < all*int64(o.FailureRatio) {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.State() != Closed {
		return 0, false
	}
	return b.open(now, o), true
}

// decide notes the end of a call that was made half open.
func (b *Breaker) decide(now int64, o *runtime.Breaker, p Pass, how Outcome) (State, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.State() != HalfOpen || p.trial != b.trial {
		return 0, false
	}
	switch how {
	case Unknown:
		b.out--
	case Failure:
		return b.open(now, o), true
	case Success:
		if b.passed++; b.passed >= max(o.Probes, 1) {
			b.window.forget()
			b.state.Store(int32(Closed))
			return Closed, true
		}
	}
	return 0, false
}

func (b *Breaker) open(now int64, o *runtime.Breaker) State {
	b.until = now + int64(o.Open)
	b.state.Store(int32(Open))
	return Open
}
