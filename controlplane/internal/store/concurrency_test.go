package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

func TestConcurrentWritersGiveDenseAscendingRevisions(t *testing.T) {
	t.Parallel()
	const writers, each = 6, 15
	db := open(t, "default", "other")
	tail := newTailer(t, db)
	var wg sync.WaitGroup
	errs := make(chan error, 2*writers*each)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				errs <- db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
					return bump(ctx, tx, fmt.Sprintf("%d-%d", w, i))
				})
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := tail.stop(); got != writers*each {
		t.Errorf("the tailer saw %d revisions, want %d", got, writers*each)
	}
	changes, err := db.Store.ChangesSince(t.Context(), "default", 0, 0)
	if err != nil || len(changes) != writers*each {
		t.Fatalf("%d changes, %v; want %d", len(changes), err, writers*each)
	}
	bodies := map[string]bool{}
	for i, c := range changes {
		if c.Revision != int64(i)+1 || bodies[string(c.Sealed)] {
			t.Fatalf("change %d: revision %d, body %q", i, c.Revision, c.Sealed)
		}
		bodies[string(c.Sealed)] = true
		if i > 0 && c.At.Before(changes[i-1].At) {
			t.Errorf("revision %d is older than the one before it", c.Revision)
		}
	}
	if h, _ := db.Store.Head(t.Context(), "other"); h.Revision != 0 {
		t.Errorf("the other group is at revision %d", h.Revision)
	}
}

// tailer follows a group by head and changes while others write.
type tailer struct {
	end  chan struct{}
	seen chan int64
}

// newTailer fails the test when a revision is missed, seen twice or out of order, or when a head is visible before its
// change.
func newTailer(t *testing.T, db *storetest.DB) *tailer {
	tl := &tailer{end: make(chan struct{}), seen: make(chan int64, 1)}
	go func() {
		var last int64
		defer func() { tl.seen <- last }()
		for ending := false; !ending; {
			select {
			case <-tl.end:
				ending = true // one more round sees what was committed before
			default:
			}
			h, err := db.Store.Head(t.Context(), "default")
			if err != nil {
				t.Error(err)
				return
			}
			changes, err := db.Store.ChangesSince(t.Context(), "default", last, 4)
			for err == nil && len(changes) > 0 {
				for _, c := range changes {
					if c.Revision != last+1 {
						t.Errorf("after revision %d came %d", last, c.Revision)
					}
					last = c.Revision
				}
				changes, err = db.Store.ChangesSince(t.Context(), "default", last, 4)
			}
			if err != nil || last < h.Revision {
				t.Errorf("head at %d, changes up to %d, err %v", h.Revision, last, err)
				return
			}
		}
	}()
	return tl
}

func (tl *tailer) stop() int64 {
	close(tl.end)
	return <-tl.seen
}

func TestASnapshotDoesNotSeeLaterWrites(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	err := db.Store.InSnapshot(t.Context(), "default", func(ctx context.Context, r *store.Reader) error {
		inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", row(1, "routes", "a")) })
		n := 0
		if err := r.Rows(ctx, func(store.Row) error { n++; return nil }); err != nil {
			return err
		}
		changes, err := r.ChangesSince(ctx, 0, 0)
		if n != 0 || len(changes) != 0 {
			t.Errorf("the snapshot saw %d rows and %d changes of a later write", n, len(changes))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWriterSeesWhatTheFormerOneWrote(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	locked, waiting := make(chan struct{}), make(chan error, 1)
	go func() {
		<-locked
		waiting <- db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
			n := 0
			if err := tx.Rows(ctx, func(store.Row) error { n++; return nil }); err != nil {
				return err
			}
			if n != 1 || tx.Head().Revision != 1 {
				t.Errorf("the second writer saw %d rows at revision %d", n, tx.Head().Revision)
			}
			return nil
		})
	}()
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		close(locked)
		return bump(ctx, tx, "1", row(1, "routes", "a"))
	})
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
}
