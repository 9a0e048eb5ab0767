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
	// StateSize is the size in bytes of a marshalled Set.
	StateSize = 2048
	// Size is the size in bytes of a digest.
	Size = sha256.Size

	domain = "keyward/set-digest/v1"
	words  = StateSize / 8
	tops   = 0x8000_8000_8000_8000 // the top bit of each lane
)

// Set is the homomorphic hash LtHash16 (Bellare, Micciancio 1997; Lewi et al. 2019) of a set of records: 1024 lanes of
// 16 bits, each the sum modulo 2^16 of the elements' lanes. The order of additions does not matter and an element can be
// taken away again. The zero value is the empty set. A Set is not safe for concurrent use.
type Set struct {
	words [words]uint64 // four lanes each, the first in the lowest bits
}

// Add puts a record into the set. Adding an element that is already there gives a different, multiset digest; callers
// remove the old record of a uid before they add the new one.
func (s *Set) Add(kind, uid string, record []byte) { new(Hasher).Add(s, kind, uid, record) }

// Remove takes a record out of the set. The bytes must be those that were added.
func (s *Set) Remove(kind, uid string, record []byte) { new(Hasher).Remove(s, kind, uid, record) }

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
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint64(state[8*i:])
	}
	return nil
}

func (s *Set) put(state *[StateSize]byte) {
	for i, w := range s.words {
		binary.LittleEndian.PutUint64(state[8*i:], w)
	}
}

// Hasher adds many records to sets without allocating the space for it each time. The zero value is ready. A Hasher is
// not safe for concurrent use.
type Hasher struct {
	expanded [StateSize]byte
	head     [128]byte
	sum      [sha256.Size]byte
	iv       [aes.BlockSize]byte // always zero: no two elements share a key
}

// Add is Set.Add.
func (h *Hasher) Add(s *Set, kind, uid string, record []byte) {
	h.expand(kind, uid, record)
	for i, w := range s.words {
		// The sums of the lanes' lower 15 bits carry no further than their own top bits, which are added without carry.
		e := binary.LittleEndian.Uint64(h.expanded[8*i:])
		s.words[i] = ((w &^ tops) + (e &^ tops)) ^ ((w ^ e) & tops)
	}
}

// Remove is Set.Remove.
func (h *Hasher) Remove(s *Set, kind, uid string, record []byte) {
	h.expand(kind, uid, record)
	for i, w := range s.words {
		e := binary.LittleEndian.Uint64(h.expanded[8*i:])
		s.words[i] = ((w | tops) - (e &^ tops)) ^ ((w ^ ^e) & tops)
	}
}

// expand maps an element to 2 KiB of lanes: the AES-256-CTR key stream under the SHA-256 of the length-prefixed element.
// LtHash asks for an extendable output function; SHAKE128 would do and is four times slower where AES has instructions.
func (h *Hasher) expand(kind, uid string, record []byte) {
	b := h.head[:0] // longer names move to the heap
	for _, part := range [...]string{domain, kind, uid} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(part))), part...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(len(record)))
	hash := sha256.New()
	hash.Write(b)
	hash.Write(record)
	block, err := aes.NewCipher(hash.Sum(h.sum[:0]))
	if err != nil {
		panic(err) // only for a key of a wrong length
	}
	clear(h.expanded[:])
	cipher.NewCTR(block, h.iv[:]).XORKeyStream(h.expanded[:], h.expanded[:])
}
