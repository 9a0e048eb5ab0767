package registry

import (
	"context"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

// NewToken describes a join token to be made.
type NewToken struct {
	Group       string
	Uses        int32
	TTL         time.Duration
	Description string
	Actor       string
	// Pin is the hash of the root's public key, which the token carries to the gateway.
	Pin mtls.SPKI
}

// CreateJoinToken makes a token and answers its text, which is shown this once.
func (r *Registry) CreateJoinToken(ctx context.Context, n NewToken) (store.JoinToken, string, error) {
	text := attest.NewTokenText(n.Pin)
	// Postgres keeps microseconds, and the row is authenticated as it will be read.
	now := r.cfg.Now().UTC().Truncate(time.Microsecond)
	row := store.JoinToken{
		ID: text.ID, Group: n.Group, Description: n.Description, SecretHash: text.SecretHash(), Uses: n.Uses,
		CreatedAt: now, CreatedBy: n.Actor, ExpiresAt: now.Add(n.TTL), Root: n.Pin.String(),
	}
	row, err := r.cfg.Changes.CreateJoinToken(ctx, row)
	if err != nil {
		return store.JoinToken{}, "", fmt.Errorf("create join token: %w", err)
	}
	return row, text.String(), nil
}

// JoinTokens answers the tokens of a group, expired and used-up ones too.
func (r *Registry) JoinTokens(ctx context.Context, group string) ([]store.JoinToken, error) {
	return r.cfg.Store.JoinTokens(ctx, group)
}

// DeleteJoinToken makes a token useless.
func (r *Registry) DeleteJoinToken(ctx context.Context, group, id, actor string) error {
	return r.cfg.Changes.DeleteJoinToken(ctx, group, id, actor)
}
