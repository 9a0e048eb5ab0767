package adminauth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// failuresAllowed in a burst, one more regained every failureRegain.
	failuresAllowed = 20
	failureRegain   = 3 * time.Second
	// maxPeers bounds the memory; 16,384 × ~64 bytes is 1 MiB.
	maxPeers = 16384
)

// throttle counts failed attempts for each peer address. It never stands in the way of a good token: it only decides
// whether a bad one is looked up and answered 401, or answered 429 at once.
type throttle struct {
	mu    sync.Mutex
	spent map[netip.Prefix]time.Time // guarded by mu: when the peer's failures will all be forgotten
	limit int
}

func newThrottle(limit int) *throttle {
	return &throttle{spent: make(map[netip.Prefix]time.Time), limit: limit}
}

// exhausted reports whether the peer has failed too often, and when it may try again.
func (t *throttle) exhausted(peer netip.Addr, now time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, known := t.spent[network(peer)]
	if !known {
		return 0, false
	}
	over := until.Sub(now) - (failuresAllowed-1)*failureRegain
	return over, over > 0
}

// failed counts one failure.
func (t *throttle) failed(peer netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := network(peer)
	if _, known := t.spent[key]; !known && len(t.spent) >= t.limit {
		t.forget(now)
	}
	until := t.spent[key]
	if until.Before(now) {
		until = now
	}
	t.spent[key] = until.Add(failureRegain)
}

// forget makes room: whoever is forgiven already, else anybody (map order is random). A peer that drops out this way
// gains a burst, which a table this large makes worthless.
func (t *throttle) forget(now time.Time) {
	for key, until := range t.spent {
		if until.Before(now) {
			delete(t.spent, key)
		}
	}
	for key := range t.spent {
		if len(t.spent) < t.limit {
			return
		}
		delete(t.spent, key)
	}
}

// network returns what one attacker has for free: an IPv4 address, or an IPv6 /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for an unknown peer: they share one count
	return p
}
