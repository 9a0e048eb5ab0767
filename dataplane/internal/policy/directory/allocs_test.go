//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package directory_test

import (
	"testing"
)

func TestLookupDoesNotAllocate(t *testing.T) {
	d := large(t, 1000)
	key := []byte("key-500")
	if n := testing.AllocsPerRun(500, func() { d.Credential("key-auth", key) }); n != 0 {
		t.Errorf("Credential() allocates %v times", n)
	}
}
