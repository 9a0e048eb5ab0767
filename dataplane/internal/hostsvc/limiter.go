package hostsvc

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// MaxWindows is the most windows one limiter may have.
const MaxWindows = 8

const (
	limiterShards             = 64
	defaultLimiterCount       = 1 << 19
	evictionSample            = 16
	never               int64 = math.MinInt64 / 2 // leaves room to subtract any time from it
)

// Window is one limit: Limit requests in Length.
type Window struct {
	Limit  uint64
	Length time.Duration
}

// LimiterTable is a bounded table of GCRA counters. Counters are found by what is limited, not by who asks for them:
// runtimes that come and go with unchanged limits meet the same counters, and what nobody uses any more idles out.
type LimiterTable struct {
	base         time.Time
	seed1, seed2 maphash.Seed
	shards       [limiterShards]limiterShard
}

// subjectKey is 128 bits of two seeded hashes: callers choose subjects, they must not be able to choose collisions.
type subjectKey struct{ a, b uint64 }

type limiterShard struct {
	mu      sync.Mutex
	index   map[subjectKey]int32
	entries []limiterEntry
	max     int
	hand    int
	_       [24]byte
}

// limiterEntry holds the theoretical arrival time of each window, in nanoseconds since the table's base.
type limiterEntry struct {
	key  subjectKey
	tats [MaxWindows]int64
}

// NewLimiterTable makes a table of at most about max counters (0: a default of half a million).
func NewLimiterTable(max int) *LimiterTable {
	if max <= 0 {
		max = defaultLimiterCount
	}
	t := &LimiterTable{base: time.Now(), seed1: maphash.MakeSeed(), seed2: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].max = (max + limiterShards - 1) / limiterShards
		t.shards[i].index = map[subjectKey]int32{}
	}
	return t
}

// Len returns the number of counters held.
func (t *LimiterTable) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.index)
		s.mu.Unlock()
	}
	return n
}

// Limiter is a handle on the counters of one set of windows.
type Limiter struct {
	table   *LimiterTable
	prefix  uint64
	windows []gcra
}

// gcra is one window prepared: every request moves the theoretical arrival time by step; it may be ahead of now by at
// most burst. The step is rounded up so that rounding never lets more through: the error is below one nanosecond a
// request, which shows only at millions of requests a second.
type gcra struct {
	step, burst int64
}

// Bind returns the limiter for the windows under this identity. Handles with equal identity and windows share counters,
// whenever they are made; changed windows begin anew.
func (t *LimiterTable) Bind(identity []string, windows []Window) *Limiter {
	var h maphash.Hash
	h.SetSeed(t.seed1)
	for _, s := range identity {
		writeUint(&h, uint64(len(s)))
		h.WriteString(s)
	}
	l := &Limiter{table: t}
	for _, w := range windows {
		writeUint(&h, w.Limit)
		writeUint(&h, uint64(w.Length))
		step := (int64(w.Length) + int64(w.Limit) - 1) / int64(w.Limit)
		l.windows = append(l.windows, gcra{step: step, burst: step * int64(w.Limit)})
	}
	l.prefix = h.Sum64()
	return l
}

func writeUint(h *maphash.Hash, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	h.Write(b[:])
}

// Quota is the state of one window after a decision.
type Quota struct {
	// Remaining is how many requests would pass at once now.
	Remaining uint64
	// Reset is the time until the whole limit is there again.
	Reset time.Duration
}

// Decision is the outcome for one request.
type Decision struct {
	OK bool
	// RetryAfter is the time until a request would pass; zero if OK.
	RetryAfter time.Duration
	Quotas     [MaxWindows]Quota
	// N is how many windows there are.
	N int
}

// Take counts one request of the subject at time now if every window has room, else it counts in none.
func (l *Limiter) Take(subject []byte, now time.Time, d *Decision) {
	t := l.table
	at, key := int64(now.Sub(t.base)), l.key(subject)
	s := &t.shards[key.b%limiterShards]
	s.mu.Lock()
	e := s.entry(key, at)
	l.decide(e, at, d)
	s.mu.Unlock()
}

func (l *Limiter) key(subject []byte) subjectKey {
	return subjectKey{
		a: maphash.Bytes(l.table.seed1, subject) ^ l.prefix*0x9e3779b97f4a7c15,
		b: maphash.Bytes(l.table.seed2, subject) + l.prefix,
	}
}

func (l *Limiter) decide(e *limiterEntry, at int64, d *Decision) {
	d.OK, d.RetryAfter, d.N = true, 0, len(l.windows)
	for i, w := range l.windows {
		if wait := max(e.tats[i], at) + w.step - w.burst - at; wait > 0 {
			d.OK = false
			d.RetryAfter = max(d.RetryAfter, time.Duration(wait))
		}
	}
	for i, w := range l.windows {
		tat := max(e.tats[i], at)
		if d.OK {
			tat += w.step
			e.tats[i] = tat
		}
		ahead := tat - at
		d.Quotas[i] = Quota{Remaining: uint64(max(0, w.burst-ahead) / w.step), Reset: time.Duration(ahead)}
	}
}

// entry finds or makes the counter; s.mu is held.
func (s *limiterShard) entry(key subjectKey, at int64) *limiterEntry {
	if i, ok := s.index[key]; ok {
		return &s.entries[i]
	}
	i := s.free(at)
	e := &s.entries[i]
	*e = limiterEntry{key: key}
	for w := range e.tats {
		e.tats[w] = never
	}
	s.index[key] = int32(i)
	return e
}

// free returns the place of an unused entry. A place is taken from a counter that is idle, i.e. has regained everything,
// which loses nothing. Only if the table is full and none of a sample is idle, the one nearest to idle goes: in a flood of
// new subjects these are the flood's own counters rather than those of callers who are being limited.
func (s *limiterShard) free(at int64) int {
	best, bestAhead := -1, int64(math.MaxInt64)
	for range min(evictionSample, len(s.entries)) {
		s.hand = (s.hand + 1) % len(s.entries)
		ahead := s.entries[s.hand].latest() - at
		if ahead < bestAhead {
			best, bestAhead = s.hand, ahead
		}
		if ahead <= 0 {
			break
		}
	}
	if best >= 0 && (bestAhead <= 0 || len(s.entries) >= s.max) {
		delete(s.index, s.entries[best].key)
		return best
	}
	s.entries = append(s.entries, limiterEntry{})
	return len(s.entries) - 1
}

func (e *limiterEntry) latest() int64 {
	latest := never
	for _, t := range e.tats {
		latest = max(latest, t)
	}
	return latest
}
