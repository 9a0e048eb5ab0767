package sealer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/digest"
)

// NewGroup says what group to create.
type NewGroup struct {
	Name        string
	Description string
	// Actor is for the audit chains.
	Actor string
	At    time.Time
	// Fill, if not nil, writes the group's first revision in the same transaction.
	Fill func(ctx context.Context, tx *store.GroupTx, g *Group) error
}

// Init makes the reserved group "system", with its keyring, in an empty database. It answers false if there is one
// already. A database that has groups but no system is damaged; System then says so.
func (s *Sealer) Init(ctx context.Context, actor string, at time.Time) (created bool, err error) {
	if _, err := s.System(ctx); !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	b, err := s.birth(ctx, store.SystemUID, NewGroup{Name: store.SystemGroup, Actor: actor, At: at})
	if err != nil {
		return false, err
	}
	err = s.store.CreateSystem(ctx, b.row, b.wrapped, b.head, func(ctx context.Context, tx *store.GroupTx) error {
		return audit.Record(ctx, tx, b.group, audit.Event{At: at, Actor: actor, Action: "system.create"})
	})
	if errors.Is(err, store.ErrConflict) { // another replica was first
		_, err = s.System(ctx)
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("create system keyring: %w", err)
	}
	s.keep(b.group)
	return true, nil
}

// CreateGroup makes a group with its keyring, an empty first head and a row in its own and in the system's audit chain,
// and lets n.Fill write the first revision. store.ErrConflict says that the name is or was in use.
func (s *Sealer) CreateGroup(ctx context.Context, n NewGroup) (*Group, error) {
	system, err := s.System(ctx)
	if err != nil {
		return nil, err
	}
	b, err := s.birth(ctx, store.NewUID(), n)
	if err != nil {
		return nil, err
	}
	err = s.store.InSystem(ctx, func(ctx context.Context, tx *store.GroupTx) error {
		return b.write(ctx, tx, system, n)
	})
	if err != nil {
		return nil, fmt.Errorf("create group %s: %w", n.Name, err)
	}
	return s.keep(b.group), nil
}

// birth is all that is prepared of a group before anything is locked.
type birth struct {
	group   *Group
	row     store.Group
	wrapped store.Keyring
	head    store.Head
}

func (s *Sealer) birth(ctx context.Context, uid string, n NewGroup) (birth, error) {
	ring := keyring.New()
	wrapped, err := s.wrap(ctx, uid, ring)
	if err != nil {
		return birth{}, err
	}
	b := birth{
		group:   newGroup(uid, n.Name, ring),
		row:     store.Group{UID: uid, Name: n.Name, Description: n.Description, CreatedAt: n.At},
		wrapped: store.Keyring{GroupUID: uid, Version: ring.Version(), KEKID: s.kek.ID(), Wrapped: wrapped, UpdatedAt: n.At},
		head: store.Head{
			GroupUID: uid, Group: n.Name, Epoch: NewEpoch(), Digest: new(digest.Set).Sum(), KeyringVersion: ring.Version(),
			UpdatedAt: n.At,
		},
	}
	b.head.MAC = b.group.MACHead(b.head)
	return b, nil
}

func (b birth) write(ctx context.Context, system *store.GroupTx, chain *Group, n NewGroup) error {
	tx, err := system.CreateGroup(ctx, b.row, b.wrapped, b.head)
	if err != nil {
		return err
	}
	event := audit.Event{
		At: n.At, Actor: n.Actor, Action: "group.create", Subjects: []string{"groups/" + n.Name}, Detail: "uid " + b.row.UID,
	}
	if err := audit.Record(ctx, system, chain, event); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, b.group, event); err != nil {
		return err
	}
	if n.Fill == nil {
		return nil
	}
	return n.Fill(ctx, tx, b.group)
}

// NewEpoch draws an epoch: never 0, and below 2^63 because the database has no unsigned numbers.
func NewEpoch() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if e := binary.BigEndian.Uint64(b[:]) >> 1; e != 0 {
			return e
		}
	}
}
