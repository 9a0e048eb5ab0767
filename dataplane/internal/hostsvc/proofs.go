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

// Use notes that a proof was used by a key, until it does not count any more. Fresh is false if it was before; ok is false if that
// cannot be known.
func (t *ProofTable) Use(key, id string, now, until time.Time) (fresh, ok bool) {
	var room [512]byte
	b := binary.BigEndian.AppendUint32(room[:0], uint32(len(key)))
	name := sha256.Sum256(append(append(b, key...), id...))
	s := &t.shards[int(name[0])%len(t.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if end, used := s.seen[name]; used && now.Unix() <= end {
		return false, true
	}
	if len(s.seen) >= s.max {
		s.sweep(now.Unix())
	}
	if len(s.seen) >= s.max {
		s.full++
		return false, false
	}
	s.seen[name] = until.Unix()
	return true, true
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
