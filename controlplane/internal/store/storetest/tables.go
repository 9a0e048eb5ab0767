package storetest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

const selectTables = `
select format('%I.%I', table_schema, table_name), table_name from information_schema.tables
where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`

// Tables copies every table, by name, in the binary format, in which bytes are not escaped.
func (d *DB) Tables(t testing.TB) map[string][]byte {
	t.Helper()
	conn := d.Conn(t)
	rows, err := conn.Query(t.Context(), selectTables)
	if err != nil {
		t.Fatalf("list tables: %v", err)
	}
	names := map[string]string{}
	var quoted, name string
	if _, err := pgx.ForEachRow(rows, []any{&quoted, &name}, func() error { names[name] = quoted; return nil }); err != nil {
		t.Fatalf("list tables: %v", err)
	}
	tables := map[string][]byte{}
	for name, quoted := range names {
		var b bytes.Buffer
		if _, err := conn.PgConn().CopyTo(t.Context(), &b, fmt.Sprintf("copy %s to stdout (format binary)", quoted)); err != nil {
			t.Fatalf("copy table %s: %v", name, err)
		}
		tables[name] = b.Bytes()
	}
	return tables
}
