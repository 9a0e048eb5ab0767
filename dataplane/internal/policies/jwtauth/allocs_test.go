//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package jwtauth_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

func TestRememberedTokensDoNotAllocate(t *testing.T) {
	w, k := newWorld(t), tokentest.NewKey(t, jwk.ES256, "k")
	w.publish(nil, k)
	for name, p := range map[string]policy.Policy{"fetched": w.build(t, fetched()), "static": w.build(t, static(t, k))} {
		header := exchange.Field("Authorization", "Bearer "+k.Token(nil, w.claims(nil)))
		x := &exchange.Exchange{}
		pass := func() {
			x.Reset()
			x.Directory, x.Timings.Received = w.directory, w.now
			x.Request.Header.Add(header)
			if p.Request(x) != policy.Next {
				t.Fatalf("%s: %s", name, x.Refusal().Reason())
			}
		}
		pass()
		if n := testing.AllocsPerRun(500, pass); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
