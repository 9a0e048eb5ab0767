//go:build !race

package compile_test

import "testing"

// A whole decision — match, edge, authentication, authorisation, limit — allocates nothing once it is warm. The race
// detector makes pools drop what they are given, so it is not measured under it.
func TestDecisionDoesNotAllocate(t *testing.T) {
	_, decideOnce := busy(t, 100)
	if n := testing.AllocsPerRun(1000, decideOnce); n != 0 {
		t.Errorf("a decision makes %v allocations, want 0", n)
	}
}
