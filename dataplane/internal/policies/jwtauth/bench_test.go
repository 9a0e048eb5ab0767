package jwtauth_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

// BenchmarkToken is what a token costs that was verified before, and one that was not.
func BenchmarkToken(b *testing.B) {
	for _, alg := range jwk.Default() {
		k := tokentest.NewKey(b, alg, "k")
		for name, warm := range map[string]bool{"cached": true, "cold": false} {
			b.Run(string(alg)+"/"+name, func(b *testing.B) {
				w := newWorld(b)
				if !warm {
					w.host.Tokens = hostsvc.NewTokenTable(1) // has room for none
				}
				p := w.build(b, static(b, k))
				header := exchange.Field("Authorization", "Bearer "+k.Token(nil, w.claims(map[string]any{"scope": "read write", "exp": w.now.Unix() + 86400})))
				x := &exchange.Exchange{}
				b.ReportAllocs()
				for b.Loop() {
					x.Reset()
					x.Directory, x.Timings.Received = w.directory, w.now
					x.Request.Header.Add(header)
					if p.Request(x) != policy.Next {
						b.Fatal(x.Refusal().Reason())
					}
				}
			})
		}
	}
}
