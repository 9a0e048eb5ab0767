package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Authority is an internal certificate authority. Certificate (DER) is in the clear: whoever uses it must find the same
// one inside Sealed.
type Authority struct {
	ID string
	// Kind is root or intermediate.
	Kind string
	// State is next, current, previous or retired; one of each kind is current.
	State       string
	Certificate []byte
	Sealed      []byte
	NotBefore   time.Time
	NotAfter    time.Time
	CreatedAt   time.Time
}

const authorityColumns = `
select id, kind, state, certificate, sealed, not_before, not_after, created_at from certificate_authorities `

const (
	selectAuthorities = authorityColumns + `where state <> 'retired' order by kind, created_at, id`
	insertAuthority   = `
insert into certificate_authorities (id, kind, state, certificate, sealed, not_before, not_after, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)`
	updateAuthority = `update certificate_authorities set state = $2 where id = $1`
)

// Authorities lists the authorities that are not retired.
func (s *Store) Authorities(ctx context.Context) ([]Authority, error) {
	return readAuthorities(ctx, s.pool)
}

// Authorities lists the authorities that are not retired, as they are while the system is locked.
func (t *GroupTx) Authorities(ctx context.Context) ([]Authority, error) {
	return readAuthorities(ctx, t.tx)
}

// CreateAuthority writes an authority, in a transaction of the system.
func (t *GroupTx) CreateAuthority(ctx context.Context, a Authority) error {
	_, err := t.tx.Exec(ctx, insertAuthority, a.ID, a.Kind, a.State, a.Certificate, a.Sealed, a.NotBefore, a.NotAfter,
		a.CreatedAt)
	if err != nil {
		return mapped("create authority", err)
	}
	t.Wake(TopicAuthorities)
	return nil
}

// SetAuthorityState moves an authority on, in a transaction of the system.
func (t *GroupTx) SetAuthorityState(ctx context.Context, id, state string) error {
	tag, err := t.tx.Exec(ctx, updateAuthority, id, state)
	if err != nil {
		return mapped("set state of authority", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("set state of authority %s: %w", id, ErrNotFound)
	}
	t.Wake(TopicAuthorities)
	return nil
}

func readAuthorities(ctx context.Context, q querier) ([]Authority, error) {
	rows, err := q.Query(ctx, selectAuthorities)
	if err != nil {
		return nil, mapped("list authorities", err)
	}
	authorities, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Authority, error) {
		var a Authority
		err := row.Scan(&a.ID, &a.Kind, &a.State, &a.Certificate, &a.Sealed, &a.NotBefore, &a.NotAfter, &a.CreatedAt)
		return a, err
	})
	return authorities, mapped("list authorities", err)
}
