package status

import (
	"sync/atomic"
	"time"
)

// histogram counts durations in stripes.
type histogram struct {
	stripes []durations
}

// durations is one stripe: two cache lines, of which a request touches at most both.
type durations struct {
	counts [len(bounds) + 1]atomic.Uint64
	sum    atomic.Uint64 // nanoseconds
}

// bounds are the upper ends of the buckets but for the last, which has none.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

func newHistogram(stripes int) *histogram { return &histogram{stripes: make([]durations, stripes)} }

func (h *histogram) add(stripe int, d time.Duration) {
	d = max(d, 0)
	s, i := &h.stripes[stripe], 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	s.counts[i].Add(1)
	s.sum.Add(uint64(d))
}

// read adds the stripes up. Buckets include those below, by their bound in seconds, as the exposition format wants them.
func (h *histogram) read() (n uint64, sum time.Duration, buckets map[float64]uint64) {
	buckets = make(map[float64]uint64, len(bounds))
	for i := range len(bounds) + 1 {
		for j := range h.stripes {
			n += h.stripes[j].counts[i].Load()
		}
		if i < len(bounds) {
			buckets[bounds[i].Seconds()] = n
		}
	}
	for j := range h.stripes {
		sum += time.Duration(h.stripes[j].sum.Load())
	}
	return n, sum, buckets
}
