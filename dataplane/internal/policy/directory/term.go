package directory

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"sync"
)

// Term is one pepper term: a number and the HMAC key behind it, with a pool of prepared states.
type Term struct {
	number uint32
	pool   sync.Pool
}

type macState struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// NewTerm prepares a term. The key is 32 bytes.
func NewTerm(number uint32, key []byte) (*Term, error) {
	if number == 0 || len(key) != sha256.Size {
		return nil, fmt.Errorf("pepper term %d: need a number from 1 and a key of %d bytes, have %d", number, sha256.Size, len(key))
	}
	own := slices.Clone(key)
	t := &Term{number: number}
	t.pool.New = func() any { return &macState{mac: hmac.New(sha256.New, own)} }
	return t, nil
}

// Number returns the term's number.
func (t *Term) Number() uint32 { return t.number }

// Hash returns the keyed hash of a secret under this term.
func (t *Term) Hash(secret []byte) (out [32]byte) {
	t.sum(secret, &out)
	return out
}

func (t *Term) sum(secret []byte, out *[32]byte) {
	s := t.pool.Get().(*macState)
	s.mac.Reset()
	s.mac.Write(secret)
	s.mac.Sum(s.sum[:0])
	*out = s.sum
	t.pool.Put(s)
}

func sortedTerms(terms []*Term) []*Term {
	out := slices.Clone(terms)
	slices.SortFunc(out, func(a, b *Term) int { return int(int64(b.number) - int64(a.number)) })
	return out
}
