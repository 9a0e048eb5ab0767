// Package digest computes the set digest by which a control plane and its gateways know that they hold the same
// configuration. It hashes exact record bytes, never re-marshalled messages, and costs the same for a change to a set of
// ten as to a set of a million. It does no I/O and keeps no secrets: whoever stores a Set's state must seal it.
package digest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	lanes = 1024
	// StateSize is the size in bytes of a marshalled Set.
	StateSize = lanes * 2
	// Size is the size in bytes of a digest.
	Size = sha256.Size

	domain = "keyward/set-digest/v1"
)

// Set is the homomorphic hash LtHash16 (Bellare, Micciancio 1997; Lewi et al. 2019) of a set of records: 1024 lanes of
// 16 bits, each the sum modulo 2^16 of the elements' lanes. The order of additions does not matter and an element can be
// taken away again. The zero value is the empty set. A Set is not safe for concurrent use.
type Set struct {
	lanes [lanes]uint16
}

// Add puts a record into the set. Adding an element that is already there gives a different, multiset digest; callers
// remove the old record of a uid before they add the new one.
func (s *Set) Add(kind, uid string, record []byte) {
	var e [StateSize]byte
	expand(&e, kind, uid, record)
	for i := range s.lanes {
		s.lanes[i] += binary.LittleEndian.Uint16(e[2*i:])
	}
}

// Remove takes a record out of the set. The bytes must be those that were added.
func (s *Set) Remove(kind, uid string, record []byte) {
	var e [StateSize]byte
	expand(&e, kind, uid, record)
	for i := range s.lanes {
		s.lanes[i] -= binary.LittleEndian.Uint16(e[2*i:])
	}
}

// Sum returns the digest of the set.
func (s *Set) Sum() [Size]byte {
	var state [StateSize]byte
	s.put(&state)
	return sha256.Sum256(state[:])
}

// MarshalBinary returns the state, StateSize bytes, from which UnmarshalBinary goes on.
func (s *Set) MarshalBinary() ([]byte, error) {
	var state [StateSize]byte
	s.put(&state)
	return state[:], nil
}

// UnmarshalBinary replaces the state.
func (s *Set) UnmarshalBinary(state []byte) error {
	if len(state) != StateSize {
		return fmt.Errorf("digest state has %d bytes, want %d", len(state), StateSize)
	}
	for i := range s.lanes {
		s.lanes[i] = binary.LittleEndian.Uint16(state[2*i:])
	}
	return nil
}

func (s *Set) put(state *[StateSize]byte) {
	for i, l := range s.lanes {
		binary.LittleEndian.PutUint16(state[2*i:], l)
	}
}

// expand maps an element to 2 KiB of lanes: the AES-256-CTR key stream under the SHA-256 of the length-prefixed element.
// LtHash asks for an extendable output function; SHAKE128 would do and is four times slower where AES has instructions.
func expand(out *[StateSize]byte, kind, uid string, record []byte) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(domain), []byte(kind), []byte(uid), record} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	var key [sha256.Size]byte
	block, err := aes.NewCipher(h.Sum(key[:0]))
	if err != nil {
		panic(err) // only for a key of a wrong length
	}
	var iv [aes.BlockSize]byte
	cipher.NewCTR(block, iv[:]).XORKeyStream(out[:], out[:])
}
