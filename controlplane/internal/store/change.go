package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Change is one revision of a group. Its body is sealed; the rest is for history.
type Change struct {
	Revision int64
	Epoch    uint64
	Sealed   []byte
	At       time.Time
	Actor    string
	// Summary says how many of what were put and removed.
	Summary string
}

const (
	selectChanges = `
select revision, epoch, sealed, at, actor, summary
from changes
where group_uid = $1 and revision > $2
order by revision
limit $3`
	selectHistory = `
select revision, epoch, ''::bytea, at, actor, summary
from changes
where group_uid = $1 and revision < $2
order by revision desc
limit $3`
	selectAllChanges = `
select revision, epoch, sealed, at, actor, summary
from changes
where group_uid = $1
order by revision`
	insertChange = `
insert into changes (group_uid, revision, epoch, sealed, at, actor, summary) values ($1, $2, $3, $4, $5, $6, $7)`
	noLimit = 1 << 31
)

// ChangesSince answers at most limit changes after revision, in order. With limit 0 it answers all.
func (s *Store) ChangesSince(ctx context.Context, group string, revision int64, limit int) ([]Change, error) {
	g, err := s.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	return readChanges(ctx, s.pool, selectChanges, g.UID, revision, limit)
}

// History answers at most limit changes before revision, newest first, without their bodies. With revision 0 it starts
// at the newest.
func (s *Store) History(ctx context.Context, group string, before int64, limit int) ([]Change, error) {
	g, err := s.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	if before == 0 {
		before = 1<<63 - 1
	}
	return readChanges(ctx, s.pool, selectHistory, g.UID, before, limit)
}

// ChangesSince answers at most limit changes after revision, in order. With limit 0 it answers all.
func (r *Reader) ChangesSince(ctx context.Context, revision int64, limit int) ([]Change, error) {
	return readChanges(ctx, r.q, selectChanges, r.head.GroupUID, revision, limit)
}

// Changes gives every change of the group to yield, the oldest first, without holding more than one at a time. An error
// of yield ends it.
func (r *Reader) Changes(ctx context.Context, yield func(Change) error) error {
	rows, err := r.q.Query(ctx, selectAllChanges, r.head.GroupUID)
	if err != nil {
		return mapped("read changes", err)
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scanChange(rows)
		if err != nil {
			return mapped("read change", err)
		}
		if err := yield(c); err != nil {
			return err
		}
	}
	return mapped("read changes", rows.Err())
}

// ChangesSince answers all changes after revision, in order.
func (t *GroupTx) ChangesSince(ctx context.Context, revision int64) ([]Change, error) {
	return readChanges(ctx, t.tx, selectChanges, t.head.GroupUID, revision, 0)
}

// Rows gives every resource of the group to yield, as Reader.Rows does.
func (t *GroupTx) Rows(ctx context.Context, yield func(Row) error) error {
	return t.Reader().Rows(ctx, yield)
}

// AppendChange writes the body of a revision, at the end of the transaction at the latest.
func (t *GroupTx) AppendChange(ctx context.Context, c Change) error {
	t.unsealed = true
	args := []any{t.head.GroupUID, c.Revision, c.Epoch, c.Sealed, c.At, c.Actor, c.Summary}
	return t.tx.later(ctx, statement{insertChange, args, failing("append change")})
}

func readChanges(ctx context.Context, q querier, query, groupUID string, revision int64, limit int) ([]Change, error) {
	if limit <= 0 {
		limit = noLimit
	}
	rows, err := q.Query(ctx, query, groupUID, revision, limit)
	if err != nil {
		return nil, mapped("read changes", err)
	}
	changes, err := pgx.CollectRows(rows, scanChange)
	return changes, mapped("read changes", err)
}

func scanChange(row pgx.CollectableRow) (Change, error) {
	var c Change
	err := row.Scan(&c.Revision, &c.Epoch, &c.Sealed, &c.At, &c.Actor, &c.Summary)
	return c, err
}
