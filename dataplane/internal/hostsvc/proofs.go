package hostsvc

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// maxProofs bounds the proofs that are remembered: some 10 MiB.
	maxProofs = 1 << 17
	// maxSingleUse bounds the tokens that are remembered because they count once: some 80 MiB.
	maxSingleUse = 1 << 20
	// proofShards is into how many parts a table is divided that is not tiny.
	proofShards = 64
)

// ProofTable remembers what was used and counts once, as long as it would count. None of it is forgotten before: with a full
// table nobody can tell any more what was used.
type ProofTable struct {
	shards []proofShard
}

type proofShard struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]int64 // until when, in seconds
	// swept is when those that have ended were last dropped from a full table.
	swept int64
	max   int
	full  uint64 // how often there was no room
	_     [24]byte
}

// NewProofTable returns a table of at most about max proofs (0: 131072).
func NewProofTable(max int) *ProofTable {
	if max <= 0 {
		max = maxProofs
	}
	n := proofShards
	if max < n*n {
		n = 1
	}
	t := &ProofTable{shards: make([]proofShard, n)}
	for i := range t.shards {
		t.shards[i].seen, t.shards[i].max = map[[sha256.Size]byte]int64{}, (max+n-1)/n
	}
	return t
}

// Use notes that a proof was used by a key, until it does not count any more.
func (t *ProofTable) Use(key, id string, now, until time.Time) Replay {
	name := proofName(key, id)
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, used := s.seen[name]; used && now.Unix() <= end {
		return ReplayAgain
	}
	if len(s.seen) >= s.max {
		s.sweep(now.Unix())
	}
	if len(s.seen) >= s.max {
		s.full++
		return ReplayUnsure
	}
	s.seen[name] = until.Unix()
	return ReplayFirst
}

func proofName(key, id string) [sha256.Size]byte {
	var room [512]byte
	b := binary.BigEndian.AppendUint32(room[:0], uint32(len(key)))
	return sha256.Sum256(append(append(b, key...), id...))
}

func (t *ProofTable) shard(name [sha256.Size]byte) *proofShard {
	return &t.shards[int(name[0])%len(t.shards)]
}

// forget makes what was used count as not used.
func (t *ProofTable) forget(key, id string) {
	name := proofName(key, id)
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, name)
}

// Through returns a handle on what of a sort was used; with a store, on what all gateways that share it have seen.
func (t *ProofTable) Through(sort string, shared *SharedUses) *Proofs {
	return &Proofs{Table: t, sort: sort, shared: shared}
}

// Proofs is a handle on what counts once.
type Proofs struct {
	Table  *ProofTable
	sort   string      // what it is called in the store
	shared *SharedUses // nil: each gateway remembers for itself
}

// Use is that of the table. With a store it waits for that, if the proof was not used here before; one that cannot be known
// because of the store is not used.
func (p *Proofs) Use(key, id string, now, until time.Time) Replay {
	got := p.Table.Use(key, id, now, until)
	if got != ReplayFirst || p.shared == nil {
		return got
	}
	if got = p.shared.take(until.Sub(now), p.sort, key, id); got == ReplayOutage {
		p.Table.forget(key, id)
	}
	return got
}

// sweep drops what has ended, once a second at most: a table that is full of what has not would be looked through all the time.
func (s *proofShard) sweep(now int64) {
	if s.swept == now {
		return
	}
	s.swept = now
	for name, end := range s.seen {
		if now > end {
			delete(s.seen, name)
		}
	}
}
