package hostsvc

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxProofs bounds the proofs that are remembered: some 10 MiB.
const maxProofs = 1 << 17

// ProofTable remembers proofs that were used, as long as they would count. None is forgotten before: with a full table nobody
// can tell any more what was used.
type ProofTable struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]int64 // until when, in seconds
	// swept is when those that have ended were last dropped from a full table.
	swept int64
	max   int
}

// NewProofTable returns a table of at most max proofs (0: 131072).
func NewProofTable(max int) *ProofTable {
	if max <= 0 {
		max = maxProofs
	}
	return &ProofTable{seen: map[[sha256.Size]byte]int64{}, max: max}
}

// Use notes that a proof was used by a key, until it does not count any more. Fresh is false if it was before; ok is false if that
// cannot be known.
func (t *ProofTable) Use(key, id string, now, until time.Time) (fresh, ok bool) {
	h := sha256.New()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(id))
	name := [sha256.Size]byte(h.Sum(nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	if end, used := t.seen[name]; used && now.Unix() <= end {
		return false, true
	}
	if len(t.seen) >= t.max {
		t.sweep(now.Unix())
	}
	if len(t.seen) >= t.max {
		return false, false
	}
	t.seen[name] = until.Unix()
	return true, true
}

// sweep drops what has ended, once a second at most: a table that is full of what has not would be looked through all the time.
func (t *ProofTable) sweep(now int64) {
	if t.swept == now {
		return
	}
	t.swept = now
	for name, end := range t.seen {
		if now > end {
			delete(t.seen, name)
		}
	}
}
