package jobs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"keyward.dev/controlplane/internal/store"
)

// Schema is the queue's part of the database, which the owner brings up to date with the rest.
func Schema() store.Part {
	const all = "select, insert, update, delete"
	return store.Part{
		Name: "job queue", Up: migrate,
		// The table river_migration is the owner's alone.
		Tables:    map[string]string{"river_job": all, "river_leader": all, "river_queue": all, "river_notification": all},
		Sequences: []string{"river_job_id_seq", "river_notification_id_seq"},
	}
}

// comments say in the database whose the tables are.
const comments = `
comment on table river_migration is 'Which form the tables of the job queue have.';
comment on table river_job is 'Background jobs, by name only: those to come and those of the last day.';
comment on table river_leader is 'Which replica puts background jobs into the queue.';
comment on table river_queue is 'The queues of background jobs.';
comment on table river_notification is 'News of the job queue that wait to be told.'`

// migrate brings the tables up to date over a connection of its own, because each step commits for itself; conn, on which
// the lock against other migrations lies, waits.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	cfg, err := pgxpool.ParseConfig("")
	if err != nil {
		return fmt.Errorf("make pool: %w", err)
	}
	cfg.ConnConfig, cfg.MaxConns = conn.Config(), 1
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("make pool: %w", err)
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, comments); err != nil {
		return fmt.Errorf("comment: %w", err)
	}
	return nil
}
