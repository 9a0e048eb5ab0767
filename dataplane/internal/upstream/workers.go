package upstream

import (
	"sync"
	"time"
)

// workers are goroutines that wait for pumps to run. Those that wait for long end.
type workers struct {
	mu    sync.Mutex
	idle  []*worker // guarded by mu; the one that waits longest first
	ended bool      // guarded by mu
}

type worker struct {
	work  chan *pump // room for one; closed to end the goroutine
	since int64      // it waits since then
}

// do runs the pump on a goroutine that waits, or on a new one.
func (w *workers) do(p *pump) {
	w.mu.Lock()
	n := len(w.idle)
	if n == 0 {
		w.mu.Unlock()
		one := &worker{work: make(chan *pump, 1)}
		one.work <- p
		go w.run(one, p.http1.call.m)
		return
	}
	one := w.idle[n-1]
	w.idle = w.idle[:n-1]
	w.mu.Unlock()
	one.work <- p
}

func (w *workers) run(one *worker, m *Manager) {
	for p := range one.work {
		p.run()
		if !w.wait(one, m.now()) {
			return
		}
	}
}

// wait makes the worker one that waits; not after the end.
func (w *workers) wait(one *worker, now int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	one.since = now
	w.idle = append(w.idle, one)
	return true
}

// workerIdle is how long a goroutine waits for work.
const workerIdle = int64(5 * time.Second)

func (w *workers) sweep(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.idle) > 0 && now-w.idle[0].since > workerIdle {
		close(w.idle[0].work)
		w.idle = append(w.idle[:0], w.idle[1:]...)
	}
}

// end ends all that wait, and the others when they have done their work.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, one := range w.idle {
		close(one.work)
	}
	w.idle = nil
}
