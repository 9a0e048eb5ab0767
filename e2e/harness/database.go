package harness

import (
	"bytes"
	"fmt"
)

// Tables returns the contents of every table of the installation, as text.
func (c *Cluster) Tables() [][]byte {
	c.T.Helper()
	names, err := c.PG.Query(c.T.Context(), database, `select tablename from pg_tables where schemaname = 'public'`)
	if err != nil {
		c.T.Fatal(err)
	}
	if len(names) == 0 {
		c.T.Fatal("the installation has no tables")
	}
	out := make([][]byte, 0, len(names))
	for _, name := range names {
		rows, err := c.PG.Query(c.T.Context(), database, fmt.Sprintf(`select t::text from %q t`, name[0]))
		if err != nil {
			c.T.Fatal(err)
		}
		var b bytes.Buffer
		for _, row := range rows {
			b.WriteString(row[0])
			b.WriteByte('\n')
		}
		out = append(out, b.Bytes())
	}
	return out
}

// SQL runs a statement as the owner of the database: what somebody who got hold of it could do.
func (c *Cluster) SQL(statement string) {
	c.T.Helper()
	if err := c.PG.Exec(c.T.Context(), database, statement); err != nil {
		c.T.Fatal(err)
	}
}

// Rows runs a query as the owner of the database.
func (c *Cluster) Rows(query string) [][]string {
	c.T.Helper()
	rows, err := c.PG.Query(c.T.Context(), database, query)
	if err != nil {
		c.T.Fatal(err)
	}
	return rows
}

// SQLAsRuntime runs a statement with the rights of the control plane's role: what a process that was taken over could do.
func (c *Cluster) SQLAsRuntime(statement string) error {
	return c.PG.Exec(c.T.Context(), database, "set role keyward_runtime; "+statement)
}
