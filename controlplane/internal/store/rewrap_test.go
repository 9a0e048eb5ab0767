package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"keyward.dev/controlplane/internal/store"
)

// sealedUnder is the head of a ciphertext under a term, and something behind it.
func sealedUnder(term byte, n int) string {
	return fmt.Sprintf("01000000%02x%0*d", term, 2*n, 0)
}

// TestAWalkVisitsEveryRowOnce has more rows than are looked up at once: they are visited by where they lie.
func TestAWalkVisitsEveryRowOnce(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	const rows = 5000
	db.Exec(t, `insert into resources (uid, group_uid, kind, name, revision, sealed, created_at, updated_at)
select format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0')), uid, 'routes', n::text, 1, decode('`+sealedUnder(1, 400)+`', 'hex'), now(), now()
from groups, generate_series(1, `+fmt.Sprint(rows)+`) n where name = 'default'`)
	group, err := db.Store.Group(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	walk := db.Store.NewWalk(group.UID, 2)
	total := int64(0)
	for done := false; !done; {
		var n int64
		n, done, err = db.Store.Rewrap(t.Context(), walk, 70, func(row store.SealedRow) []byte {
			seen[row.UID]++
			out := bytes.Clone(row.Sealed)
			out[4] = 2
			return out
		})
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if len(seen) != rows || total != rows {
		t.Errorf("visited %d rows, rewrapped %d, want %d", len(seen), total, rows)
	}
	for uid, n := range seen {
		if n != 1 {
			t.Errorf("%s was visited %d times", uid, n)
		}
	}
	counts, err := db.Store.TermRows(t.Context(), group.UID)
	if err != nil || len(counts) != 1 || counts[0] != (store.TermRows{Table: "resources", Term: 2, Rows: rows}) {
		t.Errorf("TermRows = %v, %v", counts, err)
	}
}

// TestAWalkEndsWhenTheKeyringIsNotTheOneItIsFor: a database that was rewound has an older keyring than a replica that runs, whose
// newest term opens nothing there.
func TestAWalkEndsWhenTheKeyringIsNotTheOneItIsFor(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	db.Exec(t, `insert into resources (uid, group_uid, kind, name, revision, sealed, created_at, updated_at)
select '00000000-0000-4000-8000-000000000001', uid, 'routes', 'r', 1, decode('`+sealedUnder(1, 4)+`', 'hex'), now(), now() from groups where name = 'default'`)
	group, err := db.Store.Group(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	older := errors.New("an older head")
	walk := db.Store.NewWalk(group.UID, 2)
	walk.OnlyWhile(func(h store.Head) error {
		if h.Group != "default" || h.KeyringVersion != 1 {
			t.Errorf("asked about %+v", h)
		}
		return older
	})
	_, _, err = db.Store.Rewrap(t.Context(), walk, 70, func(store.SealedRow) []byte {
		t.Error("a row is visited")
		return nil
	})
	if !errors.Is(err, older) {
		t.Errorf("Rewrap = %v", err)
	}
}

// TestALockedRowIsPassedOver: whoever holds it has the last word; and so does another replica that rewraps.
func TestALockedRowIsPassedOver(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	db.Exec(t, `insert into resources (uid, group_uid, kind, name, revision, sealed, created_at, updated_at)
select format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0')), uid, 'routes', n::text, 1, decode('`+sealedUnder(1, 4)+`', 'hex'), now(), now()
from groups, generate_series(1, 3) n where name = 'default'`)
	group, err := db.Store.Group(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	conn := db.Conn(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `update resources set revision = 2 where name = '2'`); err != nil {
		t.Fatal(err)
	}
	var visited []string
	seal := func(row store.SealedRow) []byte {
		visited = append(visited, row.UID[len(row.UID)-1:])
		return nil
	}
	if _, _, err := db.Store.Rewrap(t.Context(), db.Store.NewWalk(group.UID, 2), 10, seal); err != nil || fmt.Sprint(visited) != "[1 3]" {
		t.Errorf("visited %v, %v; want 1 and 3", visited, err)
	}
	if _, err := tx.Exec(t.Context(), `select pg_advisory_xact_lock(hashtextextended('keyward/rewrap/' || $1, 0))`, group.UID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.Store.Rewrap(t.Context(), db.Store.NewWalk(group.UID, 2), 10, seal); !errors.Is(err, store.ErrRewrapping) {
		t.Errorf("while another replica rewraps: %v", err)
	}
}
