package changefeed_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/controlplane/internal/changefeed"
	"keyward.dev/controlplane/internal/store"
)

// world is a database and the open groups of a replica.
type world struct {
	mu       sync.Mutex
	heads    []store.HeadStamp
	wakeups  map[string]int64
	down     error
	at       map[string]int64
	caughtUp []string
	woken    []string
}

func (w *world) Heads(context.Context) ([]store.HeadStamp, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heads, w.down
}

func (w *world) Wakeups(context.Context) (map[string]int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copied := map[string]int64{}
	maps.Copy(copied, w.wakeups)
	return copied, w.down
}

func (w *world) Behind(at store.HeadStamp) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, open := w.at[at.Group]
	return open && have != at.Revision
}

func (w *world) CatchUp(_ context.Context, group string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.caughtUp = append(w.caughtUp, group)
	for _, h := range w.heads {
		if h.Group == group {
			w.at[group] = h.Revision
		}
	}
	return nil
}

func (w *world) set(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func run(t *testing.T, w *world, hints chan store.Hint) {
	feed := changefeed.New(changefeed.Config{
		Database: w, Groups: w, Hints: hints, Interval: time.Second, Log: slog.New(slog.DiscardHandler),
		Wake: func(_ context.Context, topic string) { w.set(func() { w.woken = append(w.woken, topic) }) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- feed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestAChangeIsFoundWithoutItsNotification(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{at: map[string]int64{"open": 3}}
		run(t, w, make(chan store.Hint))
		synctest.Wait()
		w.set(func() {
			w.heads = []store.HeadStamp{{Group: "open", Revision: 4}, {Group: "sealed", Revision: 9}}
		})
		<-time.After(1100 * time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]string{"open"}, w.caughtUp); diff != "" {
			t.Errorf("groups that caught up (-want +got):\n%s", diff)
		}
	})
}

func TestAHintIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{at: map[string]int64{"open": 3}}
		hints := make(chan store.Hint)
		run(t, w, hints)
		synctest.Wait()
		w.set(func() { w.heads = []store.HeadStamp{{Group: "open", Revision: 4}} })
		hints <- store.Hint{Group: "open"}
		synctest.Wait() // no time passes
		if len(w.caughtUp) != 1 {
			t.Errorf("caught up %v, want once", w.caughtUp)
		}
	})
}

func TestEachTopicWakesWhenItsCounterMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{wakeups: map[string]int64{"gateways": 1}}
		run(t, w, make(chan store.Hint))
		<-time.After(5 * time.Second)
		w.set(func() { w.wakeups["gateways"] = 2 })
		<-time.After(5 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"gateways", "gateways"}, w.woken); diff != "" {
			t.Errorf("woken once at the start and once for the change (-want +got):\n%s", diff)
		}
	})
}

func TestADatabaseThatComesBackIsFollowedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{at: map[string]int64{"open": 3}, down: errors.New("down")}
		run(t, w, make(chan store.Hint))
		<-time.After(10 * time.Second)
		w.set(func() { w.down, w.heads = nil, []store.HeadStamp{{Group: "open", Revision: 4}} })
		<-time.After(1100 * time.Millisecond)
		synctest.Wait()
		if len(w.caughtUp) != 1 {
			t.Errorf("caught up %v, want once", w.caughtUp)
		}
	})
}
