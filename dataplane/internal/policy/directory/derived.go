package directory

import (
	"crypto/hmac"
	"crypto/sha256"
)

// Derived returns the keyed hash of a message for a purpose, under the newest term: the same at every gateway of the group. It
// is false if there is no term. Keys for purposes are others than those that credentials are hashed with, so that nobody gets
// the hash of a credential by asking for one of these.
func (d *Directory) Derived(purpose string, message []byte) (sum [sha256.Size]byte, ok bool) {
	if len(d.terms) == 0 || d.lost {
		return sum, false
	}
	return d.terms[0].derived(purpose, message), true
}

// leastSum is how much of a hash there has to be.
const leastSum = 16

// IsDerived reports whether a hash, or what it begins with, is one that Derived has given, here or at another gateway, under a
// term that still counts.
func (d *Directory) IsDerived(purpose string, message, sum []byte) bool {
	if len(sum) < leastSum || len(sum) > sha256.Size {
		return false
	}
	for _, t := range d.terms {
		if want := t.derived(purpose, message); hmac.Equal(want[:len(sum)], sum) {
			return true
		}
	}
	return false
}

func (t *Term) derived(purpose string, message []byte) (sum [sha256.Size]byte) {
	key := t.Hash(append([]byte("keyward derived\x00"), purpose...))
	m := hmac.New(sha256.New, key[:])
	m.Write(message)
	m.Sum(sum[:0])
	return sum
}
