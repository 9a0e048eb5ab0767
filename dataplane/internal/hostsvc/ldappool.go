package hostsvc

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/shared/check/address"
)

const (
	// A server that failed is left alone for so long, and twice as long each time that it fails again.
	ldapPauseMin = 200 * time.Millisecond
	ldapPauseMax = 5 * time.Second
	// maxLDAPWaiting is how many may wait for one connection; who comes then is told at once that it is too much.
	maxLDAPWaiting = 16
)

// LDAPPool is the connections to one directory as one account. It starts no goroutine of its own but those of the
// connections, which are closed when nobody has used them for a while.
type LDAPPool struct {
	server  LDAPServer
	log     *slog.Logger
	slots   chan struct{}
	waiting atomic.Int64

	mu      sync.Mutex
	hosts   []*ldapHost
	idle    []*ldapConn // the one that was used last is last
	sweeper *time.Timer // nil: there is nothing to sweep
}

// ldapHost is one address of a directory; its fields but the address are guarded by the pool's mutex.
type ldapHost struct {
	address string
	failed  int       // times, one after the other
	until   time.Time // when it is tried again
	trying  bool      // by one, to see whether it is back
	worked  time.Time // when it answered last
}

func newLDAPPool(s LDAPServer, log *slog.Logger) *LDAPPool {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.MaxConnections = max(1, s.MaxConnections)
	if s.Egress == nil {
		s.Egress = &EgressRules{unsafe: address.Unsafe()}
	}
	p := &LDAPPool{server: s, log: log, slots: make(chan struct{}, s.MaxConnections)}
	for _, a := range s.Addresses {
		p.hosts = append(p.hosts, &ldapHost{address: a})
	}
	return p
}

// Find asks as the account of the configuration. Its errors are outages.
func (p *LDAPPool) Find(q LDAPQuery, until time.Time) (found LDAPFound, err error) {
	err = p.use(true, until, func(s *LDAPSession) error {
		found, err = s.Find(q)
		return err
	})
	return found, err
}

// Verify reports whether the directory takes the password for the user of that name; if so, then may ask more as that user.
// Its errors are outages: that the directory has refused is none. An empty password is refused without asking, because a
// directory takes it for the wish to be nobody (RFC 4513 section 5.1.2).
func (p *LDAPPool) Verify(dn, password string, until time.Time, then func(*LDAPSession) error) (ok bool, err error) {
	if dn == "" || password == "" {
		return false, nil
	}
	err = p.use(false, until, func(s *LDAPSession) error {
		if ok, err = s.bind(dn, password); !ok || err != nil || then == nil {
			return err
		}
		return then(s)
	})
	return ok && err == nil, err
}

// use lends a connection. One that had been idle may have been closed by the other side meanwhile: then, and only then, it is
// done a second time, on a new one.
func (p *LDAPPool) use(reader bool, until time.Time, do func(*LDAPSession) error) error {
	if err := p.enter(until); err != nil {
		return err
	}
	defer func() { <-p.slots }()
	if c := p.take(reader); c != nil {
		err := p.attempt(c, reader, until, do)
		broken, ok := errors.AsType[*brokenError](err)
		if !ok {
			return err
		}
		if !time.Now().Before(until) {
			p.settle(c.host, false, broken.begun, broken)
			return p.outage("ldap_timeout", broken)
		}
		p.forget(c.host)
	}
	c, err := p.connect(until)
	if err != nil {
		return err
	}
	err = p.attempt(c, reader, until, do)
	if broken, ok := errors.AsType[*brokenError](err); ok {
		p.settle(c.host, false, broken.begun, broken)
		reason := "ldap_unreachable"
		if !time.Now().Before(until) {
			reason = "ldap_timeout"
		}
		return p.outage(reason, broken)
	}
	return err
}

// enter waits for a free place.
func (p *LDAPPool) enter(until time.Time) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > int64(maxLDAPWaiting*cap(p.slots)) {
		return outage("ldap_busy", nil)
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return outage("ldap_busy", nil)
	}
}

// attempt does something on a connection, and keeps or drops that.
func (p *LDAPPool) attempt(c *ldapConn, reader bool, until time.Time, do func(*LDAPSession) error) error {
	begun := time.Now()
	c.arm(until)
	s := &LDAPSession{conn: c, until: until}
	var err error
	if reader && !c.reader {
		err = s.become(p.server.BindDN, p.server.BindPassword)
	}
	if err == nil {
		err = do(s)
	}
	if s.broken != nil {
		c.drop()
		return &brokenError{s.broken, begun}
	}
	p.settle(c.host, !s.unwell, begun, err)
	if s.spent || c.IsClosing() { // what it has answered is complete all the same
		c.drop()
		return err
	}
	c.rest()
	p.keep(c)
	return err
}

// brokenError is what is wrong with a connection, or with what was said on it.
type brokenError struct {
	error
	begun time.Time
}

func (e *brokenError) Unwrap() error { return e.error }

// take returns an idle connection, preferably one that is logged in as wanted; nil: there is none.
func (p *LDAPPool) take(reader bool) *ldapConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		i := len(p.idle) - 1
		for at := i; at >= 0; at-- {
			if p.idle[at].reader == reader {
				i = at
				break
			}
		}
		c := p.idle[i]
		p.idle = slices.Delete(p.idle, i, i+1)
		if c.IsClosing() || time.Since(c.made) > ldapLife {
			go c.drop() // it may take a moment, which is not the caller's
			continue
		}
		return c
	}
	return nil
}

// keep makes a connection idle.
func (p *LDAPPool) keep(c *ldapConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.idle = time.Now()
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.server.IdleTimeout, p.sweep)
	}
}

// sweep closes what has been idle for long enough, and comes again as long as there is something.
func (p *LDAPPool) sweep() {
	p.mu.Lock()
	var old []*ldapConn
	next := p.server.IdleTimeout
	p.idle = slices.DeleteFunc(p.idle, func(c *ldapConn) bool {
		left := p.server.IdleTimeout - time.Since(c.idle)
		if left <= 0 || c.IsClosing() {
			old = append(old, c)
			return true
		}
		next = min(next, left)
		return false
	})
	if p.sweeper = nil; len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(next, p.sweep)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.drop()
	}
}

// connect connects to the first host that works. Those that failed lately are left out until their pause is over, and then
// tried by one at a time: nobody waits for what is known to be down.
func (p *LDAPPool) connect(until time.Time) (*ldapConn, error) {
	reason, cause := "ldap_down", error(nil)
	for _, h := range p.hosts {
		if !p.admit(h) {
			continue
		}
		begun := time.Now()
		c, err := connectLDAP(&p.server, h, until)
		if err == nil {
			return c, nil
		}
		p.settle(h, false, begun, err)
		reason, cause = connectReason(err), err
		if !time.Now().Before(until) {
			break
		}
	}
	return nil, p.outage(reason, cause)
}

func connectReason(err error) string {
	_, isTLS := errors.AsType[*tlsError](err)
	switch {
	case errors.Is(err, ErrDenied):
		return "ldap_denied"
	case isTLS || errors.Is(err, errNoStartTLS):
		return "ldap_tls"
	default:
		return "ldap_unreachable"
	}
}

// admit reports whether a host is to be tried.
func (p *LDAPPool) admit(h *ldapHost) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.failed == 0 {
		return true
	}
	if h.trying || time.Now().Before(h.until) {
		return false
	}
	h.trying = true
	return true
}

// settle notes whether a host works. One that has answered others since is not down because it did not answer this one.
func (p *LDAPPool) settle(h *ldapHost, works bool, begun time.Time, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case works:
		if h.failed > 0 {
			p.log.Info("directory answers again", "address", h.address)
		}
		h.failed, h.trying, h.worked = 0, false, now
		return
	case !h.trying && h.worked.After(begun):
		return
	}
	if h.failed == 0 {
		p.log.Warn("directory does not answer", "address", h.address, "err", cause)
	}
	h.failed, h.trying = min(h.failed+1, 16), false
	pause := min(ldapPauseMin<<(h.failed-1), ldapPauseMax)
	h.until = now.Add(pause*3/4 + rand.N(pause/2))
	p.forgetLocked(h)
}

// forget drops the idle connections to a host.
func (p *LDAPPool) forget(h *ldapHost) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(h)
}

func (p *LDAPPool) forgetLocked(h *ldapHost) {
	p.idle = slices.DeleteFunc(p.idle, func(c *ldapConn) bool {
		if c.host == h {
			go c.drop()
		}
		return c.host == h
	})
}

// outage says when the next host is tried.
func (p *LDAPPool) outage(reason string, cause error) *LDAPOutage {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := outage(reason, cause)
	next := ldapPauseMax
	for _, h := range p.hosts {
		next = min(next, time.Until(h.until))
	}
	o.RetryAfter = max(o.RetryAfter, next)
	return o
}

// Idle returns how many connections nobody uses.
func (p *LDAPPool) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}
