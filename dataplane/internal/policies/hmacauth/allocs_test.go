//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package hmacauth_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func TestRequestsDoNotAllocate(t *testing.T) {
	g := newGateway(t, withSecret(t, "a"))
	c, x := g.build(t, "r", &policyv1.HmacAuth{}), &exchange.Exchange{}
	for name, tt := range map[string]struct {
		fields exchange.Headers
		want   policy.Verdict
	}{
		"known":    {signed(g.now, "a", secret, ""), policy.Next},
		"stranger": {signed(g.now, "b", secret, ""), policy.Stop},
	} {
		pass := func() {
			if g.fill(x, tt.fields); c.Request(x) != tt.want {
				t.Fatalf("%s: answer %d", name, x.Response.Status)
			}
		}
		for range 10 {
			pass()
		}
		if got := testing.AllocsPerRun(500, pass); got != 0 {
			t.Errorf("%s: a request allocates %v times", name, got)
		}
	}
}
