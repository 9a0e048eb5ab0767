//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package status_test

import (
	"testing"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
)

func TestObserveDoesNotAllocate(t *testing.T) {
	s, _, _, _ := fixture()
	by := &exchange.PolicyRef{Type: "acl", Name: "acl", OwnerKind: "routes", OwnerName: "r"}
	for _, route := range []string{"r", "", "no", "room", "left"} {
		x, o := lasted(route, time.Second), accesslog.Outcome{Status: 200, BytesIn: 1, BytesOut: 1}
		x.Proofs = []*exchange.Principal{{How: "jwt-auth"}, {How: "key-auth"}}
		s.Observe(x, o)
		s.Reported(x, by, nil)
		if n := testing.AllocsPerRun(100, func() { s.Observe(x, o); s.Reported(x, by, nil) }); n != 0 {
			t.Errorf("Observe of route %q makes %v allocations, want 0", route, n)
		}
	}
}
