package sealer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/recovery"
	"keyward.dev/controlplane/internal/store"
)

// Backup gives the keyring of the group to be sealed to a recovery key.
func (g *Group) Backup() recovery.Entry {
	return recovery.Entry{UID: g.uid, Group: g.name, Ring: g.ring.Load()}
}

// ErrNotOfThisDatabase says that a keyring from a backup is not the one that this database needs.
var ErrNotOfThisDatabase = errors.New("the keyring in the backup is not the one this database needs")

// Recover puts the keyring of a group back that this process cannot unwrap any more, wrapped anew. It is taken only if it
// authenticates the head of the group and is not older than the head says: what was sealed with a later one would be lost. A
// keyring that is in order stays; Recover then answers false.
func (s *Sealer) Recover(ctx context.Context, e recovery.Entry, actor string, at time.Time) (bool, error) {
	_, err := s.Group(ctx, e.Group)
	_, lost := errors.AsType[*MissingKEKError](err)
	if err == nil || !lost && !errors.Is(err, ErrUnreadable) {
		return false, err
	}
	wrapped, err := s.wrap(ctx, e.UID, e.Ring)
	if err != nil {
		return false, err
	}
	row := store.Keyring{GroupUID: e.UID, Version: e.Ring.Version(), KEKID: s.kek.ID(), Wrapped: wrapped, UpdatedAt: at}
	g := newGroup(e.UID, e.Group, e.Ring)
	err = s.store.InGroup(ctx, e.Group, func(ctx context.Context, tx *store.GroupTx) error { return recoverIn(ctx, tx, g, row, actor) })
	if err != nil {
		return false, fmt.Errorf("recover keyring of group %s: %w", e.Group, err)
	}
	s.keep(g)
	return true, nil
}

func recoverIn(ctx context.Context, tx *store.GroupTx, g *Group, row store.Keyring, actor string) error {
	head := tx.Head()
	switch {
	case head.GroupUID != g.uid:
		return fmt.Errorf("%w: it is of another group of that name", ErrNotOfThisDatabase)
	case head.KeyringVersion > row.Version:
		return fmt.Errorf("%w: it has version %d, the database %d: a later backup is needed", ErrNotOfThisDatabase, row.Version, head.KeyringVersion)
	case !g.ring.Load().VerifyMAC(head.MAC, purposeHead, headParts(head)...):
		return fmt.Errorf("%w: it does not authenticate the group's head", ErrNotOfThisDatabase)
	}
	if err := tx.DropNextKeyring(ctx); err != nil {
		return err
	}
	if err := tx.PutKeyring(ctx, row); err != nil {
		return err
	}
	head, err := audit.Append(ctx, tx, g, head, audit.Event{
		At: row.UpdatedAt, Actor: actor, Action: "keyring.restore", Subjects: []string{"keyrings/" + g.name},
		Detail: fmt.Sprintf("version %d", row.Version),
	})
	if err != nil {
		return err
	}
	head.KeyringVersion, head.UpdatedAt = row.Version, row.UpdatedAt
	head.MAC = g.MACHead(head)
	return tx.SetHead(ctx, head)
}
