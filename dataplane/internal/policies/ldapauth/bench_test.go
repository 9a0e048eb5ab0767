package ldapauth_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

// BenchmarkLogin is of callers who are remembered, and of such for whom the directory on this machine is asked.
func BenchmarkLogin(b *testing.B) {
	p := newPlace(b)
	cold := p.config()
	cold.CacheTtl = durationpb.New(0)
	for name, pol := range map[string]policy.Policy{"warm": p.build(b, p.config(), "a"), "cold": p.build(b, cold, "b")} {
		b.Run(name, func(b *testing.B) {
			x := &exchange.Exchange{}
			p.call(x, pol, "alice", "wonderland", 0)
			b.ReportAllocs()
			for b.Loop() {
				if pol.Request(x) != policy.Next {
					b.Fatal(x.Refusal().Reason())
				}
			}
		})
	}
}
