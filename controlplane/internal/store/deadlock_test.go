package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/testkit/pgtest"
)

// TestAMigrationAndAChangeThatDeadlockBothSucceed lets them lock two tables in opposite order, so that the database ends
// one of them: the other is told not to look for deadlocks.
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
			migrating, changing := newMeeting(), newMeeting()
			migrations, changes := 0, 0
			migrated := make(chan error, 1)
			go func() {
				migrated <- store.Migrate(t.Context(), store.MigrateConfig{DSN: db.Owner, Parts: []store.Part{{
					Name: "newer", Up: func(ctx context.Context, conn *pgx.Conn) error {
						migrations++
						return migrating.alter(ctx, conn, changing)
					},
				}}})
			}()
			err := db.Store.InGroup(t.Context(), "default", func(ctx context.Context, tx *store.GroupTx) error {
				changes++
				if _, err := tx.ChangesSince(ctx, 0); err != nil {
					return err
				}
				changing.arrive()
				migrating.await(ctx)
				return bump(ctx, tx, "1", row(1, "routes", "a"))
			})
			if err != nil {
				t.Errorf("the change: %v", err)
			}
			if err := <-migrated; err != nil {
				t.Errorf("the migration: %v", err)
			}
			if migrations != tc.migrations || changes != tc.changes {
				t.Errorf("%d migrations and %d changes were begun, want %d and %d", migrations, changes, tc.migrations, tc.changes)
			}
		})
	}
}

// meeting is where one party waits until the other has its first lock.
type meeting struct {
	there  chan struct{}
	arrive func()
}

func newMeeting() meeting {
	there := make(chan struct{})
	return meeting{there: there, arrive: sync.OnceFunc(func() { close(there) })}
}

func (m meeting) await(ctx context.Context) {
	select {
	case <-m.there:
	case <-ctx.Done():
	}
}

// alter is a migration that changes the table that a change writes first, and then the one that it has read.
func (m meeting) alter(ctx context.Context, conn *pgx.Conn, change meeting) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `alter table resources add column newer text`); err != nil {
			return err
		}
		m.arrive()
		change.await(ctx)
		_, err := tx.Exec(ctx, `alter table changes add column newer text`)
		return err
	})
}
