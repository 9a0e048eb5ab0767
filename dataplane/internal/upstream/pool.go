package upstream

import (
	"context"
	"sync"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/runtime"
)

// pool holds the connections to one target. The one that was used last is used next, so that a burst's connections can
// end when it is over.
type pool struct {
	target *target

	mu     sync.Mutex
	idle   []*link // guarded by mu; the last came last
	open   int     // guarded by mu: idle, in use or being made
	queue  queue   // guarded by mu: calls that wait for one
	epoch  uint64  // guarded by mu: counts flushes
	closed bool    // guarded by mu
}

// get returns a connection that can be used: an idle one, unless it is to be fresh, or a new one, or after waiting what
// another call gives back.
func (p *pool) get(c *call, fresh bool) (*link, *failure) {
	conf := &c.view.conf.Pool
	l, place := p.take(conf, c.m.now(), fresh)
	for l != nil {
		if l.quietFor(c) {
			p.target.service.stats.reused.Add(1)
			return l, nil
		}
		p.drop(l)
		l, place = p.take(conf, c.m.now(), fresh)
	}
	by := c.connectBy()
	if !place {
		var f *failure
		if l, f = p.wait(c, by); f != nil || l != nil {
			return l, f
		}
	}
	return p.dial(c, by)
}

// take returns an idle connection, or says whether there is place for a new one.
func (p *pool) take(conf *runtime.Pool, now int64, fresh bool) (l *link, place bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 && !fresh {
		l = p.pop(n - 1)
		if conf.IdleTimeout > 0 && now-l.since > int64(conf.IdleTimeout) {
			l.conn.Abort() // not quiet: it is closed, and so are those below it
		}
		return l, false
	}
	if conf.MaxConns > 0 && p.open >= conf.MaxConns {
		if len(p.idle) == 0 {
			return nil, false
		}
		defer p.pop(0).close()
		p.open--
	}
	p.open++
	return nil, true
}

func (p *pool) pop(i int) *link {
	l := p.idle[i]
	copy(p.idle[i:], p.idle[i+1:])
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
	return l
}

// dial makes a new connection in a place that was taken.
func (p *pool) dial(c *call, by deadline) (*link, *failure) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.ctx)) // Abort ends it
	defer cancel()
	if !by.at.IsZero() {
		var end context.CancelFunc
		ctx, end = context.WithDeadline(ctx, by.at)
		defer end()
	}
	if !c.resp.hold(canceller(cancel)) {
		p.leave()
		return nil, c.gone()
	}
	epoch := p.current()
	nc, s, err := p.target.service.dial(ctx, p.target)
	if err != nil {
		p.leave()
		if !c.resp.hold(nil) {
			return nil, c.gone()
		}
		return nil, c.unconnected(err, by)
	}
	return &link{conn: conn.New(nc, c.m.sweeper), socket: s, pool: p, epoch: epoch}, nil
}

// canceller is what ends a dial when the exchange is aborted.
type canceller context.CancelFunc

// Abort implements conn.Aborter.
func (f canceller) Abort() { f() }

// put takes a connection back that can be used again.
func (p *pool) put(l *link, conf *runtime.Pool, now int64) {
	l.uses++
	l.since = now
	if over := p.keep(l, conf); over != nil {
		over.close()
	}
}

// keep gives the connection to a call that waits, or makes it idle, and returns one that is too many.
func (p *pool) keep(l *link, conf *runtime.Pool) (over *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.queue.pop()
	switch {
	case w != nil:
		w.grant <- l
		return nil
	case p.closed, l.epoch != p.epoch, conf.MaxIdle <= 0, conf.MaxConns > 0 && p.open > conf.MaxConns:
		p.open--
		return l
	case len(p.idle) >= conf.MaxIdle:
		p.open--
		over = p.pop(0)
	}
	p.idle = append(p.idle, l)
	return over
}

// drop closes a connection that is not used again.
func (p *pool) drop(l *link) {
	l.close()
	p.leave()
}

// leave gives a place back.
func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.queue.pop(); w != nil {
		w.grant <- nil
		return
	}
	p.open--
}

// sweep closes connections that were idle for too long.
func (p *pool) sweep(now, timeout int64) {
	if timeout <= 0 {
		return
	}
	closeAll(p.expired(now - timeout))
}

func (p *pool) expired(since int64) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*link
	for len(p.idle) > 0 && p.idle[0].since < since {
		list = append(list, p.pop(0))
		p.open--
	}
	return list
}

// flush closes all idle connections and has those in use closed when they come back; for good, if the pool is closed.
func (p *pool) flush(forGood bool) {
	p.mu.Lock()
	list := p.idle
	p.idle = nil
	p.open -= len(list)
	p.epoch++
	p.closed = p.closed || forGood
	p.mu.Unlock()
	closeAll(list)
}

func closeAll(list []*link) {
	for _, l := range list {
		l.close()
	}
}

// counts returns how many connections there are, and how many of them are idle.
func (p *pool) counts() (open, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, len(p.idle)
}

// close closes the connection and gives its memory back.
func (l *link) close() {
	_ = l.conn.Close()
	l.in.Discard(l.in.Len())
	l.in.Unpin()
	l.in.Release()
}
