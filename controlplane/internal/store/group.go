package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// SystemGroup is the reserved name under which what belongs to no group has its head, keyring and audit chain.
	SystemGroup = "system"
	// SystemUID is its uid.
	SystemUID = "00000000-0000-0000-0000-000000000000"
)

// Group is a gateway group. Names are never used again.
type Group struct {
	UID         string
	Name        string
	Description string
	CreatedAt   time.Time
}

const (
	selectGroups    = `select uid, name, description, created_at from groups where uid <> $1 order by name`
	selectGroup     = `select uid, name, description, created_at from groups where name = $1`
	selectGroupName = `select name from groups where uid = $1`
	countGroups     = `select count(uid) from groups`
	insertGroup     = `insert into groups (uid, name, description, created_at) values ($1, $2, $3, $4)`
	// lockSetUp keeps two replicas from setting up the same database at once.
	lockSetUp = `select pg_advisory_xact_lock($1)`
)

// Groups lists the groups by name, without the system.
func (s *Store) Groups(ctx context.Context) ([]Group, error) {
	rows, err := s.pool.Query(ctx, selectGroups, SystemUID)
	if err != nil {
		return nil, mapped("list groups", err)
	}
	groups, err := pgx.CollectRows(rows, scanGroup)
	return groups, mapped("list groups", err)
}

// Group answers the group of that name.
func (s *Store) Group(ctx context.Context, name string) (Group, error) {
	return readGroup(ctx, s.pool, name)
}

func readGroup(ctx context.Context, q querier, name string) (Group, error) {
	rows, err := q.Query(ctx, selectGroup, name)
	if err != nil {
		return Group{}, mapped("read group "+name, err)
	}
	group, err := pgx.CollectExactlyOneRow(rows, scanGroup)
	return group, mapped("read group "+name, err)
}

func scanGroup(row pgx.CollectableRow) (Group, error) {
	var g Group
	err := row.Scan(&g.UID, &g.Name, &g.Description, &g.CreatedAt)
	return g, err
}

// CreateGroup makes a group with its first keyring and head inside a transaction of the system, and answers a
// transaction on the new group that lives and ends with this one.
func (t *GroupTx) CreateGroup(ctx context.Context, g Group, k Keyring, h Head) (*GroupTx, error) {
	n := &GroupTx{tx: t.tx, wakes: t.wakes}
	if err := n.create(ctx, g, k, h); err != nil {
		return nil, err
	}
	t.nested = append(t.nested, n)
	t.Wake(TopicGroups)
	return n, nil
}

// CreateSystem makes the reserved group in an empty database and runs fn in its transaction. It answers ErrConflict when
// any group exists: a system that went missing from a database in use is damage, not a beginning.
func (s *Store) CreateSystem(ctx context.Context, g Group, k Keyring, h Head, fn func(context.Context, *GroupTx) error) error {
	return s.inTx(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSetUp, advisoryLock+1); err != nil {
			return mapped("lock set-up", err)
		}
		var n int64
		if err := tx.QueryRow(ctx, countGroups).Scan(&n); err != nil {
			return mapped("count groups", err)
		}
		if n > 0 {
			return &ConflictError{Constraint: "groups_empty"}
		}
		t := &GroupTx{tx: &pipeline{tx: tx}, wakes: map[string]bool{}}
		if err := t.create(ctx, g, k, h); err != nil {
			return err
		}
		if err := fn(ctx, t); err != nil {
			return err
		}
		return t.finish(ctx)
	})
}

func (t *GroupTx) create(ctx context.Context, g Group, k Keyring, h Head) error {
	if _, err := t.tx.Exec(ctx, insertGroup, g.UID, g.Name, g.Description, g.CreatedAt); err != nil {
		return mapped("create group "+g.Name, err)
	}
	if _, err := t.tx.Exec(ctx, insertKeyring, k.GroupUID, k.Version, k.KEKID, k.Wrapped, k.UpdatedAt); err != nil {
		return mapped("create keyring of group "+g.Name, err)
	}
	if _, err := t.tx.Exec(ctx, insertHead, h.args()...); err != nil {
		return mapped("create head of group "+g.Name, err)
	}
	t.head = h
	return nil
}

// GroupName answers the name of a group by its uid.
func (s *Store) GroupName(ctx context.Context, uid string) (string, error) {
	var name string
	err := s.pool.QueryRow(ctx, selectGroupName, uid).Scan(&name)
	return name, mapped("read name of group", err)
}
