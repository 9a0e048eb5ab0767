package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// JoinToken lets gateways enrol in a group.
type JoinToken struct {
	ID          string
	GroupUID    string
	Group       string
	Description string
	// SecretHash is the SHA-256 of the secret.
	SecretHash []byte
	Uses       int32
	// Used counts the keys that used it; not covered by MAC.
	Used      int32
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time
	// Root is the hash of the root's public key that the token carries, hexadecimal; written only, and not covered by MAC.
	Root string
	// MAC, under the keyring of the group, covers what never changes.
	MAC []byte
}

const joinTokenColumns = `
select t.id, t.group_uid, g.name, t.description, t.secret_hash, t.uses, t.used, t.created_at, t.created_by, t.expires_at,
       t.mac
from join_tokens t join groups g on g.uid = t.group_uid
where t.deleted_at is null and `

const (
	selectJoinTokens = joinTokenColumns + `g.name = $1 order by t.created_at, t.id`
	selectJoinToken  = joinTokenColumns + `t.id = $1`
	insertJoinToken  = `
insert into join_tokens (id, group_uid, description, secret_hash, uses, created_at, created_by, expires_at, mac, root_spki)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	deleteJoinToken = `
update join_tokens set deleted_at = $3 where id = $1 and group_uid = $2 and deleted_at is null`
	selectJoinTokenUse = `select gateway_id from join_token_uses where token_id = $1 and spki_hash = $2`
	countJoinTokenUse  = `
update join_tokens set used = used + 1
where id = $1 and group_uid = $2 and deleted_at is null and used < uses and expires_at > $3`
	insertJoinTokenUse = `
insert into join_token_uses (token_id, spki_hash, gateway_id, used_at) values ($1, $2, $3, $4)`
)

// JoinTokens lists the tokens of a group that are not deleted, expired and used-up ones too.
func (s *Store) JoinTokens(ctx context.Context, group string) ([]JoinToken, error) {
	rows, err := s.pool.Query(ctx, selectJoinTokens, group)
	if err != nil {
		return nil, mapped("list join tokens", err)
	}
	tokens, err := pgx.CollectRows(rows, scanJoinToken)
	return tokens, mapped("list join tokens", err)
}

// JoinToken answers a token that is not deleted.
func (s *Store) JoinToken(ctx context.Context, id string) (JoinToken, error) {
	rows, err := s.pool.Query(ctx, selectJoinToken, id)
	if err != nil {
		return JoinToken{}, mapped("read join token", err)
	}
	token, err := pgx.CollectExactlyOneRow(rows, scanJoinToken)
	return token, mapped("read join token", err)
}

// CreateJoinToken writes a token of the group.
func (t *GroupTx) CreateJoinToken(ctx context.Context, j JoinToken) error {
	_, err := t.tx.Exec(ctx, insertJoinToken, j.ID, t.head.GroupUID, j.Description, j.SecretHash, j.Uses, j.CreatedAt,
		j.CreatedBy, j.ExpiresAt, j.MAC, j.Root)
	if err != nil {
		return mapped("create join token", err)
	}
	t.Wake(TopicJoinTokens)
	return nil
}

// DeleteJoinToken makes a token of the group useless.
func (t *GroupTx) DeleteJoinToken(ctx context.Context, id string, at time.Time) error {
	tag, err := t.tx.Exec(ctx, deleteJoinToken, id, t.head.GroupUID, at)
	if err != nil {
		return mapped("delete join token", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("delete join token %s: %w", id, ErrNotFound)
	}
	t.Wake(TopicJoinTokens)
	return nil
}

// JoinTokenUse answers the gateway that used the token with that key; ErrNotFound if none did.
func (t *GroupTx) JoinTokenUse(ctx context.Context, id string, spkiHash []byte) (gatewayID string, err error) {
	err = t.tx.QueryRow(ctx, selectJoinTokenUse, id, spkiHash).Scan(&gatewayID)
	return gatewayID, mapped("read use of join token", err)
}

// UseJoinToken takes one use of a token of the group. It answers ErrConflict if the token is used up, expired, deleted
// or that of another group.
func (t *GroupTx) UseJoinToken(ctx context.Context, id string, spkiHash []byte, gatewayID string, at time.Time) error {
	tag, err := t.tx.Exec(ctx, countJoinTokenUse, id, t.head.GroupUID, at)
	if err != nil {
		return mapped("use join token", err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("use join token %s: %w", id, &ConflictError{Constraint: "join_tokens_used_ck"})
	}
	_, err = t.tx.Exec(ctx, insertJoinTokenUse, id, spkiHash, gatewayID, at)
	return mapped("use join token", err)
}

func scanJoinToken(row pgx.CollectableRow) (JoinToken, error) {
	var j JoinToken
	err := row.Scan(&j.ID, &j.GroupUID, &j.Group, &j.Description, &j.SecretHash, &j.Uses, &j.Used, &j.CreatedAt,
		&j.CreatedBy, &j.ExpiresAt, &j.MAC)
	return j, err
}
