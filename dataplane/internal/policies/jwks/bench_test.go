package jwks_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// BenchmarkSet is of a set that is published. It is written when the configuration is built: there is no cold path.
func BenchmarkSet(b *testing.B) {
	p, err := build(b, &policyv1.Jwks{Certificates: []string{"gateway"}})
	if err != nil {
		b.Fatal(err)
	}
	c := policy.NewRoute([]policy.Link{{Policy: p}}, nil, nil)
	x, method := &exchange.Exchange{}, []byte("GET")
	b.ReportAllocs()
	for b.Loop() {
		x.Reset()
		x.Request.Method = method
		if c.Request(x); x.Response.Status != 200 {
			b.Fatal(x.Response.Status)
		}
	}
}
