// Package migrations carries the database schema as numbered pairs of SQL files, embedded so that a control plane always
// brings the schema it was built for. It executes nothing; the control plane's store runs the files.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed *.sql
var files embed.FS

// FS returns the files NNNN_name.up.sql and NNNN_name.down.sql. The first line of an up file says the oldest schema
// version whose programs still work once it is applied: "-- min_compatible: N".
func FS() fs.FS { return files }
