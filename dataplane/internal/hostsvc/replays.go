package hostsvc

import (
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	replayShards       = 64
	defaultReplayCount = 1 << 20
	replaySample       = 16
)

// ReplayTable remembers what may be taken once, until it would not be taken any more anyway. It is found by what it is, not by
// who asks: runtimes that come and go with the same policy meet the same entries.
//
// What is still of use is never forgotten to make room: that would be the way to use something twice.
type ReplayTable struct {
	base         time.Time
	seed1, seed2 maphash.Seed
	shards       [replayShards]replayShard
	full         atomic.Uint64 // how often there was no room
}

type replayShard struct {
	mu      sync.Mutex
	index   map[subjectKey]int32
	entries []replayEntry
	max     int
	hand    int
	_       [24]byte
}

// replayEntry is of use until then, in nanoseconds since the table's base.
type replayEntry struct {
	key   subjectKey
	until int64
}

// NewReplayTable makes a table of at most about max entries (0: a default of a million, which take 64 MiB).
func NewReplayTable(max int) *ReplayTable {
	if max <= 0 {
		max = defaultReplayCount
	}
	t := &ReplayTable{base: time.Now(), seed1: maphash.MakeSeed(), seed2: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].max = (max + replayShards - 1) / replayShards
		t.shards[i].index = map[subjectKey]int32{}
	}
	return t
}

// Len returns the number of entries held.
func (t *ReplayTable) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.index)
		s.mu.Unlock()
	}
	return n
}

// Replays is a handle on what one policy takes once.
type Replays struct {
	table    *ReplayTable
	prefix   uint64
	identity []string
	shared   *SharedUses // nil: each gateway remembers for itself
}

// Bind returns the handle of this identity.
func (t *ReplayTable) Bind(identity ...string) *Replays {
	var h maphash.Hash
	h.SetSeed(t.seed1)
	for _, s := range identity {
		writeUint(&h, uint64(len(s)))
		h.WriteString(s)
	}
	return &Replays{table: t, prefix: h.Sum64(), identity: identity}
}

// Through returns a handle on what is taken once by all gateways that share a store.
func (r *Replays) Through(shared *SharedUses) *Replays {
	through := *r
	through.shared = shared
	return &through
}

// Replay says what is known of something that may be taken once.
type Replay uint8

// Replay. The zero value takes nothing.
const (
	// ReplayUnsure: there is no room to remember it.
	ReplayUnsure Replay = iota
	// ReplayFirst: it was not there before.
	ReplayFirst
	// ReplayAgain: it was.
	ReplayAgain
	// ReplayOutage: the store that knows does not answer. It is not taken.
	ReplayOutage
)

// Take takes what is called name among what belongs to owner, and remembers it until then. With a store it waits for that, if it
// was not taken here before.
func (r *Replays) Take(owner string, name []byte, now, until time.Time) Replay {
	key, at := r.key(owner, name), int64(now.Sub(r.table.base))
	got := r.table.take(key, at, int64(until.Sub(r.table.base)))
	if got != ReplayFirst || r.shared == nil {
		return got
	}
	if got = r.shared.take(until.Sub(now), append(slices.Clip(r.identity), owner, string(name))...); got == ReplayOutage {
		r.table.drop(key)
	}
	return got
}

func (r *Replays) key(owner string, name []byte) subjectKey {
	t := r.table
	o := maphash.String(t.seed2, owner)
	return subjectKey{
		a: maphash.Bytes(t.seed1, name) ^ r.prefix*0x9e3779b97f4a7c15 ^ o,
		b: maphash.Bytes(t.seed2, name) + r.prefix + o*0x9e3779b97f4a7c15,
	}
}

// take takes something at a time, until another; both are since the table's base.
func (t *ReplayTable) take(key subjectKey, at, until int64) Replay {
	s := &t.shards[key.b%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[key]; ok {
		if e := &s.entries[i]; e.until >= at {
			e.until = max(e.until, until)
			return ReplayAgain
		}
		s.entries[i].until = until
		return ReplayFirst
	}
	i, ok := s.free(at)
	if !ok {
		t.full.Add(1)
		return ReplayUnsure
	}
	s.entries[i] = replayEntry{key: key, until: until}
	s.index[key] = int32(i)
	return ReplayFirst
}

// drop makes something count as not taken.
func (t *ReplayTable) drop(key subjectKey) {
	s := &t.shards[key.b%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[key]; ok {
		s.entries[i].until = math.MinInt64
	}
}

// free returns the place of an entry that is of no use any more, or a new one; s.mu is held. The hand goes round in the order
// in which entries came, which is about that in which they end.
func (s *replayShard) free(at int64) (int, bool) {
	for range min(replaySample, len(s.entries)) {
		s.hand = (s.hand + 1) % len(s.entries)
		if e := &s.entries[s.hand]; e.until < at {
			delete(s.index, e.key)
			return s.hand, true
		}
	}
	if len(s.entries) >= s.max {
		return 0, false
	}
	s.entries = append(s.entries, replayEntry{})
	return len(s.entries) - 1, true
}
