package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// NextKeyring is the next form of a keyring, wrapped, while replicas read it.
type NextKeyring struct {
	// ID is another one for each that is prepared.
	ID       string
	GroupUID string
	Group    string
	// Action is rotate or remove, Term the one that is added or removed.
	Action     string
	Term       uint32
	Version    int32
	KEKID      string
	Wrapped    []byte
	Actor      string
	PreparedAt time.Time
}

const nextColumns = `
select n.id, n.group_uid, g.name, n.action, n.term, n.version, n.kek_id, n.wrapped, n.actor, n.prepared_at
from next_keyrings n join groups g on g.uid = n.group_uid`

// replicaGone is after which time without a word a replica is not waited for any more.
const replicaGone = "10 seconds"

const (
	selectNextKeyrings = nextColumns + ` order by g.name`
	selectNextKeyring  = nextColumns + ` where n.group_uid = $1`
	insertNextKeyring  = `
insert into next_keyrings (id, group_uid, action, term, version, kek_id, wrapped, actor, prepared_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	deleteNextKeyring = `delete from next_keyrings where group_uid = $1`
	insertReader      = `
insert into keyring_readers (id, replica) select id, $2 from next_keyrings where id = $1
on conflict on constraint keyring_readers_pkey do nothing`
	upsertReplica = `
insert into replicas (name, seen_at) values ($1, now())
on conflict on constraint replicas_pkey do update set seen_at = excluded.seen_at`
	deleteReplica  = `delete from replicas where name = $1 or seen_at < now() - interval '1 hour'`
	selectPrepared = `select exists (select 1 from next_keyrings where id = $1)`
	selectWaiting  = `
select r.name from replicas r
where r.seen_at > now() - interval '` + replicaGone + `'
    and not exists (select 1 from keyring_readers k where k.id = $1 and k.replica = r.name)
order by r.name`
)

// ReplicaRuns says that a replica runs; it is said again and again.
func (s *Store) ReplicaRuns(ctx context.Context, name string) error {
	_, err := s.pool.Exec(ctx, upsertReplica, name)
	return mapped("note replica", err)
}

// ReplicaEnds says that a replica is waited for no longer.
func (s *Store) ReplicaEnds(ctx context.Context, name string) error {
	_, err := s.pool.Exec(ctx, deleteReplica, name)
	return mapped("forget replica", err)
}

// NextKeyrings lists what is prepared, by group.
func (s *Store) NextKeyrings(ctx context.Context) ([]NextKeyring, error) {
	rows, err := s.pool.Query(ctx, selectNextKeyrings)
	if err != nil {
		return nil, mapped("list next keyrings", err)
	}
	list, err := pgx.CollectRows(rows, scanNextKeyring)
	return list, mapped("list next keyrings", err)
}

// HasReadKeyring says that a replica has read what is prepared under the id. If that is not there any more nobody minds.
func (s *Store) HasReadKeyring(ctx context.Context, id, replica string) error {
	_, err := s.pool.Exec(ctx, insertReader, id, replica)
	if err = mapped("note reader of keyring", err); errors.Is(err, ErrConflict) { // it went just now
		return nil
	}
	return err
}

// NotRead lists the replicas that run and have not read what is prepared under the id; ErrNotFound if nothing is, any more.
func (s *Store) NotRead(ctx context.Context, id string) ([]string, error) {
	return readWaiting(ctx, s.pool, id)
}

// NotRead lists the replicas that run and have not read what is prepared under the id.
func (t *GroupTx) NotRead(ctx context.Context, id string) ([]string, error) {
	return readWaiting(ctx, t.tx, id)
}

// NextKeyring answers what is prepared for the group; ErrNotFound if nothing is.
func (t *GroupTx) NextKeyring(ctx context.Context) (NextKeyring, error) {
	rows, err := t.tx.Query(ctx, selectNextKeyring, t.head.GroupUID)
	if err != nil {
		return NextKeyring{}, mapped("read next keyring", err)
	}
	n, err := pgx.CollectExactlyOneRow(rows, scanNextKeyring)
	if errors.Is(err, pgx.ErrNoRows) {
		return NextKeyring{}, fmt.Errorf("read next keyring of group %s: %w", t.head.Group, ErrNotFound)
	}
	return n, mapped("read next keyring", err)
}

// PrepareKeyring makes n what is prepared for the group, whatever was before.
func (t *GroupTx) PrepareKeyring(ctx context.Context, n NextKeyring) error {
	if err := t.DropNextKeyring(ctx); err != nil {
		return err
	}
	_, err := t.tx.Exec(ctx, insertNextKeyring, n.ID, t.head.GroupUID, n.Action, n.Term, n.Version, n.KEKID, n.Wrapped, n.Actor, n.PreparedAt)
	return mapped("prepare keyring of group "+t.head.Group, err)
}

// DropNextKeyring makes nothing prepared for the group.
func (t *GroupTx) DropNextKeyring(ctx context.Context) error {
	_, err := t.tx.Exec(ctx, deleteNextKeyring, t.head.GroupUID)
	t.Wake(TopicKeyrings)
	return mapped("drop next keyring of group "+t.head.Group, err)
}

func readWaiting(ctx context.Context, q querier, id string) ([]string, error) {
	rows, err := q.Query(ctx, selectWaiting, id)
	if err != nil {
		return nil, mapped("list replicas", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, mapped("list replicas", err)
	}
	var there bool
	if err := q.QueryRow(ctx, selectPrepared, id).Scan(&there); err != nil {
		return nil, mapped("look for next keyring", err)
	}
	if !there {
		return nil, fmt.Errorf("look for next keyring: %w", ErrNotFound)
	}
	return names, nil
}

func scanNextKeyring(row pgx.CollectableRow) (NextKeyring, error) {
	var n NextKeyring
	err := row.Scan(&n.ID, &n.GroupUID, &n.Group, &n.Action, &n.Term, &n.Version, &n.KEKID, &n.Wrapped, &n.Actor, &n.PreparedAt)
	return n, err
}
