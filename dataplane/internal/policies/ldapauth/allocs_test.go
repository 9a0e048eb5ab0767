//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package ldapauth_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

func TestCallersWhoAreRememberedDoNotAllocate(t *testing.T) {
	p := newPlace(t)
	pol, x := p.build(t, p.config(), "a"), &exchange.Exchange{}
	if v := p.call(x, pol, "alice", "wonderland", 0); v != policy.Next {
		t.Fatal(x.Refusal().Reason())
	}
	if n := testing.AllocsPerRun(500, func() {
		if pol.Request(x) != policy.Next {
			t.Error(x.Refusal().Reason())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
