package inbox_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/inbox"
)

// TestAGroupIsLookedAtByOneAndAgainIfWoken goes through what two workers see.
func TestAGroupIsLookedAtByOneAndAgainIfWoken(t *testing.T) {
	t.Parallel()
	ctx, box := t.Context(), inbox.New()
	next := func() string {
		t.Helper()
		group, ok := box.Next(ctx)
		if !ok {
			t.Fatal("Next() ended")
		}
		return group
	}
	for _, group := range []string{"a", "b", "a"} {
		box.Wake(group)
	}
	if got := next(); got != "a" {
		t.Fatalf("Next() = %s, want a", got)
	}
	box.Wake("a")
	box.Wake("c")
	if diff := cmp.Diff([]string{"b", "c"}, box.Rest()); diff != "" {
		t.Fatalf("Rest() without what is being looked at (-want +got):\n%s", diff)
	}
	if got := box.Rest(); len(got) > 0 {
		t.Fatalf("Rest() = %v, nothing is left", got)
	}
	box.Done("b", "a")
	if got := next(); got != "a" {
		t.Fatalf("Next() = %s, want a, which was woken meanwhile", got)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, ok := box.Next(ended); ok {
		t.Error("Next() goes on after its end")
	}
}

// TestOneSignalWakesAllThatAreNeeded has workers that wait, and groups that come at once: none waits for another to be done.
func TestOneSignalWakesAllThatAreNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		box := inbox.New()
		var mu sync.Mutex
		taken := map[string]bool{}
		var workers sync.WaitGroup
		for range 3 {
			workers.Go(func() {
				group, ok := box.Next(ctx)
				if !ok {
					return
				}
				mu.Lock()
				taken[group] = true
				mu.Unlock()
				<-ctx.Done() // it is not done with it
			})
		}
		synctest.Wait()
		for _, group := range []string{"a", "b", "c"} {
			box.Wake(group)
		}
		synctest.Wait()
		mu.Lock()
		if len(taken) != 3 {
			t.Errorf("taken: %v", taken)
		}
		mu.Unlock()
		cancel()
		workers.Wait()
	})
}
