//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package keyauth_test

import "testing"

func TestWarmRequestsDoNotAllocate(t *testing.T) {
	for _, r := range requests() {
		t.Run(r.name, func(t *testing.T) {
			once := r.warm(t)
			once()
			if n := testing.AllocsPerRun(200, once); n > 0 {
				t.Errorf("%v allocations a request, want none", n)
			}
		})
	}
}
