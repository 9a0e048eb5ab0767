// Package store keeps groups, heads, sealed resources, changes, audit rows, tokens, gateways and authorities in
// PostgreSQL. It owns the connection pool and the LISTEN connection, and hands narrow types on: no other package of the
// control plane speaks SQL, and no type of the driver leaves this one (river's jobs apart).
//
// It must not see plain text: whatever is secret reaches it sealed (package sealer), and it never decides whether a change
// is allowed. The one rule it enforces is order: every write to a group locks the group's head row first, so that
// revisions are dense and their order is the order of commits. What moves the beginning of the history (baseline.go) is no
// such write: it has a lock of its own, and writers do not wait for it.
//
// There is one file per aggregate. The write path is in tx.go.
package store
