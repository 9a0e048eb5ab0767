//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package hostsvc_test

import (
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
)

func TestVerifiedDoesNotAllocate(t *testing.T) {
	v, now := hostsvc.NewVerified(0), time.Now()
	hash, password := []byte("hash"), []byte("password")
	v.Put(proof(v, "hash", "password"), now.Add(time.Hour))
	if n := testing.AllocsPerRun(500, func() {
		var p hostsvc.Proof
		v.Proof(&p, hash, password)
		if !v.Has(&p, now) {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
