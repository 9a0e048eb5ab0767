package hostsvc

import "time"

// Wait returns how long a request of the subject would have to wait at time now, zero if it would pass. It counts nothing.
func (l *Limiter) Wait(subject []byte, now time.Time) (wait time.Duration) {
	l.held(subject, now, func(e *limiterEntry, at int64) {
		for i, w := range l.windows {
			wait = max(wait, time.Duration(max(e.tats[i], at)+w.step-w.burst-at))
		}
	})
	return max(0, wait)
}

// Held says whether anything is counted for the subject that has not come back yet.
func (l *Limiter) Held(subject []byte, now time.Time) (held bool) {
	l.held(subject, now, func(e *limiterEntry, at int64) { held = e.latest() > at })
	return held
}

// Return takes back one request that Take has counted.
func (l *Limiter) Return(subject []byte, now time.Time) {
	l.held(subject, now, func(e *limiterEntry, _ int64) {
		for i, w := range l.windows {
			e.tats[i] -= w.step
		}
	})
}

// Step is how long one counted request takes to come back in the first window.
func (l *Limiter) Step() time.Duration { return time.Duration(l.windows[0].step) }

// Hash is equal for equal subjects, and as good as random.
func (l *Limiter) Hash(subject []byte) uint64 {
	k := l.key(subject)
	return k.a ^ k.b
}

// held calls fn with the counter of the subject if there is one.
func (l *Limiter) held(subject []byte, now time.Time, fn func(e *limiterEntry, at int64)) {
	key := l.key(subject)
	s := &l.table.shards[key.b%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.index[key]; ok {
		fn(&s.entries[i], int64(now.Sub(l.table.base)))
	}
}
