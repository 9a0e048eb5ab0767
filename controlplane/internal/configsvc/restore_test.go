package configsvc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// ofGroup are the tables that a write of a group touches, in an order in which they can be filled.
var ofGroup = []string{"resources", "changes", "audit", "heads", "rollouts", "replica_reports"}

// backup keeps the database as it is and returns how to restore it.
func (w *world) backup(t *testing.T) (restore func()) {
	t.Helper()
	w.db.Exec(t, `create schema backup`)
	for _, table := range ofGroup {
		w.db.Exec(t, fmt.Sprintf(`create table backup.%[1]s as table %[1]s`, table))
	}
	return func() {
		t.Helper()
		for _, table := range ofGroup {
			w.db.Exec(t, `delete from `+table, fmt.Sprintf(`insert into %[1]s select * from backup.%[1]s`, table))
		}
	}
}

// seen says that a gateway runs what a replica has.
func (w *world) seen(t *testing.T, v *snapshot.View) {
	t.Helper()
	report := store.ReplicaReport{Group: "g", Replica: "r", At: time.Now(), Gateways: []store.GatewayReport{
		{ID: "11111111-1111-1111-1111-111111111111", Epoch: v.Epoch, Revision: v.Revision},
	}}
	if err := w.db.Store.SaveReport(t.Context(), report); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) restore(t *testing.T, force bool) configsvc.RestoreResult {
	t.Helper()
	res, err := r.Restore(t.Context(), configsvc.RestoreRequest{Actor: "test", Group: "g", Force: force})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestARestoreBeginsANewEpochWhereChangesWereLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	saw := w.replica(t)
	kept := saw.mustWrite(t, service("kept"))
	before := saw.fresh(t)
	restore := w.backup(t)
	lost := saw.mustWrite(t, service("lost"), service("lost-too"))
	later := saw.mustWrite(t, consumer("lost"))
	restore()
	w.seen(t, later.View)

	if _, err := saw.groups.Fresh(t.Context(), "g"); !errors.Is(err, snapshot.ErrRewound) || !saw.groups.Rewound("g") {
		t.Fatalf("the replica that saw more: %v, rewound = %t", err, saw.groups.Rewound("g"))
	}
	got := w.replica(t).restore(t, false) // as another process
	if !got.Began || got.Revision != kept.Revision || got.Lost != later.Revision || got.Epoch == before.Epoch {
		t.Fatalf("Restore = %+v, want a new epoch at %d, for the %d that was lost", got, kept.Revision, later.Revision)
	}
	view := saw.fresh(t)
	if view.Epoch != got.Epoch || view.Digest != before.Digest || saw.groups.Rewound("g") {
		t.Errorf("the replica that saw more is at %d of %d, digest as before: %t", view.Revision, view.Epoch, view.Digest == before.Digest)
	}
	if again := w.replica(t).restore(t, false); again.Began || again.Lost != 0 {
		t.Errorf("a second Restore = %+v, want nothing", again)
	}
	if next := saw.mustWrite(t, service("next")); next.Revision != lost.Revision {
		t.Errorf("the next change is %d, want %d", next.Revision, lost.Revision)
	}
	w.intact(t, "group.restore")
}

// intact holds that the audit chain of the group verifies and has such a row, and that its history is whole.
func (w *world) intact(t *testing.T, action string) {
	t.Helper()
	r := w.replica(t)
	vault, err := r.sealer.Group(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	var report audit.Report
	err = w.db.Store.InSnapshot(t.Context(), "g", func(ctx context.Context, r *store.Reader) error {
		report, err = audit.Verify(ctx, r, vault)
		return err
	})
	if err != nil || !report.Intact {
		t.Errorf("the audit chain: %+v, %v", report, err)
	}
	rows, err := w.db.Store.AuditPage(t.Context(), "g", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, row := range rows {
		found = found || row.Action == action
	}
	if !found {
		t.Errorf("no audit row says %s", action)
	}
	if _, err := r.past.At(t.Context(), "g", 1, history.Newest); err != nil {
		t.Errorf("the history: %v", err)
	}
}

func TestARestoreIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("of a group about which nothing is amiss", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		r := w.replica(t)
		view := r.mustWrite(t, service("a")).View
		w.seen(t, view)
		if got := r.restore(t, false); got.Began || r.fresh(t).Epoch != view.Epoch {
			t.Errorf("Restore = %+v, epoch was %d", got, view.Epoch)
		}
		if got := r.restore(t, true); !got.Began || r.fresh(t).Epoch == view.Epoch {
			t.Errorf("a forced Restore = %+v, epoch was %d", got, view.Epoch)
		}
	})
	t.Run("of a set that does not verify", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		r := w.replica(t)
		r.mustWrite(t, service("a"))
		r.mustWrite(t, service("b"))
		w.db.Exec(t, `delete from resources where name = 'a'`, `delete from changes where revision = 2`)
		_, err := w.replica(t).Restore(t.Context(), configsvc.RestoreRequest{Actor: "test", Group: "g", Force: true})
		if err == nil || !strings.Contains(err.Error(), "does not verify") {
			t.Errorf("Restore = %v", err)
		}
	})
	t.Run("of what is no group", func(t *testing.T) {
		t.Parallel()
		r := newWorld(t).replica(t)
		for _, name := range []string{store.SystemGroup, "nobody"} {
			if _, err := r.Restore(t.Context(), configsvc.RestoreRequest{Actor: "test", Group: name, Force: true}); err == nil {
				t.Errorf("Restore of %s was done", name)
			}
		}
	})
}

// Two replicas: one has lost news of the last change, and commits its own under the same number after a fail-over without it.
func TestAnotherRevisionOfTheSameNumberIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	saw, other := w.replica(t), w.replica(t)
	saw.mustWrite(t, service("kept"))
	other.fresh(t)
	restore := w.backup(t)
	saw.mustWrite(t, service("lost"))
	restore()
	other.mustWrite(t, service("instead"))
	heads, err := w.db.Store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !saw.groups.Behind(heads[0]) || other.groups.Behind(heads[0]) {
		t.Errorf("Behind = %t for the replica that saw another revision %d, %t for the one that wrote it",
			saw.groups.Behind(heads[0]), heads[0].Revision, other.groups.Behind(heads[0]))
	}
	if _, err := saw.groups.Fresh(t.Context(), "g"); !errors.Is(err, snapshot.ErrRewound) {
		t.Errorf("Fresh = %v, want ErrRewound", err)
	}
}

// A reader whose snapshot of the database is older than what its own replica has committed meanwhile has seen no rewind.
func TestReadsBesideWritesAreNotTakenForARewind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	written := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-written:
					return
				default:
				}
				if _, err := r.groups.Fresh(t.Context(), "g"); err != nil {
					t.Errorf("Fresh = %v", err)
					return
				}
			}
		})
	}
	for i := range 60 {
		r.mustWrite(t, service(fmt.Sprintf("s%d", i)))
	}
	close(written)
	wg.Wait()
	if r.groups.Rewound("g") {
		t.Error("the replica takes the database for rewound")
	}
}

// What a stage ran before is given up with its epoch; afterwards changes go by stages again.
func TestARestoredGroupIsStagedInItsNewEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	saw := w.replica(t)
	saw.mustWrite(t, staged())
	saw.mustWrite(t, service("kept"))
	if got := saw.targets(t); got != "rolling[3 1]" {
		t.Fatal(got)
	}
	restore := w.backup(t)
	saw.mustWrite(t, service("lost"))
	later := saw.fresh(t)
	restore()
	w.seen(t, later)
	got := w.replica(t).restore(t, false)
	state, err := saw.ledger().State(t.Context(), "g")
	if err != nil || state.Epoch != got.Epoch || saw.targets(t) != "done[3 3]" {
		t.Errorf("after the restore: %s in epoch %d, %v; want all at revision 3 of epoch %d", saw.targets(t), state.Epoch, err, got.Epoch)
	}
	saw.fresh(t)
	saw.mustWrite(t, service("new"))
	if got := saw.targets(t); got != "rolling[4 3]" {
		t.Errorf("after a change: %s", got)
	}
}
