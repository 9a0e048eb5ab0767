package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// KeyringTerm is what is kept of a term beside the ring.
type KeyringTerm struct {
	GroupUID  string
	Term      uint32
	CreatedAt time.Time
	// MAC covers all of the above.
	MAC []byte
	// Seals is how often the term sealed, as far as replicas have told.
	Seals int64
	// DrainedAt is when nothing was left under the terms before; zero: rewrapping goes on.
	DrainedAt time.Time
}

const (
	selectKeyringTerms = `
select group_uid, term, created_at, mac, seals, coalesce(drained_at, '0001-01-01T00:00:00Z') from keyring_terms order by group_uid, term`
	insertKeyringTerm = `
insert into keyring_terms (group_uid, term, created_at, mac) values ($1, $2, $3, $4)
on conflict on constraint keyring_terms_pkey do update set created_at = excluded.created_at, mac = excluded.mac`
	addSeals     = `update keyring_terms set seals = seals + $3 where group_uid = $1 and term = $2`
	setDrained   = `update keyring_terms set drained_at = now() where group_uid = $1 and term = $2 and drained_at is null`
	setUndrained = `update keyring_terms set drained_at = null where group_uid = $1 and drained_at is not null`
	noteUnknown  = `
insert into keyring_terms (group_uid, term, created_at, mac) values ($1, $2, $3, $4)
on conflict on constraint keyring_terms_pkey do nothing`
)

// KeyringTerms lists what is kept of the terms of all keyrings.
func (s *Store) KeyringTerms(ctx context.Context) ([]KeyringTerm, error) {
	rows, err := s.pool.Query(ctx, selectKeyringTerms)
	if err != nil {
		return nil, mapped("list terms of keyrings", err)
	}
	terms, err := pgx.CollectRows(rows, pgx.RowToStructByPos[KeyringTerm])
	return terms, mapped("list terms of keyrings", err)
}

// NoteKeyringTerm keeps what is known of a term of which nothing is kept yet.
func (s *Store) NoteKeyringTerm(ctx context.Context, k KeyringTerm) error {
	_, err := s.pool.Exec(ctx, noteUnknown, k.GroupUID, k.Term, k.CreatedAt, k.MAC)
	return mapped("note term of keyring", err)
}

// AddSeals counts what a term sealed. A term of which nothing is kept is not counted; known says which it is.
func (s *Store) AddSeals(ctx context.Context, groupUID string, term uint32, n int64) (known bool, err error) {
	tag, err := s.pool.Exec(ctx, addSeals, groupUID, term, n)
	return tag.RowsAffected() == 1, mapped("count seals", err)
}

// Drained notes that nothing is left under the terms of a group before the one given.
func (s *Store) Drained(ctx context.Context, groupUID string, term uint32) error {
	_, err := s.pool.Exec(ctx, setDrained, groupUID, term)
	return mapped("note drained keyring", err)
}

// CreateKeyringTerm keeps what is known of a new term.
func (t *GroupTx) CreateKeyringTerm(ctx context.Context, k KeyringTerm) error {
	_, err := t.tx.Exec(ctx, insertKeyringTerm, t.head.GroupUID, k.Term, k.CreatedAt, k.MAC)
	return mapped("create term of keyring", err)
}

// DrainAgain has the ciphertexts of the group looked through once more.
func (t *GroupTx) DrainAgain(ctx context.Context) error {
	_, err := t.tx.Exec(ctx, setUndrained, t.head.GroupUID)
	t.Wake(TopicKeyrings)
	return mapped("begin rewrapping", err)
}
