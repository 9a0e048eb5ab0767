package store

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// BackupTables are the tables of a backup, in the order in which they can be filled. A test compares them with the schema:
// who adds a table decides whether it is one of these or of volatileTables.
func BackupTables() []string {
	return []string{
		"groups", "heads", "keyrings", "keyring_terms", "resources", changesTable, "baselines", "baseline_records", "rollouts",
		"bundle_keys", "audit", "admin_tokens", "join_tokens", "join_token_uses", "gateways", "certificate_authorities",
		"acme_accounts", "credential_uses",
	}
}

// volatileTables are not in a backup: they are about processes that run, or about the database itself.
func volatileTables() map[string]string {
	return map[string]string{
		"schema_version":  "a backup names its schema",
		"wakeups":         "counters that only have to move",
		"replicas":        "the replicas that run now",
		"replica_reports": "what the gateways of running replicas say",
		"next_keyrings":   "nothing is sealed with it yet; a rotation that was prepared is given up",
		"keyring_readers": "which of the running replicas have read it",
	}
}

// Image is everything that is stored, at one moment. It takes no lock that writers would wait for.
type Image struct {
	tx     pgx.Tx
	schema int
}

// InImage runs fn with an image. What it reads may take long.
func (s *Store) InImage(ctx context.Context, fn func(context.Context, *Image) error) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return s.inTx(ctx, opts, func(tx pgx.Tx) error {
		if err := unhurried(ctx, tx); err != nil {
			return err
		}
		schema, _, err := schemaVersion(ctx, tx)
		if err != nil {
			return err
		}
		return fn(ctx, &Image{tx: tx, schema: schema})
	})
}

// unhurried lifts what bounds statements of servers, for the rest of the transaction.
func unhurried(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0`)
	return mapped("set timeouts", err)
}

// Schema is the version of the schema.
func (i *Image) Schema() int { return i.schema }

const (
	selectColumns = `
select a.attname from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum`
	selectSize     = `select coalesce(sum(pg_table_size(to_regclass(t))), 0)::bigint from unnest($1::text[]) t`
	selectAllHeads = headColumns + ` order by h.group_uid`
)

// Columns are the names of the columns of a table.
func (i *Image) Columns(ctx context.Context, table string) ([]string, error) {
	return columnsOf(ctx, i.tx, table)
}

func columnsOf(ctx context.Context, q querier, table string) ([]string, error) {
	rows, err := q.Query(ctx, selectColumns, pgx.Identifier{table}.Sanitize())
	if err != nil {
		return nil, mapped("read columns of "+table, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, mapped("read columns of "+table, err)
}

// Size estimates how many bytes the tables of a backup take.
func (i *Image) Size(ctx context.Context) (int64, error) {
	var n int64
	err := i.tx.QueryRow(ctx, selectSize, BackupTables()).Scan(&n)
	return n, mapped("read size of tables", err)
}

// Copy writes all rows of a table in the binary form of COPY and answers how many there are.
func (i *Image) Copy(ctx context.Context, table string, columns []string, out io.Writer) (int64, error) {
	tag, err := i.tx.Conn().PgConn().CopyTo(ctx, out, fmt.Sprintf("copy %s to stdout (format binary)", of(table, columns)))
	return tag.RowsAffected(), mapped("copy table "+table, err)
}

// of names columns of a table, for COPY.
func of(table string, columns []string) string {
	quoted := make([]string, len(columns))
	for n, column := range columns {
		quoted[n] = pgx.Identifier{column}.Sanitize()
	}
	return pgx.Identifier{table}.Sanitize() + " (" + strings.Join(quoted, ", ") + ")"
}

// Heads are the heads of all groups, that of the system too.
func (i *Image) Heads(ctx context.Context) ([]Head, error) {
	rows, err := i.tx.Query(ctx, selectAllHeads)
	if err != nil {
		return nil, mapped("read heads", err)
	}
	heads, err := pgx.CollectRows(rows, scanHead)
	return heads, mapped("read heads", err)
}

// Keyring is the keyring of a group.
func (i *Image) Keyring(ctx context.Context, groupUID string) (Keyring, error) {
	return readKeyring(ctx, i.tx, groupUID)
}
