package sealer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
)

// ErrRotated says that another replica changed the keyring at the same time.
var ErrRotated = errors.New("keyring was changed by another replica")

// Rotate adds a term to the keyring of a group, with which everything is sealed from then on. What older terms sealed
// stays readable. Replicas that have not read the new ring refuse the group's head until Refresh; nothing that they could
// not open is visible to them before.
func (s *Sealer) Rotate(ctx context.Context, group, actor string, at time.Time) error {
	return s.change(ctx, group, func(r *keyring.Ring) (*keyring.Ring, error) { return r.AddTerm(), nil }, audit.Event{
		At: at, Actor: actor, Action: "keyring.rotate", Subjects: []string{"keyrings/" + group},
	})
}

// change replaces the keyring of a group. The new ring is wrapped before the head is locked.
func (s *Sealer) change(ctx context.Context, group string, fn func(*keyring.Ring) (*keyring.Ring, error), e audit.Event) error {
	g, err := s.Group(ctx, group)
	if err != nil {
		return err
	}
	old := g.ring.Load()
	next, err := fn(old)
	if err != nil {
		return fmt.Errorf("change keyring of group %s: %w", group, err)
	}
	wrapped, err := s.wrap(ctx, g.uid, next)
	if err != nil {
		return err
	}
	row := store.Keyring{GroupUID: g.uid, Version: next.Version(), KEKID: s.kek.ID(), Wrapped: wrapped, UpdatedAt: e.At}
	fresh := newGroup(g.uid, g.name, next)
	err = s.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		return replace(ctx, tx, fresh, old.Version(), row, e)
	})
	if err != nil {
		return fmt.Errorf("change keyring of group %s: %w", group, err)
	}
	return g.advance(fresh)
}

func replace(ctx context.Context, tx *store.GroupTx, fresh *Group, was int32, row store.Keyring, e audit.Event) error {
	head := tx.Head()
	if head.KeyringVersion != was {
		return ErrRotated
	}
	// The new ring verifies what the old one authenticated; it only expects its own version.
	if !fresh.ring.Load().VerifyMAC(head.MAC, purposeHead, headParts(head)...) {
		return fresh.badHead("its MAC does not verify: it was altered, or belongs to another keyring")
	}
	if err := tx.SetKeyring(ctx, row); err != nil {
		return err
	}
	e.Detail = fmt.Sprintf("version %d", row.Version)
	head, err := audit.Append(ctx, tx, fresh, head, e)
	if err != nil {
		return err
	}
	head.KeyringVersion, head.UpdatedAt = row.Version, e.At
	head.MAC = fresh.MACHead(head)
	return tx.SetHead(ctx, head)
}
