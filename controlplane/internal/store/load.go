package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNotEmpty says that there is an installation in the database already.
var ErrNotEmpty = errors.New("the database is not empty")

// LoadConfig says how a database is filled from a backup.
type LoadConfig struct {
	// Migrate says how the database is reached, as the owner, and brought to this program's schema.
	Migrate MigrateConfig
	// Schema is the version of the schema of the backup.
	Schema int
	// Replace gives up what is in the database.
	Replace bool
	// Fill copies the tables in, in the order of BackupTables.
	Fill func(ctx context.Context, l *Loading) error
	// Settle makes of the copy what it is to be, under this program's schema.
	Settle func(ctx context.Context, l *Loading) error
}

// Loading is the transaction in which a database is filled. Nobody writes meanwhile; who reads still sees what was before.
type Loading struct {
	tx pgx.Tx
	// wakes is thrown away: everybody is woken.
	wakes map[string]bool
}

// Load fills a database, all of it or nothing. It is migrated before; that stays when filling it fails.
func Load(ctx context.Context, cfg LoadConfig) error {
	conn, err := cfg.Migrate.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	m, err := cfg.Migrate.migrator(conn)
	if err != nil {
		return err
	}
	if cfg.Schema < 1 || cfg.Schema > len(m.all) {
		return fmt.Errorf("%w: the backup has version %d, this program %d", ErrSchema, cfg.Schema, len(m.all))
	}
	if err := m.mayLoad(ctx, conn, cfg.Replace); err != nil {
		return err
	}
	if err := Migrate(ctx, cfg.Migrate); err != nil {
		return err
	}
	var fnErr error
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		fnErr = cfg.load(ctx, tx)
		return fnErr
	})
	if err != nil && fnErr == nil {
		return mapped("commit what was restored", err)
	}
	return err
}

// mayLoad asks before anything is changed, the schema included.
func (m *migrator) mayLoad(ctx context.Context, q querier, replace bool) error {
	version, _, err := schemaVersion(ctx, q)
	switch {
	case err != nil || version < firstWithGroups:
		return err
	case version > len(m.all):
		return fmt.Errorf("%w: it has version %d, this program knows %d", ErrSchema, version, len(m.all))
	case replace:
		return nil
	}
	return empty(ctx, q)
}

// firstWithGroups is the migration that makes the table groups.
const firstWithGroups = 2

func empty(ctx context.Context, q querier) error {
	var n int64
	if err := q.QueryRow(ctx, countGroups).Scan(&n); err != nil {
		return mapped("count groups", err)
	}
	if n > 0 {
		return ErrNotEmpty
	}
	return nil
}

func (cfg LoadConfig) load(ctx context.Context, tx pgx.Tx) error {
	m, err := cfg.Migrate.migrator(tx)
	if err != nil {
		return err
	}
	if err := exclude(ctx, tx); err != nil {
		return err
	}
	if cfg.Replace {
		err = wipe(ctx, tx)
	} else {
		err = empty(ctx, tx)
	}
	if err != nil {
		return err
	}
	l := &Loading{tx: tx, wakes: map[string]bool{}}
	if err := cfg.fill(ctx, m, l); err != nil {
		return err
	}
	if err := cfg.Settle(ctx, l); err != nil {
		return err
	}
	return wakeAll(ctx, tx)
}

// fill copies the tables into the schema that they are of, which is empty, and migrates from there.
func (cfg LoadConfig) fill(ctx context.Context, m *migrator, l *Loading) error {
	if older := len(m.all) - cfg.Schema; older > 0 {
		if err := m.down(ctx, older); err != nil {
			return err
		}
	}
	if err := cfg.Fill(ctx, l); err != nil {
		return err
	}
	if cfg.Schema == len(m.all) {
		return nil
	}
	if err := m.up(ctx); err != nil {
		return err
	}
	if cfg.Migrate.RuntimeRole == "" {
		return nil
	}
	parts := cfg.Migrate
	parts.Parts = nil // were not touched
	return m.grant(ctx, parts)
}

const (
	lockMigrations = `select pg_advisory_xact_lock($1), pg_advisory_xact_lock($1 + 1)`
	wakeEverybody  = `update wakeups set counter = counter + 1 + floor(random() * 4294967296)::bigint`
)

// exclude keeps everybody from writing. The heads come first, as with every writer.
func exclude(ctx context.Context, tx pgx.Tx) error {
	if err := unhurried(ctx, tx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, lockMigrations, int64(advisoryLock)); err != nil {
		return mapped("lock migrations", err)
	}
	tables := slices.Concat([]string{"heads"}, BackupTables(), []string{"next_keyrings", "keyring_readers", "replica_reports"})
	for i, t := range tables {
		tables[i] = pgx.Identifier{t}.Sanitize()
	}
	_, err := tx.Exec(ctx, "lock table "+strings.Join(tables, ", ")+" in exclusive mode")
	return mapped("lock the tables", err)
}

// wipe deletes and does not truncate: who has begun to read goes on seeing what was there.
func wipe(ctx context.Context, tx pgx.Tx) error {
	tables := append(BackupTables(), "next_keyrings", "keyring_readers", "replica_reports")
	slices.Reverse(tables)
	for _, table := range tables {
		if _, err := tx.Exec(ctx, "delete from "+pgx.Identifier{table}.Sanitize()); err != nil {
			return mapped("empty table "+table, err)
		}
	}
	return nil
}

// wakeAll moves every counter by so much that it is none of those that were seen, in whatever database.
func wakeAll(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, wakeEverybody); err != nil {
		return mapped("move wakeups", err)
	}
	return notify(ctx, tx, Hint{})
}

// Columns are the names of the columns of a table.
func (l *Loading) Columns(ctx context.Context, table string) ([]string, error) {
	return columnsOf(ctx, l.tx, table)
}

// Copy fills a table from the binary form of COPY and answers how many rows that were.
func (l *Loading) Copy(ctx context.Context, table string, columns []string, in io.Reader) (int64, error) {
	tag, err := l.tx.Conn().PgConn().CopyFrom(ctx, in, fmt.Sprintf("copy %s from stdin (format binary)", of(table, columns)))
	return tag.RowsAffected(), mapped("fill table "+table, err)
}

// Group runs fn on a group of the copy, as Store.InGroup does.
func (l *Loading) Group(ctx context.Context, group string, fn func(context.Context, *GroupTx) error) error {
	head, err := readHead(ctx, l.tx, selectHeadLock, group)
	if err != nil {
		return err
	}
	t := &GroupTx{tx: &pipeline{tx: l.tx}, head: head, wakes: l.wakes}
	if err := fn(ctx, t); err != nil {
		return err
	}
	if t.unsealed {
		return fmt.Errorf("group %s: %w", group, ErrNotSealed)
	}
	return t.tx.flush(ctx)
}
