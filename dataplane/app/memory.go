package app

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// loadingGCPercent is how far the heap may grow over what is live while the first configuration is folded and
	// compiled, and loadingGarbage how far in bytes at least. What is decoded then is garbage at once, and several times what
	// stays. To collect more often keeps the peak lower, which is what a pod's memory limit has to allow for, but at 60 % it cost
	// 5 to 17 % more processor time until the gateway is ready. Without any collection that takes no less time: memory that is
	// new has to be had from the system, and cleared.
	loadingGCPercent = 150
	loadingGarbage   = 128 << 20
	// mostGarbage is how far a large heap may grow over what is live, in bytes: a pod that holds a gigabyte of
	// configuration is not to need another for what is garbage. Requests make none, so collections are no more frequent
	// than changes: one for some thousands.
	mostGarbage = 256 << 20
	// roomy is how large the heap may be with that much, in bytes; with more that is live, leastGarbage is what it may grow.
	roomy        = 1 << 30
	leastGarbage = 128 << 20
	// leastGCPercent keeps collections from following each other without a pause, however large the heap is.
	leastGCPercent = 10

	loadingCheck = 10 * time.Millisecond // the next collection after one is to go by what that left
	servingCheck = time.Second
)

const (
	// compactFrom is how many records a set has for which it is worth while to lay out the heap, and how many more
	// before it is laid out again, or a quarter of them all.
	compactFrom = 10_000
	// compactCheck is how often it is looked whether there are so many, in checks of the collector.
	compactCheck = 30
)

// keepMemory looks after the heap: it keeps it low while there is nothing yet to serve with, gives back to the system what
// that took, and lays the heap out for serving.
func (g *Gateway) keepMemory(ctx context.Context) error {
	c := newCollector()
	defer c.restore()
	c.tend(ctx, growth{loadingGCPercent, loadingGarbage}, loadingCheck, g.loaded)
	if ctx.Err() != nil {
		return nil
	}
	debug.FreeOSMemory()
	t := time.NewTicker(servingCheck)
	defer t.Stop()
	laidOut := 0
	for checks := 0; ; checks++ {
		c.bound(growth{percent: c.given})
		if n := g.records(); checks%compactCheck == 0 && n-laidOut >= max(compactFrom, laidOut/4) {
			laidOut = n
			debug.FreeOSMemory()
			made := compactHeap()
			g.log.DebugContext(ctx, "heap laid out", "records", n, "huge_pages", made)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// records is how many there are in the configuration in force.
func (g *Gateway) records() int {
	rt := g.runtime.Load()
	if rt == nil {
		return 0
	}
	n, _ := rt.Set.Size()
	return n
}

// collector sets how far the heap may grow before the next collection. What the environment says (GOGC) is never exceeded,
// and a collector that is off stays off: then the limit of memory (GOMEMLIMIT) is meant to bring collections about.
type collector struct {
	given, set int
	most       int // what the environment allows
	live       [1]metrics.Sample
}

func newCollector() *collector {
	given := debug.SetGCPercent(loadingGCPercent)
	debug.SetGCPercent(given)
	most := given
	if os.Getenv("GOGC") == "" {
		most = math.MaxInt32
	}
	return &collector{given: given, set: given, most: most, live: [1]metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
}

// growth is how far a heap may grow over what is live: in percent, and how many bytes at least.
type growth struct {
	percent int
	least   uint64
}

// tend keeps the heap in bounds until done.
func (c *collector) tend(ctx context.Context, to growth, every time.Duration, done <-chan struct{}) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		c.bound(to)
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		case <-t.C:
		}
	}
}

func (c *collector) bound(to growth) {
	metrics.Read(c.live[:])
	if p := gcPercent(c.most, to, c.live[0].Value.Uint64()); p != c.set {
		debug.SetGCPercent(p)
		c.set = p
	}
}

func (c *collector) restore() { debug.SetGCPercent(c.given) }

// gcPercent is how far a heap with so many live bytes may grow, in percent of them, where the environment allows for most.
func gcPercent(most int, to growth, live uint64) int {
	if most < 0 {
		return most
	}
	garbage := uint64(leastGarbage)
	if live+leastGarbage < roomy {
		garbage = min(mostGarbage, roomy-live)
	}
	inPercent := func(bytes uint64) int { return int(bytes * 100 / max(live, 1<<20)) }
	return min(most, max(min(to.percent, inPercent(garbage)), inPercent(to.least), leastGCPercent))
}

// bodyShare is the part of the process's memory that request bodies may have which are held whole.
const bodyShare = 4

// bodyMemory is how many bytes of request bodies may be held at once; 0: as many as the server finds right.
func (s *Settings) bodyMemory() int64 {
	if s.BodyMemory > 0 {
		return int64(s.BodyMemory) << 20
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return max(limit/bodyShare, 1)
	}
	return 0
}
