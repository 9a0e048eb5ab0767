package sealer

import (
	"context"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/controlplane/internal/store"
)

// Stored opens a group whose head and keyring were read elsewhere, of one moment; it needs no database and keeps nothing.
func (s *Sealer) Stored(ctx context.Context, head store.Head, row store.Keyring) (*Group, error) {
	ring, err := s.unwrap(ctx, head, row)
	if err != nil {
		return nil, err
	}
	g := newGroup(head.GroupUID, head.Group, ring)
	return g, g.VerifyHead(head)
}

// Recovered opens a group with its keyring from a backup of keyrings, of the same moment as the head.
func Recovered(e recovery.Entry, head store.Head) (*Group, error) {
	g := newGroup(e.UID, e.Group, e.Ring)
	if err := g.VerifyHead(head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOfThisDatabase, err)
	}
	return g, nil
}

// Wrapped is the keyring of a group, wrapped with the current key-encryption key.
func (s *Sealer) Wrapped(ctx context.Context, g *Group, at time.Time) (store.Keyring, error) {
	ring := g.ring.Load()
	wrapped, err := s.wrap(ctx, g.uid, ring)
	if err != nil {
		return store.Keyring{}, err
	}
	return store.Keyring{GroupUID: g.uid, Version: ring.Version(), KEKID: s.kek.ID(), Wrapped: wrapped, UpdatedAt: at}, nil
}
