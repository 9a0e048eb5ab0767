package hostsvc

import (
	"runtime"
	"sync"
	"time"
)

const (
	queuePerWorker = 16
	// maxTurnWait bounds how long a caller waits for his turn. A full queue of hashes of 85 ms, with the rests between, takes
	// longer: who is far back in it is sent away, and not kept for as long as somebody guesses.
	maxTurnWait = 2 * time.Second
)

// Workers bound how many password hashes are computed at once: half of the processors, so that those who only guess leave
// the other half to everybody else. Beyond that callers wait in a short queue. Flows take turns in it: who fills it waits
// behind those who do not, and is the first to be sent away when it is full.
type Workers struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter
	room    int
	arrived uint64
	round   uint64 // of who was last given a turn
}

// waiter is a caller that waits for its turn.
type waiter struct {
	flow uint64
	// round is the one after that of the last of its flow in the queue, or the one of now: lower ones go first.
	round   uint64
	arrival uint64
	turn    chan bool // buffered: one value, whether it may go on
}

// NewWorkers makes a bound of n at once (0: half of the processors).
func NewWorkers(n int) *Workers {
	if n <= 0 {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	return &Workers{free: n, room: n * queuePerWorker}
}

// Do runs the work when it is its turn, on the goroutine that calls. It returns false without having run it if there are too
// many, or its turn does not come soon.
func (w *Workers) Do(flow uint64, work func()) bool {
	if !w.enter(flow) {
		return false
	}
	defer w.leave()
	work()
	return true
}

// Pressed reports whether anybody waits for a turn.
func (w *Workers) Pressed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) > 0
}

func (w *Workers) enter(flow uint64) bool {
	w.mu.Lock()
	if w.free > 0 {
		w.free--
		w.mu.Unlock()
		return true
	}
	me := w.join(flow)
	w.mu.Unlock()
	if me == nil {
		return false
	}
	limit := time.NewTimer(maxTurnWait)
	defer limit.Stop()
	select {
	case ok := <-me.turn:
		return ok
	case <-limit.C:
		return !w.forget(me) && <-me.turn
	}
}

// join enters a caller into the queue, nil if there is no place for it; w.mu is held.
func (w *Workers) join(flow uint64) *waiter {
	w.arrived++
	me := &waiter{flow: flow, round: w.round, arrival: w.arrived, turn: make(chan bool, 1)}
	last := -1
	for i, o := range w.waiting {
		if o.flow == flow {
			me.round = max(me.round, o.round+1)
		}
		if last < 0 || o.after(w.waiting[last]) {
			last = i
		}
	}
	if len(w.waiting) >= w.room {
		if me.after(w.waiting[last]) {
			return nil
		}
		w.remove(last).turn <- false
	}
	w.waiting = append(w.waiting, me)
	return me
}

// after says whose turn comes later.
func (m *waiter) after(o *waiter) bool {
	if m.round != o.round {
		return m.round > o.round
	}
	return m.arrival > o.arrival
}

// remove takes the waiter at i out of the queue; w.mu is held.
func (w *Workers) remove(i int) *waiter {
	me := w.waiting[i]
	w.waiting[i] = w.waiting[len(w.waiting)-1]
	w.waiting[len(w.waiting)-1] = nil
	w.waiting = w.waiting[:len(w.waiting)-1]
	return me
}

// forget takes a caller out that has waited for too long, and says whether it still was in the queue.
func (w *Workers) forget(me *waiter) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range w.waiting {
		if o == me {
			w.remove(i)
			return true
		}
	}
	return false
}

// leave gives the turn to the next.
func (w *Workers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.free++
		return
	}
	next := 0
	for i, o := range w.waiting {
		if w.waiting[next].after(o) {
			next = i
		}
	}
	w.round = w.waiting[next].round
	w.remove(next).turn <- true
}
