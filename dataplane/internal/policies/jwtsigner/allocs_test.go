//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package jwtsigner_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/policytest"
	"keyward.dev/shared/check/jwk"
)

func TestRememberedTokensDoNotAllocate(t *testing.T) {
	for _, alg := range []jwk.Algorithm{jwk.ES256, jwk.RS256} {
		pol, who, x := newPlace(t, alg).build(t, config(), "a"), alice(), &exchange.Exchange{}
		forged := exchange.Field("authorization", "Bearer forged")
		pass := func() {
			x.Reset()
			x.Principal, x.Timings.Received = who, policytest.Epoch()
			x.Proofs = append(x.Proofs, who)
			x.Request.Header.Add(forged)
			if pol.Request(x) != policy.Next || len(x.Request.Header) != 1 {
				t.Fatal(x.Refusal().Reason())
			}
		}
		pass()
		if n := testing.AllocsPerRun(500, pass); n != 0 {
			t.Errorf("%s: %v allocations", alg, n)
		}
	}
}
