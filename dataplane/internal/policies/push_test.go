package policies_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

// TestARevokedKeyCountsNoMore, although the chain is the one that has let it in a moment ago.
func TestARevokedKeyCountsNoMore(t *testing.T) {
	t.Parallel()
	b, x := newBench(t, 5), &exchange.Exchange{}
	if b.pass(x) != policy.Next {
		t.Fatalf("the key is refused: %s", x.Refusal().Reason())
	}
	e := b.directory.Edit()
	e.RemoveCredential("c")
	b.directory = e.Directory()
	if b.pass(x) == policy.Next || x.Refusal().Status() != 401 {
		t.Error("a key that was revoked passes")
	}
}
