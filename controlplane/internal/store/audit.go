package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditRow is one event of an audit chain.
type AuditRow struct {
	GroupUID string
	// Seq counts from 1 without gaps.
	Seq int64
	// At is in microseconds, which is what the database keeps.
	At       time.Time
	Actor    string
	Action   string
	Subjects []string
	Revision int64
	Detail   string
	// Prev is the MAC of the row before, empty in the first.
	Prev []byte
	MAC  []byte
}

const auditColumns = `select group_uid, seq, at, actor, action, subjects, revision, detail, prev, mac from audit `

const (
	selectAuditUp   = auditColumns + `where group_uid = $1 order by seq`
	selectAuditDown = auditColumns + `where group_uid = $1 and seq < $2 order by seq desc limit $3`
	insertAudit     = `
insert into audit (group_uid, seq, at, actor, action, subjects, revision, detail, prev, mac)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
)

// AppendAudit writes a row, at the end of the transaction at the latest. Package audit makes it; its number and MAC must go into the head.
func (t *GroupTx) AppendAudit(ctx context.Context, a AuditRow) error {
	t.unsealed = true
	args := []any{
		t.head.GroupUID, a.Seq, a.At, a.Actor, a.Action, notNilStrings(a.Subjects), a.Revision, a.Detail, notNil(a.Prev), a.MAC,
	}
	return t.tx.later(ctx, statement{insertAudit, args, failing("append audit row")})
}

// AuditRows gives the chain to yield, oldest first. An error of yield ends it.
func (r *Reader) AuditRows(ctx context.Context, yield func(AuditRow) error) error {
	rows, err := r.q.Query(ctx, selectAuditUp, r.head.GroupUID)
	if err != nil {
		return mapped("read audit rows", err)
	}
	defer rows.Close()
	for rows.Next() {
		a, err := scanAudit(rows)
		if err != nil {
			return mapped("read audit row", err)
		}
		if err := yield(a); err != nil {
			return err
		}
	}
	return mapped("read audit rows", rows.Err())
}

// AuditPage answers at most limit rows of a group's chain before number seq, newest first. With seq 0 it starts at the
// newest.
func (s *Store) AuditPage(ctx context.Context, group string, seq int64, limit int) ([]AuditRow, error) {
	g, err := s.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	if seq == 0 {
		seq = 1<<63 - 1
	}
	rows, err := s.pool.Query(ctx, selectAuditDown, g.UID, seq, limit)
	if err != nil {
		return nil, mapped("read audit rows", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (AuditRow, error) { return scanAudit(row) })
	return page, mapped("read audit rows", err)
}

func scanAudit(row interface{ Scan(dest ...any) error }) (AuditRow, error) {
	var a AuditRow
	err := row.Scan(&a.GroupUID, &a.Seq, &a.At, &a.Actor, &a.Action, &a.Subjects, &a.Revision, &a.Detail, &a.Prev, &a.MAC)
	return a, err
}

func notNilStrings(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
