package hostsvc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

const (
	verifiedShards  = 64
	verifiedWays    = 8
	defaultVerified = 1 << 16
)

// Verified remembers which proofs were found to be right, for a while, so that not each request costs what verifying costs. It
// holds keyed hashes only, under a key that no other process has. Whoever asks says in the proof what it was proved against:
// once that changes nothing is found any more.
type Verified struct {
	base   time.Time
	macs   sync.Pool
	sets   uint64 // per shard
	shards [verifiedShards]verifiedShard
}

type verifiedShard struct {
	mu      sync.Mutex
	entries []verifiedEntry // made when first used; sets of verifiedWays
	_       [32]byte
}

type verifiedEntry struct {
	key   Proof
	until int64 // nanoseconds since the table's base; 0: free
}

// Proof stands for something that was proved. It tells nothing about it.
type Proof [sha256.Size]byte

type verifiedMAC struct {
	mac hash.Hash
	len [4]byte
	sum Proof
}

// NewVerified makes a table of about max proofs (0: 65,536).
func NewVerified(max int) *Verified {
	if max <= 0 {
		max = defaultVerified
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	v := &Verified{base: time.Now(), sets: uint64((max + verifiedShards*verifiedWays - 1) / (verifiedShards * verifiedWays))}
	v.macs.New = func() any { return &verifiedMAC{mac: hmac.New(sha256.New, key)} }
	return v
}

// Proof writes what stands for the parts, in this order: what it was proved against, then what was presented.
func (v *Verified) Proof(p *Proof, parts ...[]byte) {
	m := v.macs.Get().(*verifiedMAC)
	m.mac.Reset()
	for _, part := range parts {
		binary.BigEndian.PutUint32(m.len[:], uint32(len(part)))
		m.mac.Write(m.len[:])
		m.mac.Write(part)
	}
	m.mac.Sum(m.sum[:0])
	*p = m.sum
	clear(m.sum[:])
	v.macs.Put(m)
}

// Has says whether the proof was found to be right and is still remembered at time now.
func (v *Verified) Has(p *Proof, now time.Time) bool {
	s := &v.shards[p[0]%verifiedShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		return false
	}
	at, set := int64(now.Sub(v.base)), v.set(s, p)
	for i := range set {
		if set[i].key == *p { // HMACs under a key that callers cannot know: comparing tells them nothing
			return set[i].until > at
		}
	}
	return false
}

// Put remembers the proof until then. If its place is full the one goes that would be forgotten first.
func (v *Verified) Put(p *Proof, until time.Time) {
	s := &v.shards[p[0]%verifiedShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = make([]verifiedEntry, v.sets*verifiedWays)
	}
	set, first := v.set(s, p), 0
	for i := range set {
		if set[i].key == *p {
			first = i
			break
		}
		if set[i].until < set[first].until {
			first = i
		}
	}
	set[first] = verifiedEntry{key: *p, until: int64(until.Sub(v.base))}
}

// set returns the places where the proof can be; s.mu is held.
func (v *Verified) set(s *verifiedShard, p *Proof) []verifiedEntry {
	i := binary.LittleEndian.Uint64(p[8:]) % v.sets * verifiedWays
	return s.entries[i : i+verifiedWays]
}
