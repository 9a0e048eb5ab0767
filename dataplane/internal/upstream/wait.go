package upstream

import "time"

// maxWaiting bounds the calls that wait for a connection to one target.
const maxWaiting = 4096

// waiter is a call that waits for a connection.
type waiter struct {
	grant      chan *link    // a connection, or nil: a place for one; room for one
	gone       chan struct{} // the exchange was aborted; room for one
	prev, next *waiter
	queued     bool
}

// Abort implements conn.Aborter.
func (w *waiter) Abort() {
	select {
	case w.gone <- struct{}{}:
	default:
	}
}

// queue are waiters, the first that came first.
type queue struct {
	first, last *waiter
	n           int
}

func (q *queue) push(w *waiter) {
	w.queued = true
	w.prev = q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.n++
}

func (q *queue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
}

// wait waits in turn for a connection, or, with neither link nor failure, for place for a new one.
func (p *pool) wait(c *call, by deadline) (*link, *failure) {
	stats, began := &p.target.service.stats, time.Now()
	defer func() {
		stats.waits.Add(1)
		stats.waited.Add(int64(time.Since(began)))
	}()
	w := &waiter{grant: make(chan *link, 1), gone: make(chan struct{}, 1)}
	if !c.resp.hold(w) {
		return nil, c.gone()
	}
	defer c.resp.hold(nil)
	if !p.enqueue(w, c.view.conf.Pool.MaxConns) {
		return nil, exhausted()
	}
	var timeout <-chan time.Time
	if !by.at.IsZero() {
		t := time.NewTimer(time.Until(by.at))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case l := <-w.grant:
		return p.granted(c, l)
	case <-timeout:
	case <-w.gone:
	}
	if !p.giveUp(w) {
		return p.granted(c, <-w.grant) // it came at the last moment
	}
	if c.resp.isAborted() {
		return nil, c.gone()
	}
	if by.total {
		return nil, fail(504, "total_timeout", errTotal)
	}
	return nil, exhausted()
}

func exhausted() *failure {
	f := unreached(503, "pool_exhausted", errExhausted)
	f.blame = false
	return f
}

// granted checks what was given: the connection may have been closed in the moment it came back.
func (p *pool) granted(c *call, l *link) (*link, *failure) {
	if c.resp.isAborted() {
		if l == nil {
			p.leave()
		} else {
			p.put(l, &c.view.conf.Pool, c.m.now())
		}
		return nil, c.gone()
	}
	if l == nil || l.epoch == p.current() && l.quiet() {
		return l, nil
	}
	l.close()
	return nil, nil // its place is free for a new one
}

// enqueue puts the waiter into the queue; if there is something to be had meanwhile, it is granted at once.
func (p *pool) enqueue(w *waiter, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.idle) > 0:
		w.grant <- p.pop(len(p.idle) - 1)
	case p.open < most:
		p.open++
		w.grant <- nil
	case p.queue.n >= maxWaiting:
		return false
	default:
		p.queue.push(w)
	}
	return true
}

// giveUp takes the waiter out of the queue, unless something was granted already.
func (p *pool) giveUp(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.queued {
		return false
	}
	p.queue.remove(w)
	return true
}

// current returns the epoch.
func (p *pool) current() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}
