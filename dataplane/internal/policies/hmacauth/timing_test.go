//go:build !race

// Under the race detector a thousand requests are no batch of a millisecond.

package hmacauth_test

import (
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/policy/policytest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestNoTimeTellsWhichKeysExist asks whether a wrong signature takes as long under the id of a key that there is as under one
// that nobody has. One request takes a microsecond or two, which a network hides; a thousand at once do not.
func TestNoTimeTellsWhichKeysExist(t *testing.T) {
	const keys, batch, n = 16, 1000, 60
	var creds []directory.Credential
	var known, unknown []exchange.Headers
	for i := range keys {
		creds = append(creds, withSecret(t, fmt.Sprintf("key-%02d", i)))
	}
	g := newGateway(t, creds...)
	for i := range keys {
		known = append(known, signed(g.now, fmt.Sprintf("key-%02d", i), "another secret of the same length", ""))
		unknown = append(unknown, signed(g.now, fmt.Sprintf("kez-%02d", i), "another secret of the same length", ""))
	}
	c, x := g.build(t, "r", &policyv1.HmacAuth{}), &exchange.Exchange{}
	ask := func(all []exchange.Headers) func(int) {
		return func(int) {
			for i := range batch {
				if g.fill(x, all[i%keys]); c.Request(x) == policy.Next {
					t.Fatal("a wrong signature passes")
				}
			}
		}
	}
	if err := policytest.TellApart(policytest.Times(n, ask(known), ask(unknown))); err != nil {
		t.Error(err)
	}
}
