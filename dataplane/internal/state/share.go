package state

import (
	"bytes"
	"hash/maphash"
	"runtime"
	"sync"
	"weak"

	"keyward.dev/shared/digest"
)

// Share lets the folders of many gateways in one process keep only once what is equal. Each still hashes every byte that
// it receives, and only a set whose digest was found right is exchanged for one that another folder has made. What no
// folder holds any more is forgotten. It is safe for concurrent use; the zero value is not usable.
type Share struct {
	seed   maphash.Seed
	shards [64]recordShard

	making sync.Mutex // held while a set is looked up or made, so that gateways that get there together make one
	mu     sync.Mutex // guards sets
	sets   map[position]weak.Pointer[Set]
}

type recordShard struct {
	mu      sync.Mutex // guards records
	records map[uint64]weak.Pointer[Record]
}

// position is what makes two verified sets the same. Records that the control plane could not open are in no digest, so
// the number is part of it.
type position struct {
	epoch    uint64
	revision int64
	digest   [digest.Size]byte
	len      int
}

// NewShare returns a share of nothing.
func NewShare() *Share {
	s := &Share{seed: maphash.MakeSeed(), sets: map[position]weak.Pointer[Set]{}}
	for i := range s.shards {
		s.shards[i].records = map[uint64]weak.Pointer[Record]{}
	}
	return s
}

// record returns a record that is equal to r: the one that is there, or r.
func (s *Share) record(r *Record) *Record {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, part := range [...]string{r.Kind, r.UID} {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	_, _ = h.Write(r.Bytes)
	sum := h.Sum64()
	shard := &s.shards[sum%uint64(len(s.shards))]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if have := shard.records[sum].Value(); have != nil {
		if have.Kind == r.Kind && have.UID == r.UID && have.Name == r.Name && have.Unreadable == r.Unreadable && bytes.Equal(have.Bytes, r.Bytes) {
			return have
		}
		return r
	}
	shard.records[sum] = weak.Make(r)
	runtime.AddCleanup(r, shard.forget, sum)
	return r
}

func (s *recordShard) forget(sum uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.records[sum]; ok && p.Value() == nil {
		delete(s.records, sum)
	}
}

// set returns the set at the position, made if no folder holds one.
func (s *Share) set(at position, make func() (*Set, error)) (*Set, error) {
	s.making.Lock()
	defer s.making.Unlock()
	s.mu.Lock()
	have := s.sets[at].Value()
	s.mu.Unlock()
	if have != nil {
		return have, nil
	}
	made, err := make()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[at] = weak.Make(made)
	runtime.AddCleanup(made, s.forget, at)
	return made, nil
}

func (s *Share) forget(at position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.sets[at]; ok && p.Value() == nil {
		delete(s.sets, at)
	}
}
