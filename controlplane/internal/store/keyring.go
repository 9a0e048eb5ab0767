package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Keyring is a wrapped keyring.
type Keyring struct {
	GroupUID string
	// Version counts the forms of the ring; the head says which one is right.
	Version int32
	// KEKID names the key-encryption key.
	KEKID     string
	Wrapped   []byte
	UpdatedAt time.Time
}

const (
	selectKeyring  = `select group_uid, version, kek_id, wrapped, updated_at from keyrings where group_uid = $1`
	selectKeyrings = `select group_uid, version, kek_id, wrapped, updated_at from keyrings order by group_uid`
	insertKeyring  = `insert into keyrings (group_uid, version, kek_id, wrapped, updated_at) values ($1, $2, $3, $4, $5)`
	putKeyring     = insertKeyring + `
on conflict on constraint keyrings_pkey do update
set version = excluded.version, kek_id = excluded.kek_id, wrapped = excluded.wrapped, updated_at = excluded.updated_at`
	updateKeyring = `
update keyrings set version = $2, kek_id = $3, wrapped = $4, updated_at = $5 where group_uid = $1 and version <= $2`
)

// Keyring reads the keyring of a group.
func (s *Store) Keyring(ctx context.Context, groupUID string) (Keyring, error) {
	return readKeyring(ctx, s.pool, groupUID)
}

// Keyring reads the keyring of the group.
func (r *Reader) Keyring(ctx context.Context) (Keyring, error) {
	return readKeyring(ctx, r.q, r.head.GroupUID)
}

// Keyrings lists all keyrings, that of the system too.
func (s *Store) Keyrings(ctx context.Context) ([]Keyring, error) {
	rows, err := s.pool.Query(ctx, selectKeyrings)
	if err != nil {
		return nil, mapped("list keyrings", err)
	}
	rings, err := pgx.CollectRows(rows, scanKeyring)
	return rings, mapped("list keyrings", err)
}

// SetKeyring replaces the keyring of the group. The head must then name its version.
func (t *GroupTx) SetKeyring(ctx context.Context, k Keyring) error {
	tag, err := t.tx.Exec(ctx, updateKeyring, t.head.GroupUID, k.Version, k.KEKID, k.Wrapped, k.UpdatedAt)
	if err != nil {
		return mapped("write keyring of group "+t.head.Group, err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("write keyring of group %s: %w", t.head.Group, ErrConflict)
	}
	t.unsealed = true
	t.Wake(TopicKeyrings)
	return nil
}

// PutKeyring writes the keyring of the group anew, whatever was there. The head must then name its version.
func (t *GroupTx) PutKeyring(ctx context.Context, k Keyring) error {
	_, err := t.tx.Exec(ctx, putKeyring, t.head.GroupUID, k.Version, k.KEKID, k.Wrapped, k.UpdatedAt)
	if err != nil {
		return mapped("write keyring of group "+t.head.Group, err)
	}
	t.unsealed = true
	t.Wake(TopicKeyrings)
	return nil
}

func readKeyring(ctx context.Context, q querier, groupUID string) (Keyring, error) {
	rows, err := q.Query(ctx, selectKeyring, groupUID)
	if err != nil {
		return Keyring{}, mapped("read keyring", err)
	}
	ring, err := pgx.CollectExactlyOneRow(rows, scanKeyring)
	if errors.Is(err, pgx.ErrNoRows) { // a group is made with its keyring
		return Keyring{}, fmt.Errorf("read keyring: %w", ErrMissing)
	}
	return ring, mapped("read keyring", err)
}

func scanKeyring(row pgx.CollectableRow) (Keyring, error) {
	var k Keyring
	err := row.Scan(&k.GroupUID, &k.Version, &k.KEKID, &k.Wrapped, &k.UpdatedAt)
	return k, err
}
