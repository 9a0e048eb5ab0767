package keyring

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	keySize    = 32
	ringFormat = 1
	// A marshalled term: number, flag, key, MAC key.
	termSize = 4 + 1 + 2*keySize
)

var (
	// ErrLastTerm says that the newest term cannot be removed.
	ErrLastTerm = errors.New("the newest term cannot be removed")
	// ErrUnknownTerm says that the ring has no such term, or has it no longer.
	ErrUnknownTerm = errors.New("ring has no such term")
	// ErrMalformedRing says that bytes are not a marshalled ring.
	ErrMalformedRing = errors.New("malformed ring")
)

type term struct {
	number uint32
	// removed terms keep their MAC key only.
	removed bool
	key     [keySize]byte
	mac     [keySize]byte
}

// Ring is a set of terms. It is immutable and safe for concurrent use.
type Ring struct {
	version int32
	// terms are in ascending order; the last one is never removed.
	terms []term
}

// New makes a ring of version 1 with one term.
func New() *Ring {
	return &Ring{version: 1, terms: []term{newTerm(1)}}
}

// Version counts the changes made to the ring.
func (r *Ring) Version() int32 { return r.version }

// Newest is the number of the term that seals.
func (r *Ring) Newest() uint32 { return r.newest().number }

// Terms are the numbers of the terms that open.
func (r *Ring) Terms() []uint32 {
	var numbers []uint32
	for _, t := range r.terms {
		if !t.removed {
			numbers = append(numbers, t.number)
		}
	}
	return numbers
}

// AddTerm gives the next version of the ring, with a new term that seals from then on. Every replica must have the new
// ring before anything sealed with it is committed where the others read it.
func (r *Ring) AddTerm() *Ring {
	n := &Ring{version: r.version + 1, terms: slices.Clone(r.terms)}
	n.terms = append(n.terms, newTerm(r.Newest()+1))
	return n
}

// RemoveTerm gives the next version of the ring, in which what the term sealed opens no longer. The caller knows that
// nothing is left under it.
func (r *Ring) RemoveTerm(number uint32) (*Ring, error) {
	if number == r.Newest() {
		return nil, fmt.Errorf("remove term %d: %w", number, ErrLastTerm)
	}
	n := &Ring{version: r.version + 1, terms: slices.Clone(r.terms)}
	i := slices.IndexFunc(n.terms, func(t term) bool { return t.number == number && !t.removed })
	if i < 0 {
		return nil, fmt.Errorf("remove term %d: %w", number, ErrUnknownTerm)
	}
	n.terms[i].removed = true
	clear(n.terms[i].key[:])
	return n, nil
}

// Verifying are the numbers of the terms that were removed: they open nothing and still verify what they authenticated.
func (r *Ring) Verifying() []uint32 {
	var numbers []uint32
	for _, t := range r.terms {
		if t.removed {
			numbers = append(numbers, t.number)
		}
	}
	return numbers
}

// Follows reports whether the ring is what AddTerm or RemoveTerm may have made of the older one: it verifies and, but for
// what was removed, opens the same.
func (r *Ring) Follows(older *Ring) bool {
	if r.version != older.version+1 || len(r.terms) < len(older.terms) || len(r.terms) > len(older.terms)+1 {
		return false
	}
	for i, was := range older.terms {
		is := r.terms[i]
		if is.number != was.number || subtle.ConstantTimeCompare(is.mac[:], was.mac[:]) != 1 || was.removed && !is.removed {
			return false
		}
		if !is.removed && subtle.ConstantTimeCompare(is.key[:], was.key[:]) != 1 {
			return false
		}
	}
	return true
}

// Marshal gives the ring in plain text, to be wrapped at once.
func (r *Ring) Marshal() []byte {
	b := make([]byte, 0, 1+4+4+len(r.terms)*termSize)
	b = append(b, ringFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(r.version))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.terms)))
	for _, t := range r.terms {
		b = binary.BigEndian.AppendUint32(b, t.number)
		b = append(b, boolByte(t.removed))
		b = append(b, t.key[:]...)
		b = append(b, t.mac[:]...)
	}
	return b
}

// Unmarshal is the reverse of Marshal.
func Unmarshal(b []byte) (*Ring, error) {
	const head = 1 + 4 + 4
	if len(b) < head || b[0] != ringFormat {
		return nil, ErrMalformedRing
	}
	r := &Ring{version: int32(binary.BigEndian.Uint32(b[1:]))}
	n := binary.BigEndian.Uint32(b[5:])
	b = b[head:]
	if r.version < 1 || n == 0 || uint64(len(b)) != uint64(n)*termSize {
		return nil, ErrMalformedRing
	}
	for ; len(b) > 0; b = b[termSize:] {
		t := term{number: binary.BigEndian.Uint32(b), removed: b[4] == 1}
		copy(t.key[:], b[5:])
		copy(t.mac[:], b[5+keySize:])
		if b[4] > 1 || t.number == 0 || (len(r.terms) > 0 && t.number <= r.newest().number) {
			return nil, ErrMalformedRing
		}
		r.terms = append(r.terms, t)
	}
	if r.newest().removed {
		return nil, ErrMalformedRing
	}
	return r, nil
}

// Equal reports whether both rings have the same version and terms.
func (r *Ring) Equal(o *Ring) bool {
	return subtle.ConstantTimeCompare(r.Marshal(), o.Marshal()) == 1
}

// String keeps keys out of logs.
func (r *Ring) String() string {
	return fmt.Sprintf("ring version %d, %d terms", r.version, len(r.terms))
}

// GoString keeps keys out of %#v.
func (r *Ring) GoString() string { return r.String() }

func (r *Ring) newest() *term { return &r.terms[len(r.terms)-1] }

// find answers a term by number; nil if there is none.
func (r *Ring) find(number uint32) *term {
	i, ok := slices.BinarySearchFunc(r.terms, number, func(t term, n uint32) int {
		return int(int64(t.number) - int64(n))
	})
	if !ok {
		return nil
	}
	return &r.terms[i]
}

func newTerm(number uint32) term {
	t := term{number: number}
	// crypto/rand.Read never fails; it ends the process if the system has no randomness.
	_, _ = rand.Read(t.key[:])
	_, _ = rand.Read(t.mac[:])
	return t
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
