package rest_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"keyward.dev/shared/run/rest"
	"keyward.dev/shared/testkit"
)

// asked is how many collections have been asked for: those that the collector begins by itself are not counted.
func asked() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumForcedGC
}

// TestGarbageIsCollectedAtRest does not run beside other tests, which would allocate.
func TestGarbageIsCollectedAtRest(t *testing.T) {
	kept := make([]byte, 64<<20)
	runtime.GC()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rest.Collect(ctx) }()
	before := asked()
	garbage := make([]byte, 45<<20) // of the 64 to go until the collector begins by itself
	runtime.KeepAlive(garbage)
	testkit.Await(t, 20*time.Second, func() error {
		if asked() == before {
			return errors.New("nothing was collected since the work ended")
		}
		return nil
	})
	runtime.KeepAlive(kept)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
