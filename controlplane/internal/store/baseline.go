package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Baseline is where the kept history of a group begins. What the group held there is in its records.
type Baseline struct {
	// Revision is the last one whose change is not kept; 0 says that nothing was ever dropped.
	Revision int64
	// Sealed is the state of the digest of the records.
	Sealed    []byte
	UpdatedAt time.Time
}

// ChangeSize says of a stored change what is needed to decide whether it is kept.
type ChangeSize struct {
	Revision int64
	At       time.Time
	Bytes    int64
}

const (
	selectBaseline = `select revision, sealed, updated_at from baselines where group_uid = $1`
	upsertBaseline = `
insert into baselines (group_uid, revision, sealed, updated_at) values ($1, $2, $3, $4)
on conflict on constraint baselines_pkey do update
set revision = excluded.revision, sealed = excluded.sealed, updated_at = excluded.updated_at`
	selectBaselineRows = `
select kind, uid, revision, sealed, created_at, updated_at from baseline_records where group_uid = $1`
	selectSomeBaselineRows = `
select b.kind, b.uid, b.revision, b.sealed, b.created_at, b.updated_at
from unnest($2::text[], $3::text[]) as r (kind, uid)
join baseline_records b on b.group_uid = $1 and b.kind = r.kind and b.uid = r.uid`
	upsertBaselineRows = `
insert into baseline_records (group_uid, kind, uid, revision, sealed, created_at, updated_at)
select $1, r.kind, r.uid, r.revision, r.sealed, r.created_at, r.updated_at
from unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::timestamptz[], $7::timestamptz[])
    as r (kind, uid, revision, sealed, created_at, updated_at)
on conflict on constraint baseline_records_pkey do update
set revision = excluded.revision, sealed = excluded.sealed, updated_at = excluded.updated_at`
	deleteBaselineRows = `
delete from baseline_records b
using unnest($2::text[], $3::text[]) as r (kind, uid)
where b.group_uid = $1 and b.kind = r.kind and b.uid = r.uid`
	selectChangeSizes = `
select revision, at, octet_length(sealed) from changes where group_uid = $1 and revision > $2 order by revision limit $3`
	dropChanges = `select drop_changes($1, $2)`
	// lockHistory is taken by who moves a baseline, and shared by a writer that reads the history statement by statement.
	lockHistory       = `select pg_advisory_xact_lock(hashtextextended('keyward/history/' || $1, 0))`
	lockHistoryShared = `select pg_advisory_xact_lock_shared(hashtextextended('keyward/history/' || $1, 0))`
)

// holdKeyringOf is holdKeyring by the name of the group.
const holdKeyringOf = `select 1 from keyrings where group_uid = (select uid from groups where name = $1) for key share`

// Baseline answers where the kept history begins. In a transaction that writes the baseline then stays where it is.
func (r *Reader) Baseline(ctx context.Context) (Baseline, error) {
	if r.writes {
		if _, err := r.q.Exec(ctx, lockHistoryShared, r.head.GroupUID); err != nil {
			return Baseline{}, mapped("lock history", err)
		}
	}
	return readBaseline(ctx, r.q, r.head.GroupUID)
}

func readBaseline(ctx context.Context, q querier, groupUID string) (Baseline, error) {
	var b Baseline
	err := q.QueryRow(ctx, selectBaseline, groupUID).Scan(&b.Revision, &b.Sealed, &b.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Baseline{}, nil
	}
	return b, mapped("read baseline", err)
}

// BaselineRows gives every record of the baseline to yield, in no order, without holding more than one at a time. Names and
// labels are only inside. An error of yield ends it.
func (r *Reader) BaselineRows(ctx context.Context, yield func(Row) error) error {
	return eachBaselineRow(ctx, r.q, yield, selectBaselineRows, r.head.GroupUID)
}

func eachBaselineRow(ctx context.Context, q querier, yield func(Row) error, query string, args ...any) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return mapped("read baseline", err)
	}
	defer rows.Close()
	for rows.Next() {
		var w Row
		if err := rows.Scan(&w.Kind, &w.UID, &w.Revision, &w.Sealed, &w.CreatedAt, &w.UpdatedAt); err != nil {
			return mapped("read baseline", err)
		}
		if err := yield(w); err != nil {
			return err
		}
	}
	return mapped("read baseline", rows.Err())
}

// HistoryTx is a transaction that holds the beginning of a group's history, and nothing that writers wait for.
type HistoryTx struct {
	tx   pgx.Tx
	head Head
	base Baseline
}

// InHistory runs fn in a transaction that moves the baseline of a group. Only one does at a time.
func (s *Store) InHistory(ctx context.Context, group string, fn func(context.Context, *HistoryTx) error) error {
	return again(func() error { return s.inHistory(ctx, group, fn) })
}

func (s *Store) inHistory(ctx context.Context, group string, fn func(context.Context, *HistoryTx) error) error {
	return s.inTx(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, holdKeyringOf, group); err != nil { // before the head is read
			return mapped("hold keyring of group "+group, err)
		}
		head, err := readHead(ctx, tx, selectHead, group)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockHistory, head.GroupUID); err != nil {
			return mapped("lock history", err)
		}
		base, err := readBaseline(ctx, tx, head.GroupUID)
		if err != nil {
			return err
		}
		return fn(ctx, &HistoryTx{tx: tx, head: head, base: base})
	})
}

// Head answers where the group stood when the transaction began.
func (t *HistoryTx) Head() Head { return t.head }

// Baseline answers where the kept history begins.
func (t *HistoryTx) Baseline() Baseline { return t.base }

// Oldest describes the oldest kept changes, at most limit.
func (t *HistoryTx) Oldest(ctx context.Context, limit int) ([]ChangeSize, error) {
	rows, err := t.tx.Query(ctx, selectChangeSizes, t.head.GroupUID, t.base.Revision, limit)
	if err != nil {
		return nil, mapped("read sizes of changes", err)
	}
	sizes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ChangeSize])
	return sizes, mapped("read sizes of changes", err)
}

// Changes answers the oldest kept changes, at most limit.
func (t *HistoryTx) Changes(ctx context.Context, limit int) ([]Change, error) {
	return readChanges(ctx, t.tx, selectChanges, t.head.GroupUID, t.base.Revision, limit)
}

// Records gives those of the records that the baseline holds to yield, see Reader.BaselineRows.
func (t *HistoryTx) Records(ctx context.Context, refs []Ref, yield func(Row) error) error {
	kinds, uids := columns(refs)
	return eachBaselineRow(ctx, t.tx, yield, selectSomeBaselineRows, t.head.GroupUID, kinds, uids)
}

// Advance moves the baseline: records are put and removed, and the changes up to its revision dropped.
func (t *HistoryTx) Advance(ctx context.Context, to Baseline, put []Row, remove []Ref) error {
	kinds, uids := columns(remove)
	if _, err := t.tx.Exec(ctx, deleteBaselineRows, t.head.GroupUID, kinds, uids); err != nil {
		return mapped("remove records of baseline", err)
	}
	for len(put) > 0 {
		n := min(putBatch, len(put))
		if err := t.put(ctx, put[:n]); err != nil {
			return err
		}
		put = put[n:]
	}
	if _, err := t.tx.Exec(ctx, upsertBaseline, t.head.GroupUID, to.Revision, to.Sealed, to.UpdatedAt); err != nil {
		return mapped("write baseline", err)
	}
	var dropped int64
	if err := t.tx.QueryRow(ctx, dropChanges, t.head.GroupUID, to.Revision).Scan(&dropped); err != nil {
		return mapped("drop changes", err)
	}
	if want := to.Revision - t.base.Revision; dropped != want {
		return fmt.Errorf("drop changes of group %s up to %d: the database dropped %d, not %d", t.head.Group, to.Revision, dropped, want)
	}
	return nil
}

func (t *HistoryTx) put(ctx context.Context, batch []Row) error {
	n := len(batch)
	kinds, uids, revisions, sealed := make([]string, n), make([]string, n), make([]int64, n), make([][]byte, n)
	created, updated := make([]time.Time, n), make([]time.Time, n)
	for i, w := range batch {
		kinds[i], uids[i], revisions[i], sealed[i] = w.Kind, w.UID, w.Revision, w.Sealed
		created[i], updated[i] = w.CreatedAt, w.UpdatedAt
	}
	_, err := t.tx.Exec(ctx, upsertBaselineRows, t.head.GroupUID, kinds, uids, revisions, sealed, created, updated)
	return mapped("put records of baseline", err)
}

func columns(refs []Ref) (kinds, uids []string) {
	kinds, uids = make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		kinds[i], uids[i] = r.Kind, r.UID
	}
	return kinds, uids
}
