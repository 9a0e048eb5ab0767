package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func uid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// head is a first head; the store does not look at MACs.
func head(uid, name string) store.Head {
	return store.Head{GroupUID: uid, Group: name, Epoch: 1<<63 - 1, KeyringVersion: 1, MAC: []byte("mac"), UpdatedAt: now()}
}

func ring(uid string) store.Keyring {
	return store.Keyring{GroupUID: uid, Version: 1, KEKID: "file:test", Wrapped: []byte("wrapped"), UpdatedAt: now()}
}

// open gives a database with the system and the groups.
func open(t *testing.T, groups ...string) *storetest.DB {
	t.Helper()
	db := storetest.New(t)
	system := store.Group{UID: store.SystemUID, Name: store.SystemGroup, CreatedAt: now()}
	nothing := func(context.Context, *store.GroupTx) error { return nil }
	err := db.Store.CreateSystem(t.Context(), system, ring(store.SystemUID), head(store.SystemUID, store.SystemGroup), nothing)
	if err != nil {
		t.Fatalf("CreateSystem: %v", err)
	}
	for i, name := range groups {
		create(t, db, i+1, name)
	}
	return db
}

func create(t *testing.T, db *storetest.DB, n int, name string) {
	t.Helper()
	g := store.Group{UID: uid(n), Name: name, CreatedAt: now()}
	err := db.Store.InSystem(t.Context(), func(ctx context.Context, tx *store.GroupTx) error {
		_, err := tx.CreateGroup(ctx, g, ring(g.UID), head(g.UID, name))
		return err
	})
	if err != nil {
		t.Fatalf("CreateGroup: %v", err)
	}
}

// bump writes one revision with a change of that body.
func bump(ctx context.Context, tx *store.GroupTx, body string, rows ...store.Row) error {
	h := tx.Head()
	h.Revision++
	h.ResourceCount += int64(len(rows))
	for i := range rows {
		rows[i].Revision = h.Revision
	}
	if err := tx.Put(ctx, rows); err != nil {
		return err
	}
	c := store.Change{Revision: h.Revision, Epoch: h.Epoch, Sealed: []byte(body), At: now(), Actor: "test", Summary: "one"}
	if err := tx.AppendChange(ctx, c); err != nil {
		return err
	}
	return tx.SetHead(ctx, h)
}

func row(n int, kind, name string) store.Row {
	return store.Row{
		Kind: kind, UID: uid(n), Name: name, Labels: map[string]string{"team": "a"}, Revision: 1, Sealed: []byte{1, 2, 3},
		CreatedAt: now(), UpdatedAt: now(),
	}
}

func rows(t *testing.T, db *storetest.DB, group string) []store.Row {
	t.Helper()
	var all []store.Row
	err := db.Store.Rows(t.Context(), group, func(r store.Row) error {
		r.CreatedAt, r.UpdatedAt = r.CreatedAt.UTC(), r.UpdatedAt.UTC()
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatalf("Rows: %v", err)
	}
	return all
}

func TestPutRowsComeBackInOrder(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	want := []store.Row{row(1, "routes", "a"), row(2, "routes", "b"), row(3, "services", "a")}
	err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return bump(ctx, tx, "body", want[2], want[0], want[1])
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rows(t, db, "default")); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	h, err := db.Store.Head(t.Context(), "default")
	if err != nil || h.Revision != 1 || h.ResourceCount != 3 || h.Epoch != 1<<63-1 {
		t.Errorf("Head = %+v, %v", h, err)
	}
}

func TestPutReplacesByUIDAndDeleteRemoves(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	first, second := row(1, "routes", "a"), row(2, "routes", "b")
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", first, second) })
	first.Sealed, first.Labels = []byte("new"), nil
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error {
		if err := tx.Delete(ctx, []store.Ref{{Kind: "routes", UID: second.UID}}); err != nil {
			return err
		}
		return bump(ctx, tx, "2", first)
	})
	got := rows(t, db, "default")
	if len(got) != 1 || string(got[0].Sealed) != "new" || len(got[0].Labels) != 0 || got[0].Revision != 2 {
		t.Errorf("rows = %+v", got)
	}
}

func inGroup(t *testing.T, db *storetest.DB, fn func(context.Context, *store.GroupTx) error) {
	t.Helper()
	if err := db.Store.InGroup(t.Context(), "default", fn); err != nil {
		t.Fatalf("InGroup: %v", err)
	}
}

func TestConstraintsAreNamed(t *testing.T) {
	t.Parallel()
	db := open(t, "default", "other")
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", row(1, "routes", "a")) })
	put := func(rows ...store.Row) func(context.Context, *store.GroupTx) error {
		return func(ctx context.Context, tx *store.GroupTx) error { return tx.Put(ctx, rows) }
	}
	elsewhere := row(1, "services", "a")
	for name, tc := range map[string]struct {
		group      string
		fn         func(context.Context, *store.GroupTx) error
		constraint string
	}{
		"name taken":          {"default", put(row(2, "routes", "a")), "resources_name_uq"},
		"uid of another kind": {"default", put(elsewhere), "resources_pkey"},
		"uid of other group":  {"other", put(row(1, "routes", "z")), "resources_pkey"},
		"revision twice": {"default", func(ctx context.Context, tx *store.GroupTx) error {
			return tx.AppendChange(ctx, store.Change{Revision: 1, Epoch: 1, At: now(), Sealed: []byte("x")})
		}, "changes_pkey"},
	} {
		err := db.Store.InGroup(t.Context(), tc.group, tc.fn)
		var conflict *store.ConflictError
		if !errors.Is(err, store.ErrConflict) || !errors.As(err, &conflict) || conflict.Constraint != tc.constraint {
			t.Errorf("%s: err = %v, want conflict with %s", name, err, tc.constraint)
		}
	}
	err := db.Store.InSystem(t.Context(), func(ctx context.Context, tx *store.GroupTx) error {
		_, err := tx.CreateGroup(ctx, store.Group{UID: uid(9), Name: "other", CreatedAt: now()}, ring(uid(9)), head(uid(9), "other"))
		return err
	})
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Constraint != "groups_name_uq" {
		t.Errorf("group name twice: %v", err)
	}
}

func TestWhatIsMissingIsNotFound(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	_, errHead := db.Store.Head(t.Context(), "missing")
	_, errGroup := db.Store.Group(t.Context(), "missing")
	_, errToken := db.Store.AdminToken(t.Context(), "missing")
	_, errJoin := db.Store.JoinToken(t.Context(), "missing")
	_, errGateway := db.Store.Gateway(t.Context(), "default", "missing")
	_, errChanges := db.Store.ChangesSince(t.Context(), "missing", 0, 0)
	for name, err := range map[string]error{
		"head": errHead, "group": errGroup, "admin token": errToken, "join token": errJoin, "gateway": errGateway,
		"changes": errChanges,
		"rows":    db.Store.Rows(t.Context(), "missing", func(store.Row) error { return nil }),
		"group in tx": db.Store.InGroup(t.Context(), "missing", func(context.Context, *store.GroupTx) error {
			return nil
		}),
		"deleted row": db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
			return tx.Delete(ctx, []store.Ref{{Kind: "routes", UID: uid(77)}})
		}),
		"certificate of gateway": db.Store.SetGatewayCertificate(t.Context(), "default", "missing", store.Certificate{}),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: err = %v, want ErrNotFound", name, err)
		}
	}
}

func TestAChangeWithoutANewHeadIsRolledBack(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return tx.Put(ctx, []store.Row{row(1, "routes", "a")})
	})
	if !errors.Is(err, store.ErrNotSealed) {
		t.Errorf("InGroup = %v, want ErrNotSealed", err)
	}
	if got := rows(t, db, "default"); len(got) != 0 {
		t.Errorf("%d rows were kept", len(got))
	}
}

func TestAFailedFunctionStoresNothing(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	boom := errors.New("boom")
	err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
		return errors.Join(bump(ctx, tx, "1", row(1, "routes", "a")), boom)
	})
	h, _ := db.Store.Head(t.Context(), "default")
	if !errors.Is(err, boom) || h.Revision != 0 || len(rows(t, db, "default")) != 0 {
		t.Errorf("err %v, revision %d", err, h.Revision)
	}
}

func TestALargePutGoesInBatches(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	many := make([]store.Row, 2503)
	for i := range many {
		many[i] = row(i+1, "routes", "r-"+rand.Text())
	}
	inGroup(t, db, func(ctx context.Context, tx *store.GroupTx) error { return bump(ctx, tx, "1", many...) })
	if got := rows(t, db, "default"); len(got) != len(many) {
		t.Errorf("%d rows, want %d", len(got), len(many))
	}
	stop := errors.New("stop")
	n := 0
	err := db.Store.Rows(t.Context(), "default", func(store.Row) error {
		if n++; n == 10 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 10 {
		t.Errorf("Rows went on to %d rows, err %v", n, err)
	}
}

func TestWhatWasRolledBackForOthersIsTriedAgainAndNothingElseIs(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	for code, want := range map[string]int{"40001": 3, "40P01": 3, "40003": 1, "23505": 1} {
		calls := 0
		err := db.Store.InGroup(t.Context(), "default", func(context.Context, *store.GroupTx) error {
			if calls++; calls < 3 {
				return fmt.Errorf("write: %w", &pgconn.PgError{Code: code})
			}
			return nil
		})
		if calls != want || (err == nil) != (want == 3) {
			t.Errorf("%s: %d calls, %v; want %d", code, calls, err, want)
		}
	}
}
