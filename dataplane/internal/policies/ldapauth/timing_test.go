package ldapauth_test

import (
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy/policytest"
)

// TestTimeTellsOfUsersOnlyWhatTheDirectoryDoes asks whether a wrong password takes as long for a user who does not exist as for one
// who does, with a directory that keeps passwords in the clear, so that checking one takes it no time.
func TestTimeTellsOfUsersOnlyWhatTheDirectoryDoes(t *testing.T) {
	p := newPlace(t)
	cfg := p.config()
	cfg.CacheTtl = durationpb.New(0)
	pol, x, from := p.build(t, cfg, "a"), &exchange.Exchange{}, 0
	guess := func(user func(i int) string) func(int) {
		return func(i int) {
			from++
			p.from = netip.MustParseAddr(fmt.Sprintf("198.18.%d.%d", from>>8, from&255)) // nobody has guessed there
			p.call(x, pol, user(i), "wrong", 0)
			if x.Refusal().Status() != 401 {
				t.Errorf("%s: %d %s", user(i), x.Refusal().Status(), x.Refusal().Reason())
			}
		}
	}
	guess(func(int) string { return "bob" })(0) // opens connections
	user, nobody := func(i int) string { return []string{"alice", "bob"}[i%2] }, func(i int) string { return fmt.Sprint("nobod", i) }
	if err := policytest.TellApart(policytest.Times(80, guess(user), guess(nobody))); err != nil {
		t.Error(err)
	}
}
