package store_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestTheRuntimeRoleCannotRewriteHistoryOrTheSchema(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	const insufficientPrivilege = "42501"
	for _, statement := range []string{
		`update audit set actor = 'x'`,
		`delete from audit`,
		`truncate audit`,
		`update changes set actor = 'x'`,
		`update changes set sealed = ''`,
		`select * from changes for update`,
		`update bundle_keys set version = 7`,
		`delete from keyring_terms`,
		`delete from changes`,
		`truncate changes`,
		`truncate baselines`,
		`delete from baselines`,
		`create or replace function drop_changes(text, bigint) returns bigint language sql as 'select 1::bigint'`,
		`alter function drop_changes(text, bigint) reset all`,
		`delete from heads`,
		`truncate heads`,
		`delete from keyrings`,
		`delete from groups`,
		`update groups set name = 'x'`,
		`truncate resources`,
		`delete from admin_tokens`,
		`delete from gateways`,
		`delete from certificate_authorities`,
		`insert into wakeups (topic, counter) values ('x', 0)`,
		`update schema_version set version = 0`,
		`create table x (y int)`,
		`create schema x`,
		`create function x() returns int language sql as 'select 1'`,
		`create trigger x before insert on audit execute function suppress_redundant_updates_trigger()`,
		`alter table audit disable trigger all`,
		`alter table audit add column x int`,
		`drop table audit`,
		`set role postgres`,
	} {
		var pg *pgconn.PgError
		if err := db.ExecRuntime(t, statement); !errors.As(err, &pg) || pg.Code != insufficientPrivilege {
			t.Errorf("%s: err = %v, want insufficient privilege", statement, err)
		}
	}
}

// TestTheRuntimeRoleDropsChangesOnlyFromTheOldEnd: short of forging changes, which then stay to be seen, it cannot drop the
// newest; and no temporary table is taken for one of ours.
func TestTheRuntimeRoleDropsChangesOnlyFromTheOldEnd(t *testing.T) {
	t.Parallel()
	db := open(t, "default")
	db.Exec(t, `insert into changes (group_uid, revision, epoch, sealed, at, actor)
select uid, n, 1, '', now(), 'test' from groups, generate_series(1, 300) n where name = 'default'`)
	const group = `(select uid from groups where name = 'default')`
	left := func() (n int, oldest int64) {
		t.Helper()
		if err := db.Conn(t).QueryRow(t.Context(), `select count(*), min(revision) from changes`).Scan(&n, &oldest); err != nil {
			t.Fatal(err)
		}
		return n, oldest
	}
	drop := `select drop_changes(` + group + `, 1000000)`
	for _, step := range []struct {
		statement string
		oldest    int64
	}{
		{drop, 1}, // nothing is in a baseline
		{`insert into baselines (group_uid, revision, sealed, updated_at) values (` + group + `, 10, '', now())`, 1},
		{`select drop_changes(` + group + `, 5)`, 6},
		{drop, 11},
		{`create temp table changes (group_uid text, revision bigint); insert into changes select uid, 100000 from groups; ` +
			`create temp table baselines (group_uid text, revision bigint); insert into baselines select uid, 100000 from groups; ` + drop, 11},
		{`update heads set revision = 1000000; update baselines set revision = 1000000; ` + drop, 45},
	} {
		if err := db.ExecRuntime(t, step.statement); err != nil {
			t.Fatalf("%s: %v", step.statement, err)
		}
		if n, oldest := left(); oldest != step.oldest || int64(n) != 300-oldest+1 {
			t.Errorf("after %s: %d changes, the oldest %d, want %d", step.statement, n, oldest, step.oldest)
		}
	}
}

func TestOnlyTheRuntimeRoleMayDropAndRewrapChanges(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for _, function := range []string{"drop_changes(text, bigint)", "rewrap_changes(text, bigint[], bytea[], bytea[])"} {
		var public bool
		err := db.Conn(t).QueryRow(t.Context(), `
select exists (select 1 from pg_proc p, aclexplode(p.proacl) a where p.oid = $1::text::regprocedure and a.grantee = 0)
    or (select proacl is null from pg_proc where oid = $1::text::regprocedure)`, function).Scan(&public)
		if err != nil || public {
			t.Errorf("%s: everybody may: %v, %v", function, public, err)
		}
	}
}

// TestTheRuntimeRolePutsChangesOnlyUnderLaterTerms: what is exchanged has the form of what was there, and must have been read.
func TestTheRuntimeRolePutsChangesOnlyUnderLaterTerms(t *testing.T) {
	t.Parallel()
	const was, later = "0100000002aabb", "0100000003ccdd"
	for name, tc := range map[string]struct {
		read, becomes string
		want          int64
	}{
		"a later term":          {was, later, 1},
		"the same term":         {was, "0100000002ccdd", 0},
		"an earlier term":       {was, "0100000001ccdd", 0},
		"a longer one":          {was, later + "ee", 0},
		"another format":        {was, "0000000003ccdd", 0},
		"what was not read":     {"0100000002aabc", later, 0},
		"nothing in its place":  {was, "", 0},
		"something else's text": {later, later, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t, "default")
			db.Exec(t, `insert into changes (group_uid, revision, epoch, sealed, at, actor)
select uid, 1, 1, decode('`+was+`', 'hex'), now(), 'test' from groups where name = 'default'`)
			conn, err := pgx.Connect(t.Context(), db.Runtime)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			var got int64
			err = conn.QueryRow(t.Context(), `
select rewrap_changes(uid, '{1}', array[decode($1, 'hex')], array[decode($2, 'hex')]) from groups where name = 'default'`, tc.read, tc.becomes).Scan(&got)
			if err != nil || got != tc.want {
				t.Errorf("rewrapped %d, %v; want %d", got, err, tc.want)
			}
		})
	}
}

func TestEveryTableHasRightsAndAComment(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	rows, err := db.Conn(t).Query(t.Context(), `
select c.relname, coalesce(obj_description(c.oid), ''), has_table_privilege($1, c.oid, 'select')
from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace`, db.RuntimeRole)
	if err != nil {
		t.Fatal(err)
	}
	var table, comment string
	var readable bool
	_, err = pgx.ForEachRow(rows, []any{&table, &comment, &readable}, func() error {
		if comment == "" || !readable {
			t.Errorf("table %s: comment %q, readable at run time: %v", table, comment, readable)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryColumnOfBytesIsRegisteredOrKnownToBeNoCiphertext(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	known := []string{ // MACs, hashes, certificates and digests
		"heads.digest", "heads.audit_head", "heads.mac", "audit.prev", "audit.mac", "admin_tokens.secret_hash", "admin_tokens.mac",
		"join_tokens.secret_hash", "join_tokens.mac", "join_token_uses.spki_hash", "gateways.spki_hash", "gateways.applied_digest",
		"certificate_authorities.certificate", "rollouts.plan", "rollouts.mac", "keyring_terms.mac",
	}
	for _, c := range store.Ciphertexts() {
		known = append(known, c.Table+"."+c.Column)
	}
	rows, err := db.Conn(t).Query(t.Context(), `
select table_name || '.' || column_name from information_schema.columns
where table_schema = 'public' and data_type = 'bytea'`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(known)
	if !slices.Equal(got, known) {
		t.Errorf("columns of bytes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(known, "\n"))
	}
}

func TestMigrationsGoUpDownAndUpAgain(t *testing.T) {
	t.Parallel()
	db := storetest.Empty(t)
	db.Migrate(t)
	first := schema(t, db)
	if err := store.Migrate(t.Context(), store.MigrateConfig{DSN: db.Owner, Down: 1000}); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, db); len(left) != 0 {
		t.Errorf("after all went down there is still:\n%s", strings.Join(left, "\n"))
	}
	db.Migrate(t)
	if second := schema(t, db); !slices.Equal(first, second) {
		t.Errorf("schema differs after up, down, up:\n%s\nwant:\n%s", strings.Join(second, "\n"), strings.Join(first, "\n"))
	}
	db.Migrate(t) // nothing left to do
}

// schema describes all columns, constraints, indexes and rights of the runtime role.
func schema(t *testing.T, db *storetest.DB) []string {
	t.Helper()
	rows, err := db.Conn(t).Query(t.Context(), `
select format('column %s.%s %s%s%s', table_name, column_name, data_type, case is_nullable when 'NO' then ' not null' end,
        ' default ' || column_default)
from information_schema.columns where table_schema = 'public'
union all
select format('constraint %s on %s %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
where connamespace = 'public'::regnamespace and contype <> 'n' -- version 18 lists not null as constraints
union all
select format('index %s', indexdef) from pg_indexes where schemaname = 'public'
union all
select format('right %s %s', table_name, string_agg(lower(privilege_type), ', ' order by privilege_type))
from information_schema.role_table_grants where table_schema = 'public' and grantee = $1 group by table_name`, db.RuntimeRole)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func TestTheSchemaIsTheOneThatWasReviewed(t *testing.T) {
	t.Parallel()
	const golden = "testdata/schema.golden"
	got := strings.Join(schema(t, storetest.New(t)), "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("schema (-golden +got), -update rewrites it:\n%s", diff)
	}
}

func TestConcurrentMigrationsDoNotCollide(t *testing.T) {
	t.Parallel()
	db := storetest.Empty(t)
	const n = 4
	errs := make(chan error, n)
	for range n {
		go func() {
			errs <- store.Migrate(t.Context(), store.MigrateConfig{DSN: db.Owner, RuntimeRole: db.RuntimeRole})
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestASchemaThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"older":               `update schema_version set version = version - 1`,
		"newer, incompatible": `update schema_version set version = version + 5, min_compatible = version + 1`,
	} {
		db := storetest.New(t)
		db.Exec(t, statement)
		if _, err := store.Open(t.Context(), store.Config{DSN: db.Runtime}); !errors.Is(err, store.ErrSchema) {
			t.Errorf("%s: Open = %v, want ErrSchema", name, err)
		}
	}
	db := storetest.New(t)
	db.Exec(t, `update schema_version set version = version + 5`)
	s, err := store.Open(t.Context(), store.Config{DSN: db.Runtime})
	if err != nil {
		t.Fatalf("newer, compatible: %v", err)
	}
	s.Close()
	if err := store.Migrate(t.Context(), store.MigrateConfig{DSN: db.Owner, Down: 1}); !errors.Is(err, store.ErrSchema) {
		t.Errorf("undoing an unknown migration: %v", err)
	}
}

func TestADatabaseThatIsGoneIsUnavailable(t *testing.T) {
	t.Parallel()
	db := storetest.Empty(t)
	db.Migrate(t)
	db.Open(t)
	db.Exec(t, `alter role `+db.RuntimeRole+` nologin`)
	db.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where usename = '`+db.RuntimeRole+`'`)
	var err error
	for range 3 { // the pool may still hold connections it does not know to be dead
		err = db.Store.InGroup(t.Context(), "default", func(context.Context, *store.GroupTx) error { return nil })
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("InGroup = %v, want ErrUnavailable", err)
	}
}

func TestServingAsTheOwnerIsWarnedOf(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for dsn, want := range map[string]bool{db.Owner: true, db.Runtime: false} {
		var log bytes.Buffer
		s, err := store.Open(t.Context(), store.Config{DSN: dsn, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := strings.Contains(log.String(), "may rewrite the audit trail"); got != want {
			t.Errorf("warned: %v, want %v", got, want)
		}
	}
}

func TestAnInsecureConnectionIsRefusedBeforeItIsMade(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://u:hidden@db.invalid/x?sslmode=prefer"
	_, open := store.Open(t.Context(), store.Config{DSN: dsn})
	migrate := store.Migrate(t.Context(), store.MigrateConfig{DSN: dsn})
	for name, err := range map[string]error{"Open": open, "Migrate": migrate} {
		if !errors.Is(err, store.ErrInsecureDSN) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s = %v, want ErrInsecureDSN", name, err)
		}
	}
	_, open = store.Open(t.Context(), store.Config{DSN: dsn, AllowInsecure: true})
	migrate = store.Migrate(t.Context(), store.MigrateConfig{DSN: dsn, AllowInsecure: true})
	for name, err := range map[string]error{"Open": open, "Migrate": migrate} {
		if errors.Is(err, store.ErrInsecureDSN) || !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s with the flag = %v, want ErrUnavailable", name, err)
		}
	}
}
