package jwtsigner_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/policytest"
	"keyward.dev/shared/check/jwk"
)

// BenchmarkSign is what a caller costs whose token is remembered, and one who needs a new one.
func BenchmarkSign(b *testing.B) {
	for _, alg := range []jwk.Algorithm{jwk.RS256, jwk.ES256, jwk.ES384, jwk.EdDSA} {
		for name, warm := range map[string]bool{"remembered": true, "cold": false} {
			b.Run(string(alg)+"/"+name, func(b *testing.B) {
				p := newPlace(b, alg)
				if !warm {
					p.host.Signing.Tokens = hostsvc.NewTokenTable(1) // has room for none
				}
				pol, who, x := p.build(b, config(), "a"), alice(), &exchange.Exchange{}
				b.ReportAllocs()
				for b.Loop() {
					x.Reset()
					x.Principal, x.Timings.Received = who, policytest.Epoch()
					if pol.Request(x) != policy.Next {
						b.Fatal(x.Refusal().Reason())
					}
				}
			})
		}
	}
}
