package syncclient_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/syncclient"
)

// left is a fallback that fails for a while.
type left struct {
	set      *state.Set
	failures int

	mu      sync.Mutex
	opened  int
	serving bool
	seen    []int64
}

// Open implements syncclient.Fallback.
func (l *left) Open(context.Context) (*state.Set, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened++
	if l.opened <= l.failures {
		return nil, errors.New("not there")
	}
	return l.set, nil
}

// Seen implements syncclient.Fallback.
func (l *left) Seen(set *state.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, set.Revision)
}

// Serve implements syncclient.Fallback.
func (l *left) Serve(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serving = yes
}

func (l *left) look() (opened int, serving bool, seen int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened, l.serving, len(l.seen)
}

// leave has the control plane commit revision 1, and leave it behind.
func leave(t *testing.T, c *control) *left {
	t.Helper()
	c.src.Change([]statetest.Record{route("u1", "a", "1"), route("u2", "b", "2")}, nil)
	return &left{set: statetest.Fold(t, state.NewFolder(state.Empty(), state.Limits{}), c.src.Reset())}
}

func TestANewGatewayServesFromWhatWasLeftAndEnrolsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		l := leave(t, c)
		l.failures = 2 // the file comes late
		edit, back := away()
		w := start(t, c, func(cfg *syncclient.Config) { edit(cfg); cfg.Fallback = l })
		defer w.end()
		if set := w.until(t, 1); set.Len("routes") != 2 {
			t.Errorf("%d routes", set.Len("routes"))
		}
		synctest.Wait()
		if opened, serving, seen := l.look(); opened != 3 || !serving || seen != 0 {
			t.Errorf("opened %d times, serving %t, %d sets seen", opened, serving, seen)
		}
		if st := w.client.Status(); st.Gateway != "" || st.Revision != 1 {
			t.Errorf("gateway %q at revision %d, want none at 1", st.Gateway, st.Revision)
		}
		c.set(func() { c.src.Change([]statetest.Record{route("u3", "c", "3")}, nil) })
		back()
		set := w.until(t, 2)
		if h := <-c.hellos; h.GetRevision() != 1 || h.GetEpoch() != 1 {
			t.Errorf("hello = %v, want to go on from revision 1", h)
		}
		synctest.Wait()
		if _, serving, seen := l.look(); set.Len("routes") != 3 || serving || seen == 0 {
			t.Errorf("%d routes; serving: %t; %d sets seen", set.Len("routes"), serving, seen)
		}
		if st := w.client.Status(); st.Gateway == "" {
			t.Error("it did not enrol")
		}
	})
}

func TestWhatWasLeftIsNotUsedIfTheControlPlaneIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		l := leave(t, c)
		w := start(t, c, func(cfg *syncclient.Config) { cfg.Fallback = l })
		defer w.end()
		w.until(t, 1)
		<-time.After(time.Minute)
		if opened, serving, seen := l.look(); opened != 0 || serving || seen == 0 {
			t.Errorf("opened %d times, serving %t, %d sets seen", opened, serving, seen)
		}
	})
}

func TestAGatewayThatMayNotJoinDoesNotServeFromWhatWasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(t)
		l := leave(t, c)
		c.refuse = status.Error(codes.PermissionDenied, "the join token is used up")
		w := start(t, c, func(cfg *syncclient.Config) { cfg.Fallback = l })
		defer w.end()
		<-time.After(time.Minute)
		if opened, _, _ := l.look(); opened != 0 || len(w.applied) != 0 {
			t.Errorf("opened %d times, applied %d sets", opened, len(w.applied))
		}
	})
}

func TestTheCacheComesBeforeWhatWasLeft(t *testing.T) {
	t.Parallel()
	cacheTest(t, func(t *testing.T, c *control, d *cached) {
		d.firstLife(t, c)
		edit, _ := away()
		l := &left{}
		w := d.life(t, c, func(cfg *syncclient.Config) { edit(cfg); cfg.Fallback = l })
		w.until(t, 1)
		synctest.Wait()
		if opened, _, _ := l.look(); opened != 0 || !d.cache.State().Serving {
			t.Errorf("what was left was opened %d times", opened)
		}
		w.end()
		<-time.After(25 * time.Hour) // too old a cache
		l.set = statetest.Fold(t, state.NewFolder(state.Empty(), state.Limits{}), c.src.Reset())
		edit, _ = away()
		w = d.life(t, c, func(cfg *syncclient.Config) { edit(cfg); cfg.Fallback = l })
		defer w.end()
		w.until(t, 1)
		synctest.Wait()
		if opened, serving, _ := l.look(); opened != 1 || !serving || d.cache.State().Serving {
			t.Errorf("what was left was opened %d times, serving: %t", opened, serving)
		}
	})
}
