package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

// TestABackupKnowsEveryTable holds that whoever adds a table says whether a backup has it, and in which order it is filled.
func TestABackupKnowsEveryTable(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	known := slices.Clone(store.BackupTables())
	for table := range store.VolatileTables() {
		known = append(known, table)
	}
	slices.Sort(known)
	rows, err := db.Conn(t).Query(t.Context(), `select table_name from information_schema.tables where table_schema = 'public' order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tables)
	if diff := cmp.Diff(tables, known); diff != "" {
		t.Errorf("tables of the schema, and those of image.go (-schema +known):\n%s", diff)
	}
	rows, err = db.Conn(t).Query(t.Context(), `
select conrelid::regclass::text, confrelid::regclass::text from pg_constraint where contype = 'f' and conrelid <> confrelid`)
	if err != nil {
		t.Fatal(err)
	}
	var from, to string
	_, err = pgx.ForEachRow(rows, []any{&from, &to}, func() error {
		order := store.BackupTables()
		if at := slices.Index(order, from); at >= 0 && slices.Index(order, to) > at {
			t.Errorf("%s is filled before %s, which it refers to", from, to)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// image is what a backup would hold.
type image struct {
	schema  int
	columns map[string][]string
	content map[string][]byte
}

func take(t *testing.T, db *storetest.DB) image {
	t.Helper()
	i := image{columns: map[string][]string{}, content: map[string][]byte{}}
	err := db.Store.InImage(t.Context(), func(ctx context.Context, from *store.Image) error {
		i.schema = from.Schema()
		for _, table := range store.BackupTables() {
			var out bytes.Buffer
			columns, err := from.Columns(ctx, table)
			if err == nil {
				_, err = from.Copy(ctx, table, columns, &out)
			}
			if err != nil {
				return err
			}
			i.columns[table], i.content[table] = columns, out.Bytes()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i image) fill(ctx context.Context, l *store.Loading) error {
	for _, table := range store.BackupTables() {
		if i.content[table] == nil {
			continue
		}
		if _, err := l.Copy(ctx, table, i.columns[table], bytes.NewReader(i.content[table])); err != nil {
			return err
		}
	}
	return nil
}

func settled(context.Context, *store.Loading) error { return nil }

func (i image) into(db *storetest.DB) store.LoadConfig {
	return store.LoadConfig{
		Migrate: store.MigrateConfig{DSN: db.Owner, RuntimeRole: db.RuntimeRole}, Schema: i.schema, Fill: i.fill, Settle: settled,
	}
}

// populated has a group with a gateway and a change.
func populated(t *testing.T) *storetest.DB {
	t.Helper()
	db := open(t, "default")
	db.Exec(t, `insert into gateways (id, group_uid, attestor, spki_hash, enrolled_at, issuer)
select 'g1', uid, 'join-token', '\x01', now(), 'issuer' from groups where name = 'default'`,
		`insert into changes (group_uid, revision, epoch, sealed, at, actor)
select uid, n, 1, '\x00ff', now(), 'test' from groups, generate_series(1, 3) n where name = 'default'`)
	return db
}

func TestAnImageFillsAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	was := take(t, populated(t))
	db := storetest.Empty(t)
	if err := store.Load(t.Context(), was.into(db)); err != nil {
		t.Fatal(err)
	}
	db.Open(t)
	if diff := cmp.Diff(was.content, take(t, db).content); diff != "" {
		t.Errorf("tables (-want +got):\n%.1000s", diff)
	}
	if err := db.ExecRuntime(t, `update audit set actor = 'x'`); err == nil {
		t.Error("the runtime role may rewrite the audit trail")
	}
	if err := store.Load(t.Context(), was.into(db)); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("a second time: %v", err)
	}
}

// TestAnOlderImageIsMigrated fills the schema that the image is of, and brings it up to date.
func TestAnOlderImageIsMigrated(t *testing.T) {
	t.Parallel()
	was := take(t, populated(t))
	const before = 12 // gateways have no issuer, join tokens no root, groups do not say since when uses are recorded
	was.schema = before
	old := storetest.Empty(t)
	old.Migrate(t)
	latest := 0
	if err := old.Conn(t).QueryRow(t.Context(), `select version from schema_version`).Scan(&latest); err != nil {
		t.Fatal(err)
	}
	conn := populated(t).Conn(t)
	columns := slices.DeleteFunc(slices.Clone(was.columns["gateways"]), func(c string) bool { return c == "issuer" })
	was.columns["gateways"] = columns
	was.columns["join_tokens"] = slices.DeleteFunc(was.columns["join_tokens"], func(c string) bool { return c == "root_spki" })
	var out bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &out, `copy join_tokens (id) to stdout (format binary)`); err != nil {
		t.Fatal(err)
	}
	was.content["join_tokens"] = out.Bytes() // no rows
	was.columns["groups"] = slices.DeleteFunc(was.columns["groups"], func(c string) bool { return c == "uses_since" })
	var groups bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &groups, `copy groups (`+strings.Join(was.columns["groups"], ", ")+`) to stdout (format binary)`); err != nil {
		t.Fatal(err)
	}
	was.content["groups"] = groups.Bytes()
	delete(was.content, "gateways")
	for _, table := range []string{"acme_accounts", "credential_uses"} { // there were none yet
		delete(was.content, table)
	}
	cfg := was.into(old)
	cfg.Fill = func(ctx context.Context, l *store.Loading) error {
		if err := was.fill(ctx, l); err != nil {
			return err
		}
		got, err := l.Columns(ctx, "gateways")
		if err == nil && slices.Contains(got, "issuer") {
			t.Errorf("the schema is not that of the image: gateways has %v", got)
		}
		return err
	}
	if err := store.Load(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var version, changes int
	var issuer bool
	err := old.Conn(t).QueryRow(t.Context(), `select (select version from schema_version), (select count(*) from changes),
exists (select 1 from information_schema.columns where table_name = 'gateways' and column_name = 'issuer')`).Scan(&version, &changes, &issuer)
	if err != nil || version != latest || changes != 3 || !issuer {
		t.Errorf("version %d, %d changes, issuer %v, %v", version, changes, issuer, err)
	}
	old.Open(t)
	if err := old.ExecRuntime(t, `update gateways set issuer = 'x'`); err != nil {
		t.Errorf("the runtime role lost its rights: %v", err)
	}
	was.schema = latest + 1
	if err := store.Load(t.Context(), was.into(old)); !errors.Is(err, store.ErrSchema) {
		t.Errorf("an image of a later schema: %v", err)
	}
}

// TestReplacingIsAllOrNothing: who reads sees what was before until it is over, who writes waits.
func TestReplacingIsAllOrNothing(t *testing.T) {
	t.Parallel()
	was := take(t, populated(t))
	db := open(t, "other", "third")
	before := take(t, db)
	broken := errors.New("broken")
	cfg := was.into(db)
	cfg.Replace = true
	cfg.Settle = func(ctx context.Context, l *store.Loading) error {
		groups, err := db.Store.Groups(ctx)
		if err != nil || len(groups) != 2 {
			t.Errorf("groups while it is replaced: %v, %v", groups, err)
		}
		bounded, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		err = db.Store.InGroup(bounded, "other", func(context.Context, *store.GroupTx) error { return nil })
		if err == nil {
			t.Error("a writer does not wait")
		}
		if err := l.Group(ctx, "default", func(_ context.Context, tx *store.GroupTx) error {
			if tx.Head().Group != "default" {
				t.Errorf("head of %s", tx.Head().Group)
			}
			return nil
		}); err != nil {
			return err
		}
		return broken
	}
	if err := store.Load(t.Context(), cfg); !errors.Is(err, broken) {
		t.Fatalf("Load = %v", err)
	}
	if diff := cmp.Diff(before.content, take(t, db).content); diff != "" {
		t.Errorf("after a restore that failed (-want +got):\n%.1000s", diff)
	}
	cfg.Settle = settled
	counters, err := db.Store.Wakeups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Load(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was.content, take(t, db).content); diff != "" {
		t.Errorf("tables (-want +got):\n%.1000s", diff)
	}
	now, err := db.Store.Wakeups(t.Context())
	for topic, n := range counters {
		if now[topic] <= n || err != nil {
			t.Errorf("topic %s did not move: %d, %v", topic, now[topic], err)
		}
	}
}

func TestATableThatDoesNotFitFillsNothing(t *testing.T) {
	t.Parallel()
	was := take(t, populated(t))
	db := storetest.Empty(t)
	cfg := was.into(db)
	cfg.Fill = func(ctx context.Context, l *store.Loading) error {
		if err := was.fill(ctx, l); err != nil {
			return err
		}
		_, err := l.Copy(ctx, "audit", was.columns["audit"], io.LimitReader(bytes.NewReader(was.content["changes"]), 30))
		return err
	}
	if err := store.Load(t.Context(), cfg); err == nil {
		t.Fatal("what is no table fills one")
	}
	db.Open(t)
	if groups, err := db.Store.Groups(t.Context()); err != nil || len(groups) != 0 {
		t.Errorf("groups: %v, %v", groups, err)
	}
}
