// Package storetest gives a test a migrated database of its own on a real PostgreSQL, and a store that is connected to it
// as the runtime role. Only tests import it.
package storetest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/testkit/pgtest"
)

// DB is a database that ends with the test.
type DB struct {
	// Owner and Runtime are connection strings of the two roles; RuntimeRole is the name of the second.
	Owner, Runtime, RuntimeRole string
	// Store is connected as the runtime role.
	Store *store.Store
}

// runtimeRole is shared by the databases New makes: roles belong to the whole server.
const runtimeRole = "keyward_runtime"

// New gives a migrated database and opens it.
func New(t testing.TB) *DB {
	t.Helper()
	s := pgtest.ForTest(t)
	d := &DB{RuntimeRole: runtimeRole}
	d.Owner = s.NewDatabaseFrom(t, "keyward", func(ctx context.Context, url string) error {
		return store.Migrate(ctx, store.MigrateConfig{DSN: url, RuntimeRole: runtimeRole, RuntimePassword: s.Password()})
	})
	d.Runtime = s.URLFor(pgtest.DatabaseOf(d.Owner), runtimeRole, s.Password())
	d.Open(t)
	return d
}

// Empty gives a database without a schema, and a runtime role of its own; Store is nil.
func Empty(t testing.TB) *DB {
	t.Helper()
	s := pgtest.ForTest(t)
	d := &DB{Owner: s.NewDatabase(t)}
	role, password := s.NewRole(t)
	d.RuntimeRole = role
	d.Runtime = s.URLFor(pgtest.DatabaseOf(d.Owner), role, password)
	return d
}

// Migrate brings the schema of an empty database up, with parts of others, and gives the runtime role its rights.
func (d *DB) Migrate(t testing.TB, parts ...store.Part) {
	t.Helper()
	if err := store.Migrate(t.Context(), store.MigrateConfig{DSN: d.Owner, RuntimeRole: d.RuntimeRole, Parts: parts}); err != nil {
		t.Fatalf("migrate: %v", err)
	}
}

// Open connects Store as the runtime role until the test ends.
func (d *DB) Open(t testing.TB) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DSN: d.Runtime})
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(s.Close)
	d.Store = s
}

// Exec runs statements as the owner: what an attacker who can write to the database does, past the control plane.
func (d *DB) Exec(t testing.TB, statements ...string) {
	t.Helper()
	if err := exec(t.Context(), d.Owner, statements...); err != nil {
		t.Fatalf("exec: %v", err)
	}
}

// ExecRuntime runs a statement as the runtime role.
func (d *DB) ExecRuntime(t testing.TB, statement string) error {
	t.Helper()
	return exec(t.Context(), d.Runtime, statement)
}

// Conn gives a connection as the owner.
func (d *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.Owner)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
