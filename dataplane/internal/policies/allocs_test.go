//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package policies_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func TestChainsDoNotAllocate(t *testing.T) {
	for _, n := range []int{0, 1, 5} {
		b, x := newBench(t, n), &exchange.Exchange{}
		if v := b.pass(x); v != policy.Next {
			t.Fatalf("a chain of %d stops: %d %s", n, x.Response.Status, x.Response.Body)
		}
		b.pass(x)
		if got := testing.AllocsPerRun(500, func() { b.pass(x) }); got != 0 {
			t.Errorf("a chain of %d policies allocates %v times a request", n, got)
		}
	}
}

func TestRefusalsDoNotAllocate(t *testing.T) {
	b, x := newBench(t, 5), &exchange.Exchange{}
	b.headers = b.headers[:3]
	b.pass(x)
	b.pass(x)
	if got := testing.AllocsPerRun(500, func() { b.pass(x) }); got != 0 || x.StoppedBy == nil {
		t.Errorf("a refusal allocates %v times", got)
	}
}

func TestCorsDoesNotAllocate(t *testing.T) {
	c := policy.NewRoute([]policy.Link{build(t, "cors", &policyv1.Cors{AllowOrigins: []string{"https://*.app.example"}})}, nil, nil)
	origin, x := exchange.Field("Origin", "https://x.app.example"), &exchange.Exchange{}
	pass := func() {
		x.Reset()
		x.Request.Header.Add(origin)
		c.Request(x)
		policy.Unwind(x)
	}
	pass()
	if got := testing.AllocsPerRun(500, pass); got != 0 || !x.Response.Header.Has("Access-Control-Allow-Origin") {
		t.Errorf("cors allocates %v times; response %v", got, x.Response.Header)
	}
}
