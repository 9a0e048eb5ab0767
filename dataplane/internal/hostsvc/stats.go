package hostsvc

import (
	"sync/atomic"
	"time"
)

// Stats say how the services for authentication do. What is counted is so since the process began.
type Stats struct {
	Keys     KeyStats
	Tokens   TokenStats
	Replays  UseStats // signatures and nonces of signed requests
	Proofs   UseStats // proofs that a token is one's own
	OneTime  UseStats // tokens that count once
	Counters int      // against guessing
}

// KeyStats are those of sets of keys that are fetched.
type KeyStats struct {
	// Fetched and Failed count fetches.
	Fetched, Failed uint64
	// Found, Absent, Later and Unsure count questions for keys that were not there: what came of asking for the set again.
	Found, Absent, Later, Unsure uint64
	// Fresh, Stale and Missing are how many sets there are: fetched in time; used on although the last fetch failed; of no use.
	Fresh, Stale, Missing int
	// Oldest is when that set was fetched that was not for the longest time; zero without one.
	Oldest time.Time
}

// TokenStats are those of what is remembered of tokens.
type TokenStats struct {
	Hits, Misses uint64
	Entries      int
	Bytes        int
}

// UseStats are those of a table of what counts once.
type UseStats struct {
	Entries int
	// Full counts those of whom nothing could be known because there was no room.
	Full uint64
}

// Stats returns how the services for authentication do.
func (s *Services) Stats() Stats {
	return Stats{
		Keys: s.KeySets.stats(), Tokens: s.Tokens.stats(), Counters: s.Logins.Guard.Len(),
		Replays: UseStats{s.Replays.Len(), s.Replays.full.Load()}, Proofs: s.Proofs.stats(), OneTime: s.Once.stats(),
	}
}

// keyTally counts what became of sets of keys. These are rare: nobody fetches keys for each request.
type keyTally struct{ fetched, failed, found, absent, later, unsure atomic.Uint64 }

func (t *keyTally) answered(a KeyAnswer, found bool) {
	switch {
	case a == KeyLater:
		t.later.Add(1)
	case a == KeyUnsure:
		t.unsure.Add(1)
	case found:
		t.found.Add(1)
	default:
		t.absent.Add(1)
	}
}

func (t *KeySets) stats() KeyStats {
	now := time.Now()
	n := &t.tally
	s := KeyStats{
		Fetched: n.fetched.Load(), Failed: n.failed.Load(), Found: n.found.Load(), Absent: n.absent.Load(), Later: n.later.Load(), Unsure: n.unsure.Load(),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.sets {
		known := k.known.Load()
		switch {
		case known == nil || !now.Before(known.ends):
			s.Missing++
			continue
		case k.failed:
			s.Stale++
		default:
			s.Fresh++
		}
		if s.Oldest.IsZero() || known.fetched.Before(s.Oldest) {
			s.Oldest = known.fetched
		}
	}
	return s
}

func (t *TokenTable) stats() (s TokenStats) {
	for i := range t.shards {
		d := &t.shards[i]
		d.mu.Lock()
		s.Hits, s.Misses, s.Entries, s.Bytes = s.Hits+d.hits, s.Misses+d.misses, s.Entries+len(d.index), s.Bytes+d.bytes
		d.mu.Unlock()
	}
	return s
}

func (t *ProofTable) stats() (u UseStats) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		u.Entries, u.Full = u.Entries+len(s.seen), u.Full+s.full
		s.mu.Unlock()
	}
	return u
}
