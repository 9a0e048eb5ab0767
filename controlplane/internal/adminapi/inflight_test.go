package adminapi

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainWaitsForRequestsWithinReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f inFlight
		start := time.Now()
		f.drain(time.Minute)
		if time.Since(start) != 0 {
			t.Error("drain waited for nothing")
		}
		f.begin()
		f.begin()
		f.end()
		time.AfterFunc(time.Second, f.end)
		f.drain(time.Minute)
		if took := time.Since(start); took != time.Second {
			t.Errorf("drain took %v, want 1s", took)
		}
		f.begin()
		f.drain(time.Second)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("drain took %v, want the limit", took)
		}
	})
}
