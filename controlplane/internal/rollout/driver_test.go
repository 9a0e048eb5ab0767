package rollout_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/rollout"
)

// book keeps the state of one group in memory.
type book struct {
	mu    sync.Mutex
	state *rollout.State
	moves int
	down  error
}

func (b *book) Phases(context.Context) (map[string]rollout.Phase, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return map[string]rollout.Phase{"g": b.state.Phase}, b.down
}

func (b *book) State(context.Context, string) (*rollout.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.down
}

func (b *book) Move(_ context.Context, _, _ string, step func(*rollout.State) (*rollout.State, error)) (*rollout.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := step(b.state)
	if next != nil {
		b.state, b.moves = next, b.moves+1
	}
	return next, err
}

func (b *book) set(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
}

type witness []rollout.Gateway

func (w witness) Evidence(context.Context, string) ([]rollout.Gateway, error) { return w, nil }

func TestTwoReplicasTakeEachStepOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := commit(nil, 10, plan(), false)
		s.Since = time.Now()
		b := &book{state: s, down: errors.New("down")}
		tenth := rollout.Gateway{ID: "gateway-0", Epoch: 1, Applied: 10}
		for i := 0; s.StageOf(tenth.ID, nil) != 1; i++ {
			tenth.ID += "x"
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		follows := 0
		var drivers []*rollout.Driver
		for range 2 {
			d := rollout.NewDriver(rollout.DriverConfig{
				Book: b, Witness: witness{canary(10), tenth}, Follow: func(context.Context) { b.set(func() { follows++ }) },
				Now: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			drivers = append(drivers, d)
			wg.Go(func() { _ = d.Run(ctx) })
		}
		<-time.After(2 * time.Minute)
		b.set(func() {
			if b.moves != 0 {
				t.Error("a step was taken while the database was down")
			}
			b.down = nil
		})
		<-time.After(10 * time.Second)
		b.set(func() {
			if got := show(b.state); got != "rolling[10 10 9]" || b.moves != 1 {
				t.Errorf("after the first soak: %s in %d moves", got, b.moves)
			}
		})
		<-time.After(time.Hour)
		b.set(func() {
			if got := show(b.state); got != "done[10 10 10]" || b.moves != 2 || follows == 0 {
				t.Errorf("after the second: %s in %d moves, targets read again %d times", got, b.moves, follows)
			}
			b.state = commit(nil, 11, plan(), false)
			b.state.Phase = rollout.Aborted
		})
		<-time.After(5 * time.Second)
		for _, d := range drivers {
			if !d.Aborted()["g"] {
				t.Error("a replica does not tell that the roll-out was aborted")
			}
		}
	})
}
