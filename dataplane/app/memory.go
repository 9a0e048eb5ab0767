package app

import (
	"context"
	"runtime/debug"
)

// loadingGCPercent is how far the heap may grow over what is live while the first configuration is folded and compiled.
// What is decoded then is garbage at once, and as much again as what stays: collecting twice as often keeps the peak,
// which is what a pod's memory limit has to allow for, close to what the gateway needs afterwards.
const loadingGCPercent = 30

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
