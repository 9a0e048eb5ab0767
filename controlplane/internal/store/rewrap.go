package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// SealedRow is a row with a ciphertext, and the place that was sealed with it.
type SealedRow struct {
	Table     string
	Kind, UID string
	Revision  int64
	Sealed    []byte
	// at is where in the table the row lies, for as long as it is locked.
	at string
}

// TermRows is how many rows of a table a term sealed.
type TermRows struct {
	Table string
	Term  uint32
	Rows  int64
}

// Walk is a walk over the ciphertexts of a group that are under terms before a given one, in the order in which they lie in
// their tables. It holds nothing in the database: whoever walks anew finds what is left.
type Walk struct {
	groupUID string
	before   []byte
	tables   []Ciphertext
	// found are the rows of the first table that are still to be visited; after is where the search goes on.
	found []found
	after string
	// check is asked in every transaction.
	check func(Head) error
}

// OnlyWhile has every transaction of the walk ask whether the group's head is still one of the keyring with which it is
// rewrapped. When a database is rewound or restored under a replica that runs, what is sealed with the replica's keyring would
// open for nobody.
func (w *Walk) OnlyWhile(check func(Head) error) { w.check = check }

// found is a row: where in its table it lies, and how long its ciphertext is.
type found struct {
	At    string
	Bytes int64
}

// ErrRewrapping says that another replica rewraps the group.
var ErrRewrapping = errors.New("another replica rewraps the group")

const lockRewrap = `select pg_try_advisory_xact_lock(hashtextextended('keyward/rewrap/' || $1, 0))`

const (
	// walkList is how many rows are looked up at once.
	walkList = 4000
	// walkBytes bounds what is read of them in one transaction; one row always is.
	walkBytes = 8 << 20
)

// NewWalk begins a walk over what is under terms before the given one.
func (s *Store) NewWalk(groupUID string, before uint32) *Walk {
	w := &Walk{groupUID: groupUID, before: termBytes(before), after: "(0,0)"}
	for _, c := range Ciphertexts() {
		if c.Term {
			w.tables = append(w.tables, c)
		}
	}
	return w
}

// Rewrap visits the next rows of a walk, at most limit, in a transaction of its own: seal answers the new ciphertext of a row,
// or nil to leave it. A row that somebody else has locked is passed over; a writer who wants one of these waits for the commit
// and then has the last word. done says that the walk is over. ErrRewrapping says that another replica is at it.
func (s *Store) Rewrap(ctx context.Context, w *Walk, limit int, seal func(SealedRow) []byte) (n int64, done bool, err error) {
	if err := s.search(ctx, w); err != nil {
		return 0, false, err
	}
	if len(w.tables) == 0 {
		return 0, true, nil
	}
	next := w.next(limit)
	err = s.inTx(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, lockRewrap, w.groupUID).Scan(&mine); err != nil {
			return mapped("lock rewrapping", err)
		}
		if !mine {
			return ErrRewrapping
		}
		if err := w.checked(ctx, tx); err != nil {
			return err
		}
		rows, err := w.lock(ctx, tx, next)
		if err != nil {
			return err
		}
		var was, becomes []SealedRow
		for _, row := range rows {
			if sealed := seal(row); sealed != nil {
				was = append(was, row)
				row.Sealed = sealed
				becomes = append(becomes, row)
			}
		}
		n, err = w.exchange(ctx, tx, was, becomes)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	w.found = w.found[len(next):]
	return n, false, nil
}

// holdKeyring keeps the keyring of a group from being exchanged together with all that is sealed under it, as a restore does,
// until the transaction ends. A rotation does not wait for it.
const holdKeyring = `select 1 from keyrings where group_uid = $1 for key share`

func (w *Walk) checked(ctx context.Context, tx pgx.Tx) error {
	if w.check == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, holdKeyring, w.groupUID); err != nil {
		return mapped("hold keyring", err)
	}
	rows, err := tx.Query(ctx, selectHeadByUID, w.groupUID)
	if err != nil {
		return mapped("read head", err)
	}
	head, err := pgx.CollectExactlyOneRow(rows, scanHead)
	if err != nil {
		return mapped("read head", err)
	}
	return w.check(head)
}

// next is where the next rows lie, at most limit.
func (w *Walk) next(limit int) []string {
	var at []string
	size := int64(0)
	for _, f := range w.found {
		size += f.Bytes
		if len(at) == limit || len(at) > 0 && size > walkBytes {
			break
		}
		at = append(at, f.At)
	}
	return at
}

// search looks for rows until there are some or the walk is over.
func (s *Store) search(ctx context.Context, w *Walk) error {
	for len(w.found) == 0 && len(w.tables) > 0 {
		c := w.tables[0]
		// The order is that of the place, not of its text, so the name of the table has to stand before it.
		query := fmt.Sprintf(`select t.ctid::text, octet_length(%s) from %s t where %s and %s < $2 and t.ctid > $3::text::tid order by t.ctid limit $4`,
			c.Column, c.Table, c.of(), c.term())
		rows, err := s.pool.Query(ctx, query, w.groupUID, w.before, w.after, walkList)
		if err != nil {
			return mapped("look for ciphertexts in "+c.Table, err)
		}
		if w.found, err = pgx.CollectRows(rows, pgx.RowToStructByPos[found]); err != nil {
			return mapped("look for ciphertexts in "+c.Table, err)
		}
		if len(w.found) == 0 {
			w.tables, w.after = w.tables[1:], "(0,0)"
			continue
		}
		w.after = w.found[len(w.found)-1].At
	}
	return nil
}

// lock reads rows anew, those that are not locked. Changes are never updated by others, nor can they be locked.
func (w *Walk) lock(ctx context.Context, tx pgx.Tx, at []string) ([]SealedRow, error) {
	c := w.tables[0]
	query := fmt.Sprintf(`select ctid::text, %s, %s from %s where %s and %s < $2 and ctid = any($3::text[]::tid[])`,
		c.place(), c.Column, c.Table, c.of(), c.term())
	if c.Table != changesTable {
		query += " for update skip locked"
	}
	rows, err := tx.Query(ctx, query, w.groupUID, w.before, at)
	if err != nil {
		return nil, mapped("read ciphertexts of "+c.Table, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (SealedRow, error) {
		r := SealedRow{Table: c.Table}
		err := row.Scan(&r.at, &r.Kind, &r.UID, &r.Revision, &r.Sealed)
		return r, err
	})
	return list, mapped("read ciphertexts of "+c.Table, err)
}

// exchange writes the new ciphertexts and answers how many.
func (w *Walk) exchange(ctx context.Context, tx pgx.Tx, was, becomes []SealedRow) (n int64, err error) {
	if len(was) == 0 {
		return 0, nil
	}
	c := w.tables[0]
	at, old, sealed, revisions := make([]string, len(was)), make([][]byte, len(was)), make([][]byte, len(was)), make([]int64, len(was))
	for i := range was {
		at[i], old[i], sealed[i], revisions[i] = was[i].at, was[i].Sealed, becomes[i].Sealed, was[i].Revision
	}
	if c.Table == changesTable {
		err = tx.QueryRow(ctx, `select rewrap_changes($1, $2, $3, $4)`, w.groupUID, revisions, old, sealed).Scan(&n)
		return n, mapped("rewrap "+c.Table, err)
	}
	query := fmt.Sprintf(`update %s t set %s = n.sealed from unnest($1::text[]::tid[], $2::bytea[]) as n (at, sealed) where t.ctid = n.at`, c.Table, c.Column)
	tag, err := tx.Exec(ctx, query, at, sealed)
	return tag.RowsAffected(), mapped("rewrap "+c.Table, err)
}

// TermRows counts the ciphertexts of a group by table and term.
func (s *Store) TermRows(ctx context.Context, groupUID string) ([]TermRows, error) {
	return readTermRows(ctx, s.pool, groupUID)
}

// ErrTermInUse says that there is still ciphertext under a term; errors.As with *TermInUseError tells how much.
var ErrTermInUse = errors.New("ciphertext is left under the term")

// TermInUseError says where ciphertext under a term is left.
type TermInUseError struct{ Rows []TermRows }

// Error names the tables.
func (e *TermInUseError) Error() string {
	parts := make([]string, len(e.Rows))
	for i, r := range e.Rows {
		parts[i] = fmt.Sprintf("%d in %s", r.Rows, r.Table)
	}
	return ErrTermInUse.Error() + ": " + strings.Join(parts, ", ")
}

// Is makes errors.Is(err, ErrTermInUse) hold.
func (e *TermInUseError) Is(target error) bool { return target == ErrTermInUse }

// TermUnused answers an error if anything of the group is sealed under the term. The beginning of the group's history then
// stays where it is until the transaction ends, as the group itself does: nothing can come to be under the term meanwhile.
func (t *GroupTx) TermUnused(ctx context.Context, term uint32) error {
	if _, err := t.tx.Exec(ctx, lockHistory, t.head.GroupUID); err != nil {
		return mapped("lock history", err)
	}
	all, err := readTermRows(ctx, t.tx, t.head.GroupUID)
	if err != nil {
		return err
	}
	var left []TermRows
	for _, r := range all {
		if r.Term == term {
			left = append(left, r)
		}
	}
	if len(left) > 0 {
		return &TermInUseError{Rows: left}
	}
	return nil
}

func readTermRows(ctx context.Context, q querier, groupUID string) ([]TermRows, error) {
	var out []TermRows
	for _, c := range Ciphertexts() {
		if !c.Term {
			continue
		}
		rows, err := q.Query(ctx, fmt.Sprintf(`select %s as term, count(*) from %s where %s group by term order by term`, c.term(), c.Table, c.of()), groupUID)
		if err != nil {
			return nil, mapped("count ciphertexts of "+c.Table, err)
		}
		var term []byte
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&term, &n}, func() error {
			r := TermRows{Table: c.Table, Rows: n}
			if len(term) == 4 { // else it is no ciphertext of ours; term 0 says so
				r.Term = binary.BigEndian.Uint32(term)
			}
			out = append(out, r)
			return nil
		})
		if err != nil {
			return nil, mapped("count ciphertexts of "+c.Table, err)
		}
	}
	return out, nil
}

func termBytes(term uint32) []byte { return binary.BigEndian.AppendUint32(nil, term) }
