// Package ticketkeys has the keys with which a gateway seals TLS session tickets and opens those of its group's other gateways.
// Which key is used when its times say, not when it came, so that gateways agree. Compile makes them from the record of the
// control plane, the server asks for them at each handshake. It must not keep tickets, nor know TLS.
package ticketkeys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
)

// size of a key, as crypto/tls wants them.
const size = 32

// ErrMalformed says that a record holds something else than keys.
var ErrMalformed = errors.New("it holds something else than keys of session tickets")

// Keys are those of a group. They never change; what follows from them is kept.
type Keys struct {
	keys    []key    // the one that is used first in front
	derived sync.Map // terms → [][size]byte, in the order of keys; as many as there are different terms
}

type key struct {
	secret      []byte
	from, until time.Time
}

// New takes the keys of a record.
func New(m *systemv1.TicketKeys) (*Keys, error) {
	k := &Keys{}
	for _, one := range m.GetKeys() {
		if len(one.GetKey()) != size || !one.GetFrom().IsValid() || !one.GetUntil().IsValid() {
			return nil, ErrMalformed
		}
		k.keys = append(k.keys, key{one.GetKey(), one.GetFrom().AsTime(), one.GetUntil().AsTime()})
	}
	slices.SortFunc(k.keys, func(a, b key) int { return a.from.Compare(b.from) })
	return k, nil
}

// At returns the keys that open tickets at a time, and in front the one that seals them: the newest whose time has come, or, while
// that of none has, the one whose time comes first; clocks differ. There are none if no key is good any more, or k is nil. Names
// under which TLS is spoken on other terms have other keys, so that a session of one is not resumed under another.
func (k *Keys) At(now time.Time, terms string) [][size]byte {
	if k == nil {
		return nil
	}
	derived := k.under(terms)
	var out [][size]byte
	for i, one := range k.keys {
		if derived == nil || !now.Before(one.until) {
			continue
		}
		out = append(out, derived[i])
		if last := len(out) - 1; !now.Before(one.from) {
			out[0], out[last] = out[last], out[0]
		}
	}
	return out
}

// under are the keys for names with these terms.
func (k *Keys) under(terms string) [][size]byte {
	if known, ok := k.derived.Load(terms); ok {
		out, _ := known.([][size]byte)
		return out
	}
	var out [][size]byte
	for _, one := range k.keys {
		raw, err := hkdf.Key(sha256.New, one.secret, nil, "keyward session tickets "+terms, size)
		if err != nil {
			return nil
		}
		out = append(out, [size]byte(raw))
	}
	k.derived.Store(terms, out)
	return out
}
