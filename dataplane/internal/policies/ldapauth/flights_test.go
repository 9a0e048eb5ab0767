package ldapauth_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/shared/testkit"
)

// TestOneLoginOverManyConnections: a client that comes with one password fifty times at once guesses once. While the directory
// hangs that would be fifty guesses of which nothing is known, and a refusal for who is remembered.
func TestOneLoginOverManyConnections(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cfg := p.config()
	cfg.CacheTtl = durationpb.New(0)
	asked, known := p.build(t, cfg, "a"), p.build(t, p.config(), "b")
	p.want(t, known, "alice", "wonderland", 0, 0, "")
	for _, step := range []struct {
		name string
		want int
		turn func()
	}{
		{"while it is well", 0, func() {}},
		{"while it hangs", 503, p.server.Pause},
		{"after that", 0, func() {
			p.server.Resume()
			testkit.Await(t, testkit.Deadline, func() error {
				x := &exchange.Exchange{}
				if p.call(x, asked, "alice", "wonderland", 0) != policy.Next {
					return fmt.Errorf("it is back: %d %s", x.Refusal().Status(), x.Refusal().Reason())
				}
				return nil
			})
		}},
	} {
		step.turn()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				x := &exchange.Exchange{}
				got := 0
				if p.call(x, asked, "alice", "wonderland", 0) != policy.Next {
					got = x.Refusal().Status()
				}
				if got != step.want {
					t.Errorf("%s: one of fifty is answered %d, want %d", step.name, got, step.want)
				}
			})
		}
		for range 20 {
			p.want(t, known, "alice", "wonderland", time.Second, 0, "")
		}
		all.Wait()
	}
}
