package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"keyward.dev/controlplane/internal/store"
)

// TestATransactionSeesWhatItWrote: statements wait for each other, but none waits for a question.
func TestATransactionSeesWhatItWrote(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		if err := bump(ctx, tx, "1", row(1, "routes", "a")); err != nil {
			return err
		}
		changes, err := tx.ChangesSince(ctx, 0)
		if err != nil || len(changes) != 1 || string(changes[0].Sealed) != "1" {
			t.Errorf("the transaction sees %+v, %v", changes, err)
		}
		n := 0
		if err := tx.Rows(ctx, func(store.Row) error { n++; return nil }); err != nil || n != 1 {
			t.Errorf("the transaction sees %d rows, %v", n, err)
		}
		if _, err := tx.Gateway(ctx, "nobody"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a question in between: %v", err)
		}
		return bump(ctx, tx, "2", row(1, "routes", "b"))
	})
	if got := rows(t, db, "default"); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("rows = %+v", got)
	}
}

// TestALateErrorStoresNothing: whatever the database has against a statement, wherever it shows, comes back and undoes all.
func TestALateErrorStoresNothing(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", row(1, "routes", "a")) })
	for name, after := range map[string]func(context.Context, *store.GroupTx) error{
		"at the end": func(context.Context, *store.GroupTx) error { return nil },
		"with a question": func(ctx context.Context, tx *store.GroupTx) error {
			_, err := tx.ChangesSince(ctx, 0)
			return err
		},
		"with a question of one row": func(ctx context.Context, tx *store.GroupTx) error {
			_, err := tx.JoinTokenUse(ctx, "t", []byte("key"))
			return err
		},
		"with another write": func(ctx context.Context, tx *store.GroupTx) error {
			return tx.SetRollout(ctx, store.Rollout{Since: now()})
		},
		"with many more": func(ctx context.Context, tx *store.GroupTx) error {
			for i := range 20 {
				if err := bump(ctx, tx, fmt.Sprint(i), row(10+i, "routes", fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
			if err := bump(ctx, tx, "2", row(2, "routes", "a")); err != nil { // that name is taken
				t.Errorf("%s: the statement did not wait: %v", name, err)
			}
			return after(ctx, tx)
		})
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) || conflict.Constraint != "resources_name_uq" {
			t.Errorf("%s: err = %v, want conflict with resources_name_uq", name, err)
		}
		if h, err := db.Store.Head(t.Context(), "default"); err != nil || h.Revision != 1 {
			t.Errorf("%s: the head is at %d, %v", name, h.Revision, err)
		}
	}
}

// TestManyRowsGoInOneTransaction: more of them than wait at a time.
func TestManyRowsGoInOneTransaction(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	all := make([]store.Row, 12_345)
	for i := range all {
		all[i] = row(i+1, "routes", fmt.Sprint(i))
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", all...) })
	if got := rows(t, db, "default"); len(got) != len(all) {
		t.Errorf("%d rows are stored, want %d", len(got), len(all))
	}
}
