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

// A keyring changes in two steps, so that no replica ever meets what it cannot open. Prepare writes its next form beside it,
// wrapped; replicas read that, each asking its key-encryption key while nothing depends on it yet (ReadNext). Commit then
// makes it the keyring, in the transaction that writes it into the head. From that head on everything is sealed under it: a
// replica takes it from memory when it meets the head, see VerifyHead. A replica that has not read it refuses the head until
// Refresh has brought it.

// Actions that change a keyring.
const (
	// Rotate adds a term, with which everything is sealed from then on.
	Rotate = "rotate"
	// Remove has a term open nothing any more. What it authenticated still verifies.
	Remove = "remove"
)

var (
	// ErrRotated says that another replica changed the keyring at the same time.
	ErrRotated = errors.New("keyring was changed by another replica")
	// ErrPrepared says that a change of the keyring is under way.
	ErrPrepared = errors.New("a change of the keyring is under way")
)

// Plan is a change of a keyring.
type Plan struct {
	Group string
	// Action is Rotate or Remove; Term is what Remove removes.
	Action string
	Term   uint32
	Actor  string
	At     time.Time
}

// nextRing is a prepared keyring that was read.
type nextRing struct {
	id   string
	ring *keyring.Ring
}

// Prepare writes the next form of a group's keyring for all replicas to read, and answers it.
func (s *Sealer) Prepare(ctx context.Context, p Plan) (store.NextKeyring, error) {
	doing := p.Action + " keyring of group " + p.Group
	g, err := s.Group(ctx, p.Group)
	if err != nil {
		return store.NextKeyring{}, err
	}
	old := g.ring.Load()
	next, err := p.apply(old)
	if err != nil {
		return store.NextKeyring{}, fmt.Errorf("%s: %w", doing, err)
	}
	wrapped, err := s.wrap(ctx, g.uid, next)
	if err != nil {
		return store.NextKeyring{}, err
	}
	row := store.NextKeyring{
		ID: store.NewUID(), GroupUID: g.uid, Group: g.name, Action: p.Action, Term: p.Term, Version: next.Version(),
		KEKID: s.kek.ID(), Wrapped: wrapped, Actor: p.Actor, PreparedAt: p.At,
	}
	if p.Action == Rotate {
		row.Term = next.Newest()
	}
	err = s.store.InGroup(ctx, p.Group, func(ctx context.Context, tx *store.GroupTx) error {
		return prepare(ctx, tx, g, old.Version(), row)
	})
	if err != nil {
		return store.NextKeyring{}, fmt.Errorf("%s: %w", doing, err)
	}
	g.next.Store(&nextRing{row.ID, next})
	return row, nil
}

func (p Plan) apply(old *keyring.Ring) (*keyring.Ring, error) {
	if p.Action == Remove {
		return old.RemoveTerm(p.Term)
	}
	return old.AddTerm(), nil
}

func prepare(ctx context.Context, tx *store.GroupTx, g *Group, was int32, row store.NextKeyring) error {
	event := audit.Event{
		At: row.PreparedAt, Actor: row.Actor, Action: "keyring.prepare", Subjects: []string{"keyrings/" + g.name},
		Detail: fmt.Sprintf("%s term %d", row.Action, row.Term),
	}
	if err := audit.Record(ctx, tx, g, event); err != nil { // and so the head is the one that belongs to the ring
		return err
	}
	if tx.Head().KeyringVersion != was {
		return ErrRotated
	}
	if row.Action == Remove {
		if err := tx.TermUnused(ctx, row.Term); err != nil {
			return err
		}
	}
	// What was prepared for another form than the next is left over: something else has changed the keyring since.
	there, err := tx.NextKeyring(ctx)
	if err == nil && there.Version == row.Version {
		return ErrPrepared
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return tx.PrepareKeyring(ctx, row)
}

// ReadNext opens what is prepared for the groups' keyrings and answers it, as far as it can be used. From then on this replica
// is ready for it.
func (s *Sealer) ReadNext(ctx context.Context) ([]store.NextKeyring, error) {
	rows, err := s.store.NextKeyrings(ctx)
	if err != nil {
		return nil, err
	}
	var read []store.NextKeyring
	var errs []error
	for _, row := range rows {
		if err := s.readNext(ctx, row); err != nil {
			errs = append(errs, fmt.Errorf("read next keyring of group %s: %w", row.Group, err))
			continue
		}
		read = append(read, row)
	}
	return read, errors.Join(errs...)
}

func (s *Sealer) readNext(ctx context.Context, row store.NextKeyring) error {
	g, err := s.Group(ctx, row.Group)
	if err != nil {
		return err
	}
	if n := g.next.Load(); n != nil && n.id == row.ID {
		return nil
	}
	ring, err := s.unwrap(ctx, store.Head{GroupUID: g.uid, Group: g.name, KeyringVersion: row.Version}, store.Keyring{
		GroupUID: row.GroupUID, Version: row.Version, KEKID: row.KEKID, Wrapped: row.Wrapped,
	})
	if err != nil {
		return err
	}
	if !ring.Follows(g.ring.Load()) {
		// The keyring may have changed without this replica having heard of it yet.
		if err := s.Refresh(ctx); err != nil {
			return err
		}
	}
	if !ring.Follows(g.ring.Load()) {
		return &UnreadableError{Table: "next_keyrings", Group: g.name, Reason: "does not follow the keyring there is: it was put there, or is left over"}
	}
	g.next.Store(&nextRing{row.ID, ring})
	return nil
}

// adopt makes the keyring that was prepared the one that is loaded, if the head was made under it, and answers the one that
// is loaded then.
func (g *Group) adopt(h store.Head) *keyring.Ring {
	was := g.ring.Load()
	n := g.next.Load()
	if n == nil || n.ring.Version() != h.KeyringVersion || !n.ring.Follows(was) || !n.ring.VerifyMAC(h.MAC, purposeHead, headParts(h)...) {
		return was
	}
	g.ring.CompareAndSwap(was, n.ring)
	return g.ring.Load()
}

// Commit makes what is prepared under the id the keyring of the group. ready is asked in the same transaction, in which
// nothing else can be written to the group.
func (s *Sealer) Commit(ctx context.Context, group, id string, at time.Time, ready func(context.Context, *store.GroupTx) error) error {
	g, err := s.Group(ctx, group)
	if err != nil {
		return err
	}
	n := g.next.Load()
	if n == nil || n.id != id {
		return fmt.Errorf("change keyring of group %s: %w", group, ErrRotated)
	}
	fresh := newGroup(g.uid, g.name, n.ring)
	err = s.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		row, err := tx.NextKeyring(ctx)
		if errors.Is(err, store.ErrNotFound) || err == nil && row.ID != id {
			return ErrRotated
		}
		if err != nil {
			return err
		}
		if err := ready(ctx, tx); err != nil {
			return err
		}
		return commit(ctx, tx, g, fresh, row, at)
	})
	if err != nil {
		return fmt.Errorf("change keyring of group %s: %w", group, err)
	}
	return g.advance(fresh)
}

func commit(ctx context.Context, tx *store.GroupTx, g, fresh *Group, row store.NextKeyring, at time.Time) error {
	head := tx.Head()
	if err := g.VerifyHead(head); err != nil {
		return err
	}
	if head.KeyringVersion != row.Version-1 {
		return ErrRotated
	}
	if row.Action == Remove {
		if err := tx.TermUnused(ctx, row.Term); err != nil {
			return err
		}
	}
	if err := tx.DropNextKeyring(ctx); err != nil {
		return err
	}
	ring := store.Keyring{GroupUID: row.GroupUID, Version: row.Version, KEKID: row.KEKID, Wrapped: row.Wrapped, UpdatedAt: at}
	if err := tx.SetKeyring(ctx, ring); err != nil {
		return err
	}
	if row.Action == Rotate {
		term := store.KeyringTerm{Term: row.Term, CreatedAt: at}
		term.MAC = fresh.MACTerm(term)
		if err := tx.CreateKeyringTerm(ctx, term); err != nil {
			return err
		}
	}
	head, err := audit.Append(ctx, tx, fresh, head, audit.Event{
		At: at, Actor: row.Actor, Action: "keyring." + row.Action, Subjects: []string{"keyrings/" + g.name},
		Detail: fmt.Sprintf("term %d, version %d", row.Term, row.Version),
	})
	if err != nil {
		return err
	}
	head.KeyringVersion, head.UpdatedAt = row.Version, at
	head.MAC = fresh.MACHead(head)
	return tx.SetHead(ctx, head)
}

// Discard drops what is prepared under the id: it cannot be made the keyring any more.
func (s *Sealer) Discard(ctx context.Context, group, id, reason string, at time.Time) error {
	g, err := s.Group(ctx, group)
	if err != nil {
		return err
	}
	return s.store.InGroup(ctx, group, func(ctx context.Context, tx *store.GroupTx) error {
		row, err := tx.NextKeyring(ctx)
		if errors.Is(err, store.ErrNotFound) || err == nil && row.ID != id {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.DropNextKeyring(ctx); err != nil {
			return err
		}
		return audit.Record(ctx, tx, g, audit.Event{
			At: at, Actor: row.Actor, Action: "keyring.discard", Subjects: []string{"keyrings/" + g.name},
			Detail: fmt.Sprintf("%s term %d: %s", row.Action, row.Term, reason),
		})
	})
}
