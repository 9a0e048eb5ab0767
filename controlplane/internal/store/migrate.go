package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"keyward.dev/migrations"
)

// ErrSchema says that program and schema do not fit each other.
var ErrSchema = errors.New("database schema does not fit this program")

// MigrateConfig says how to bring a database to a schema.
type MigrateConfig struct {
	// DSN connects as the owner of the schema. It is a secret.
	DSN string
	// Login is as whom, as in Config.
	Login         func(ctx context.Context) Login
	AllowInsecure bool
	// RuntimeRole is the role serving processes connect as. It is made if it does not exist and gets the rights it needs
	// and no others.
	RuntimeRole string
	// RuntimePassword is set when the role is made here; without it the role cannot log in until somebody sets one.
	RuntimePassword string
	// Parts are brought up to date first. Undoing migrations leaves them.
	Parts []Part
	// Down undoes that many migrations instead of applying what is missing.
	Down int
	Log  *slog.Logger
}

// Part is a part of the schema that somebody else keeps in order, in the same database.
type Part struct {
	Name string
	// Up brings it up to date, as the owner, while no other migration runs. It is repeated at every migration, and when locks
	// of others stood against it.
	Up func(ctx context.Context, conn *pgx.Conn) error
	// Tables are the rights of the runtime role by table; Sequences are those it draws numbers from.
	Tables    map[string]string
	Sequences []string
}

type migration struct {
	version       int
	name          string
	minCompatible int
	up, down      string
}

const (
	// advisoryLock keeps two migrations from running at once: "keyward" in ASCII.
	advisoryLock = 0x6b657977617264
	schemaTable  = `select to_regclass('schema_version') is not null`
	selectSchema = `select version, min_compatible from schema_version`
	upsertSchema = `
insert into schema_version (version, min_compatible) values ($1, $2)
on conflict on constraint schema_version_pkey do update
set version = excluded.version, min_compatible = excluded.min_compatible, applied_at = now()`
)

// Migrate applies or undoes migrations, each in a transaction of its own, and settles the rights of the runtime role.
func Migrate(ctx context.Context, cfg MigrateConfig) error {
	conn, err := cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	m, err := cfg.migrator(conn)
	if err != nil {
		return err
	}
	return m.run(ctx, conn, cfg)
}

// connect connects as the owner.
func (cfg MigrateConfig) connect(ctx context.Context) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("parse database url: %w", err)
	}
	if !cfg.AllowInsecure {
		if err := checkDSN(cc); err != nil {
			return nil, err
		}
	}
	setDefaults(cc)
	// A table may be long in the making, but nobody may wait long behind the lock it takes.
	cc.RuntimeParams["statement_timeout"] = "0"
	as(cfg.Login).put(ctx, cc)
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, mapped("connect as owner", err)
	}
	return conn, nil
}

func (cfg MigrateConfig) migrator(conn database) (*migrator, error) {
	all, err := readMigrations(migrations.FS())
	if err != nil {
		return nil, err
	}
	m := &migrator{conn: conn, all: all, log: cfg.Log}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m, nil
}

// database is a connection, or a transaction in which migrations are parts of a whole.
type database interface {
	querier
	Begin(ctx context.Context) (pgx.Tx, error)
}

type migrator struct {
	conn database
	all  []migration
	log  *slog.Logger
}

func (m *migrator) run(ctx context.Context, conn *pgx.Conn, cfg MigrateConfig) error {
	if _, err := m.conn.Exec(ctx, `set lock_timeout = '5min'`); err != nil {
		return mapped("set lock timeout", err)
	}
	if _, err := m.conn.Exec(ctx, `select pg_advisory_lock($1)`, advisoryLock); err != nil {
		return mapped("lock migrations", err)
	}
	if _, err := m.conn.Exec(ctx, `set lock_timeout = '10s'`); err != nil {
		return mapped("set lock timeout", err)
	}
	if cfg.Down > 0 {
		return m.down(ctx, cfg.Down)
	}
	for _, p := range cfg.Parts {
		err := m.patiently(ctx, p.Name, func() error { return mapped("migrate "+p.Name, p.Up(ctx, conn)) })
		if err != nil {
			return err
		}
	}
	if err := m.up(ctx); err != nil {
		return err
	}
	if cfg.RuntimeRole == "" {
		return nil
	}
	return m.grant(ctx, cfg)
}

func (m *migrator) up(ctx context.Context) error {
	current, _, err := schemaVersion(ctx, m.conn)
	if err != nil {
		return err
	}
	for _, step := range m.all {
		if step.version <= current {
			continue
		}
		err := m.patiently(ctx, step.name, func() error { return m.apply(ctx, step.up, step.version, step.minCompatible) })
		if err != nil {
			return fmt.Errorf("apply migration %04d_%s: %w", step.version, step.name, err)
		}
		m.log.InfoContext(ctx, "migration applied", "version", step.version, "name", step.name)
	}
	return nil
}

func (m *migrator) down(ctx context.Context, steps int) error {
	for range steps {
		current, _, err := schemaVersion(ctx, m.conn)
		if err != nil || current == 0 {
			return err
		}
		if current > len(m.all) {
			return fmt.Errorf("undo migration %04d: %w: this program knows %d", current, ErrSchema, len(m.all))
		}
		step, below := m.all[current-1], 0
		if current > 1 {
			below = m.all[current-2].minCompatible
		}
		err = m.patiently(ctx, step.name, func() error { return m.apply(ctx, step.down, current-1, below) })
		if err != nil {
			return fmt.Errorf("undo migration %04d_%s: %w", step.version, step.name, err)
		}
		m.log.InfoContext(ctx, "migration undone", "version", step.version, "name", step.name)
	}
	return nil
}

// pauseBetweenTries lets those go first who waited behind a migration that could not get its locks.
const pauseBetweenTries = time.Second

// patiently repeats what is done whole or not at all when others held what it had to lock: changes go on while a database is
// migrated.
func (m *migrator) patiently(ctx context.Context, name string, migrate func() error) error {
	for try := 1; ; try++ {
		err := migrate()
		if try == maxAttempts || !isRolledBack(err) && !hasCode(err, lockNotAvailable) {
			return err
		}
		m.log.WarnContext(ctx, "migration gave way and is tried again", "name", name, "try", try, "of", maxAttempts, "error", err)
		select {
		case <-time.After(pauseBetweenTries):
		case <-ctx.Done():
			return err
		}
	}
}

// apply runs a file and notes the version it leads to in one transaction. Version 0 has no table to note it in.
func (m *migrator) apply(ctx context.Context, script string, version, minCompatible int) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, script); err != nil {
			return mapped("run script", err)
		}
		if version == 0 {
			return nil
		}
		_, err := tx.Exec(ctx, upsertSchema, version, minCompatible)
		return mapped("note version", err)
	})
}

// LatestSchema is the version of the schema that this program brings.
func LatestSchema() (int, error) {
	all, err := readMigrations(migrations.FS())
	return len(all), err
}

// CheckSchema reports whether the schema is new enough for this program, and this program for the schema.
func (s *Store) CheckSchema(ctx context.Context) error {
	all, err := readMigrations(migrations.FS())
	if err != nil {
		return err
	}
	version, minCompatible, err := schemaVersion(ctx, s.pool)
	if err != nil {
		return err
	}
	switch latest := len(all); {
	case version < latest:
		return fmt.Errorf("%w: it has version %d, this program needs %d; run migrate", ErrSchema, version, latest)
	case minCompatible > latest:
		return fmt.Errorf("%w: it works with programs of version %d and later, this one has %d", ErrSchema, minCompatible, latest)
	}
	return nil
}

func schemaVersion(ctx context.Context, q querier) (version, minCompatible int, err error) {
	var exists bool
	if err := q.QueryRow(ctx, schemaTable).Scan(&exists); err != nil {
		return 0, 0, mapped("look for schema", err)
	}
	if !exists {
		return 0, 0, nil
	}
	err = q.QueryRow(ctx, selectSchema).Scan(&version, &minCompatible)
	return version, minCompatible, mapped("read schema version", err)
}

var (
	fileName   = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.up\.sql$`)
	compatible = regexp.MustCompile(`^-- min_compatible: (\d+)\n`)
)

// readMigrations reads the pairs in order; their numbers must be dense from 1, so that the last is also their count.
func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	all := make([]migration, 0, len(names))
	for i, name := range names {
		m, err := readMigration(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", name, err)
		}
		if m.version != i+1 {
			return nil, fmt.Errorf("read migration %s: number %04d is missing", name, i+1)
		}
		all = append(all, m)
	}
	return all, nil
}

func readMigration(files fs.FS, name string) (migration, error) {
	parts := fileName.FindStringSubmatch(name)
	if parts == nil {
		return migration{}, errors.New("name is not NNNN_name.up.sql")
	}
	up, err := fs.ReadFile(files, name)
	if err != nil {
		return migration{}, err
	}
	down, err := fs.ReadFile(files, strings.TrimSuffix(name, ".up.sql")+".down.sql")
	if err != nil {
		return migration{}, err
	}
	first := compatible.FindSubmatch(up)
	if first == nil {
		return migration{}, errors.New("first line is not -- min_compatible: N")
	}
	version, _ := strconv.Atoi(parts[1])
	minCompatible, err := strconv.Atoi(string(first[1]))
	if err != nil || minCompatible < 1 || minCompatible > version {
		return migration{}, fmt.Errorf("min_compatible %s is not between 1 and %d", first[1], version)
	}
	return migration{version: version, name: parts[2], minCompatible: minCompatible, up: string(up), down: string(down)}, nil
}
