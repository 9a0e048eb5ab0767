package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Grant is a role in a group, or in all groups ("*").
type Grant struct {
	Group string `json:"group"`
	Role  string `json:"role"`
}

// AdminToken is a bearer token of the admin API. Zero times are "never".
type AdminToken struct {
	ID   string
	Name string
	// SecretHash is the SHA-256 of the secret.
	SecretHash []byte
	Grants     []Grant
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  time.Time
	DeletedAt  time.Time
	// MAC, under the system keyring, covers the rest, so that a row written past the control plane opens nothing.
	MAC []byte
}

const adminTokenColumns = `
select id, name, secret_hash, grants, created_at, created_by, expires_at, deleted_at, mac from admin_tokens `

const (
	selectAdminTokens = adminTokenColumns + `where deleted_at is null order by created_at, id`
	selectAdminToken  = adminTokenColumns + `where id = $1 and deleted_at is null`
	insertAdminToken  = `
insert into admin_tokens (id, name, secret_hash, grants, created_at, created_by, expires_at, mac)
values ($1, $2, $3, $4, $5, $6, $7, $8)`
	deleteAdminToken = `update admin_tokens set deleted_at = $2, mac = $3 where id = $1 and deleted_at is null`
)

// AdminTokens lists the tokens that are not deleted, expired ones too.
func (s *Store) AdminTokens(ctx context.Context) ([]AdminToken, error) {
	rows, err := s.pool.Query(ctx, selectAdminTokens)
	if err != nil {
		return nil, mapped("list admin tokens", err)
	}
	tokens, err := pgx.CollectRows(rows, scanAdminToken)
	return tokens, mapped("list admin tokens", err)
}

// AdminToken answers a token that is not deleted.
func (s *Store) AdminToken(ctx context.Context, id string) (AdminToken, error) {
	rows, err := s.pool.Query(ctx, selectAdminToken, id)
	if err != nil {
		return AdminToken{}, mapped("read admin token", err)
	}
	token, err := pgx.CollectExactlyOneRow(rows, scanAdminToken)
	return token, mapped("read admin token", err)
}

// CreateAdminToken writes a token, in a transaction of the system.
func (t *GroupTx) CreateAdminToken(ctx context.Context, a AdminToken) error {
	grants, err := json.Marshal(a.Grants)
	if err != nil {
		return fmt.Errorf("create admin token: %w", err)
	}
	_, err = t.tx.Exec(ctx, insertAdminToken, a.ID, a.Name, a.SecretHash, grants, a.CreatedAt, a.CreatedBy,
		nullTime(a.ExpiresAt), a.MAC)
	if err != nil {
		return mapped("create admin token", err)
	}
	t.Wake(TopicAdminTokens)
	return nil
}

// DeleteAdminToken makes a token useless; DeletedAt and MAC of a say since when. It is in a transaction of the system.
func (t *GroupTx) DeleteAdminToken(ctx context.Context, a AdminToken) error {
	tag, err := t.tx.Exec(ctx, deleteAdminToken, a.ID, a.DeletedAt, a.MAC)
	if err != nil {
		return mapped("delete admin token", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("delete admin token %s: %w", a.ID, ErrNotFound)
	}
	t.Wake(TopicAdminTokens)
	return nil
}

func scanAdminToken(row pgx.CollectableRow) (AdminToken, error) {
	var a AdminToken
	var expires, deleted *time.Time
	err := row.Scan(&a.ID, &a.Name, &a.SecretHash, &a.Grants, &a.CreatedAt, &a.CreatedBy, &expires, &deleted, &a.MAC)
	a.ExpiresAt, a.DeletedAt = zeroTime(expires), zeroTime(deleted)
	return a, err
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func zeroTime(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
