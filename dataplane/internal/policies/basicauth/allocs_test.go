//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package basicauth_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func TestRememberedLoginsDoNotAllocate(t *testing.T) {
	w := newWorld(t, map[string]string{"alice": quick})
	p := w.build(&policyv1.BasicAuth{})
	x, field := &exchange.Exchange{}, authorization("alice", known)
	pass := func() {
		w.prepare(x, field)
		if p.Request(x) != policy.Next {
			t.Error("refused")
		}
	}
	pass()
	if n := testing.AllocsPerRun(500, pass); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
