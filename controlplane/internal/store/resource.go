package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Row is a resource as it is stored: what lists need in the clear, the content sealed.
type Row struct {
	Kind      string
	UID       string
	Name      string
	Labels    map[string]string
	Revision  int64
	Sealed    []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Ref names a resource.
type Ref struct {
	Kind string
	UID  string
}

const (
	selectRows = `
select kind, uid, name, labels, revision, sealed, created_at, updated_at
from resources
where group_uid = $1
order by kind, name`
	selectRowsOf = `
select kind, uid, name, labels, revision, sealed, created_at, updated_at
from resources
where group_uid = $1 and kind = any ($2) and revision > $3
order by kind, name`
	// upsertRows does not move a uid to another group or kind: such a row is not affected, and counted.
	upsertRows = `
insert into resources (group_uid, kind, uid, name, labels, revision, sealed, created_at, updated_at)
select $1, r.kind, r.uid, r.name, r.labels::jsonb, r.revision, r.sealed, r.created_at, r.updated_at
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::timestamptz[],
        $9::timestamptz[]) as r (kind, uid, name, labels, revision, sealed, created_at, updated_at)
on conflict on constraint resources_pkey do update
set name = excluded.name, labels = excluded.labels, revision = excluded.revision, sealed = excluded.sealed,
    updated_at = excluded.updated_at
where resources.group_uid = excluded.group_uid and resources.kind = excluded.kind`
	deleteRows = `
delete from resources
using unnest($2::text[], $3::text[]) as r (kind, uid)
where resources.group_uid = $1 and resources.kind = r.kind and resources.uid = r.uid`
	// putBatch bounds the memory of one statement.
	putBatch = 1000
)

// Rows gives every resource of the group to yield, in order of kind and name, without holding more than one at a time.
// An error of yield ends it. Rows and the head belong together only in InSnapshot.
func (s *Store) Rows(ctx context.Context, group string, yield func(Row) error) error {
	return s.InSnapshot(ctx, group, func(ctx context.Context, r *Reader) error { return r.Rows(ctx, yield) })
}

// Rows gives every resource of the group to yield, in order of kind and name, without holding more than one at a time.
// An error of yield ends it.
func (r *Reader) Rows(ctx context.Context, yield func(Row) error) error {
	rows, err := r.q.Query(ctx, selectRows, r.head.GroupUID)
	return eachRow(rows, err, yield)
}

// RowsOf gives every resource of some kinds of a group to yield, as Rows does.
func (s *Store) RowsOf(ctx context.Context, group string, kinds []string, yield func(Row) error) error {
	return s.RowsSince(ctx, group, kinds, 0, yield)
}

// RowsSince gives those of them that have changed after a revision.
func (s *Store) RowsSince(ctx context.Context, group string, kinds []string, revision int64, yield func(Row) error) error {
	return s.InSnapshot(ctx, group, func(ctx context.Context, r *Reader) error {
		rows, err := r.q.Query(ctx, selectRowsOf, r.head.GroupUID, kinds, revision)
		return eachRow(rows, err, yield)
	})
}

func eachRow(rows pgx.Rows, err error, yield func(Row) error) error {
	if err != nil {
		return mapped("read resources", err)
	}
	defer rows.Close()
	for rows.Next() {
		var w Row
		err := rows.Scan(&w.Kind, &w.UID, &w.Name, &w.Labels, &w.Revision, &w.Sealed, &w.CreatedAt, &w.UpdatedAt)
		if err != nil {
			return mapped("read resource", err)
		}
		if err := yield(w); err != nil {
			return err
		}
	}
	return mapped("read resources", rows.Err())
}

// Put creates or replaces resources; uid says which. What is wrong with them may be known only at the end of the transaction.
func (t *GroupTx) Put(ctx context.Context, rows []Row) error {
	t.unsealed = t.unsealed || len(rows) > 0
	for len(rows) > 0 {
		n := min(putBatch, len(rows))
		if err := t.putBatch(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (t *GroupTx) putBatch(ctx context.Context, batch []Row) error {
	n := len(batch)
	kinds, uids, names, labels := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	revisions, sealed := make([]int64, n), make([][]byte, n)
	created, updated := make([]time.Time, n), make([]time.Time, n)
	for i, w := range batch {
		l, err := marshalLabels(w.Labels)
		if err != nil {
			return fmt.Errorf("put %s %s: %w", w.Kind, w.UID, err)
		}
		kinds[i], uids[i], names[i], labels[i] = w.Kind, w.UID, w.Name, l
		revisions[i], sealed[i], created[i], updated[i] = w.Revision, w.Sealed, w.CreatedAt, w.UpdatedAt
	}
	args := []any{t.head.GroupUID, kinds, uids, names, labels, revisions, sealed, created, updated}
	return t.tx.later(ctx, statement{upsertRows, args, func(tag pgconn.CommandTag, err error) error {
		if err == nil && tag.RowsAffected() != int64(n) {
			return fmt.Errorf("put resources: %w", &ConflictError{Constraint: "resources_pkey"})
		}
		return mapped("put resources", err)
	}})
}

// Delete removes resources; one that is not there is an error, at the end of the transaction at the latest.
func (t *GroupTx) Delete(ctx context.Context, refs []Ref) error {
	if len(refs) == 0 {
		return nil
	}
	t.unsealed = true
	kinds, uids := columns(refs)
	return t.tx.later(ctx, statement{deleteRows, []any{t.head.GroupUID, kinds, uids}, func(tag pgconn.CommandTag, err error) error {
		if err == nil && tag.RowsAffected() != int64(len(refs)) {
			return fmt.Errorf("delete %d resources, found %d: %w", len(refs), tag.RowsAffected(), ErrNotFound)
		}
		return mapped("delete resources", err)
	}})
}

func marshalLabels(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(labels)
	return string(b), err
}
