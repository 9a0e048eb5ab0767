// Package guard keeps failures from spreading: a circuit breaker stops calls to a service of which too many fail, and a
// budget keeps retries from multiplying the load on one that is slow. It knows no clock: the time is told, in nanoseconds
// of any clock that only goes forward. On the way of a request that succeeds there is no lock. Called by upstream.
package guard

import "sync/atomic"

const buckets = 10

// window counts events of the recent past, and how many of them were of a special kind. Counts may be off by the few that
// happen at the very moment when a bucket is used anew.
type window struct {
	buckets [buckets]bucket
}

type bucket struct {
	epoch        atomic.Int64
	all, special atomic.Int64
}

// add counts at time now in a window of the given length.
func (w *window) add(now, length, all, special int64) {
	epoch := now / max(length/buckets, 1)
	b := &w.buckets[epoch%buckets]
	if old := b.epoch.Load(); old != epoch && b.epoch.CompareAndSwap(old, epoch) {
		b.all.Store(0)
		b.special.Store(0)
	}
	if all != 0 {
		b.all.Add(all)
	}
	if special != 0 {
		b.special.Add(special)
	}
}

// sum returns what was counted within the window.
func (w *window) sum(now, length int64) (all, special int64) {
	epoch := now / max(length/buckets, 1)
	for i := range w.buckets {
		b := &w.buckets[i]
		if age := epoch - b.epoch.Load(); age >= 0 && age < buckets {
			all += b.all.Load()
			special += b.special.Load()
		}
	}
	return all, special
}

// forget sets all counts back.
func (w *window) forget() {
	for i := range w.buckets {
		w.buckets[i].epoch.Store(-buckets) // out of every window
	}
}
