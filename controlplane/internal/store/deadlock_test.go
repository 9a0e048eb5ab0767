package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/testkit/pgtest"
)

// TestAMigrationAndAChangeThatDeadlockBothSucceed lets them lock two tables in opposite order, so that the database ends
// the one that comes second: the first is told not to look for deadlocks.
func TestAMigrationAndAChangeThatDeadlockBothSucceed(t *testing.T) {
	t.Parallel()
	for victim, tc := range map[string]struct {
		other               string
		migrations, changes int
	}{
		"migration": {other: "keyward_runtime", migrations: 2, changes: 1},
		"change":    {other: "current_user", migrations: 1, changes: 2},
	} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			db := open(t, "default")
			db.Exec(t, fmt.Sprintf(`alter role %s in database %s set deadlock_timeout = '1min'`, tc.other, pgtest.DatabaseOf(db.Owner)))
			db.Open(t) // with connections that know of it
			migration := &party{second: victim == "migration", holds: make(chan struct{}), watch: db.Conn(t)}
			change := &party{second: victim == "change", holds: make(chan struct{}), watch: db.Conn(t)}
			migrated := make(chan error, 1)
			go func() {
				migrated <- store.Migrate(t.Context(), store.MigrateConfig{DSN: db.Owner, Parts: []store.Part{{
					Name: "newer", Up: func(ctx context.Context, conn *pgx.Conn) error { return migration.alter(ctx, conn, change) },
				}}})
			}()
			err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
				if _, err := tx.ChangesSince(ctx, 0); err != nil {
					return err
				}
				if err := change.meet(ctx, migration); err != nil {
					return err
				}
				return bump(ctx, tx, "1", row(1, "routes", "a"))
			})
			if err != nil {
				t.Errorf("the change: %v", err)
			}
			if err := <-migrated; err != nil {
				t.Errorf("the migration: %v", err)
			}
			if migration.tries != tc.migrations || change.tries != tc.changes {
				t.Errorf("%d and %d tries of migration and change, want %d and %d", migration.tries, change.tries, tc.migrations, tc.changes)
			}
		})
	}
}

// party is one of two that wait for each other's locks.
type party struct {
	// second goes on when the other is waiting.
	second bool
	// holds is closed once it has its first lock.
	holds chan struct{}
	watch *pgx.Conn
	tries int
}

// meet returns when it is this one's turn to ask for its second lock. Who tries again finds the other gone.
func (p *party) meet(ctx context.Context, other *party) error {
	if p.tries++; p.tries > 1 {
		return nil
	}
	close(p.holds)
	select {
	case <-other.holds:
	case <-ctx.Done():
		return ctx.Err()
	}
	for waiting := !p.second; !waiting; {
		const anybody = `
select exists (select from pg_locks l join pg_database d on d.oid = l.database where d.datname = current_database() and not l.granted)
from pg_sleep(0.01)`
		if err := p.watch.QueryRow(ctx, anybody).Scan(&waiting); err != nil {
			return err
		}
	}
	return nil
}

// alter is a migration that changes the table that a change writes first, and then the one that it has read.
func (p *party) alter(ctx context.Context, conn *pgx.Conn, change *party) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `alter table resources add column newer text`); err != nil {
			return err
		}
		if err := p.meet(ctx, change); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `alter table changes add column newer text`)
		return err
	})
}
