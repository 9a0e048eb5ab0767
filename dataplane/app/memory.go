package app

import (
	"context"
	"runtime/debug"
	"time"
)

// loadingGCPercent is how far the heap may grow over what is live while the first configuration is folded and compiled.
// What is decoded then is garbage at once, and as much again as what stays: collecting more often keeps the peak,
// which is what a pod's memory limit has to allow for, close to what the gateway needs afterwards. Still more often, and half
// of the time until the gateway is ready goes into it.
const loadingGCPercent = 60

const (
	// compactFrom is how many records a set has for which it is worth while to lay out the heap, and how many more
	// before it is laid out again, or a quarter of them all.
	compactFrom = 10_000
	// compactCheck is how often it is looked whether there are so many.
	compactCheck = 30 * time.Second
)

// collectOften makes the collector keep memory low until loaded is closed, and then gives back to the system what is no
// longer needed. A lower percentage in the environment (GOGC) stays; so does a collector that is off.
func collectOften(ctx context.Context, loaded <-chan struct{}) {
	before := debug.SetGCPercent(loadingGCPercent)
	defer debug.SetGCPercent(before)
	if before < loadingGCPercent {
		debug.SetGCPercent(before)
	}
	select {
	case <-ctx.Done():
	case <-loaded:
		debug.FreeOSMemory()
	}
}

// keepMemory looks after the heap: it keeps it low while there is nothing yet to serve with, and lays it out for serving.
func (g *Gateway) keepMemory(ctx context.Context) error {
	collectOften(ctx, g.loaded)
	t := time.NewTicker(compactCheck)
	defer t.Stop()
	for laidOut := 0; ; {
		if n := g.records(); n-laidOut >= max(compactFrom, laidOut/4) {
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
