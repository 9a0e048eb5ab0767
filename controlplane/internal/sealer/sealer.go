package sealer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/keyring"
	"keyward.dev/controlplane/internal/store"
)

// Sealer hands out groups. Rings that were opened stay in memory, so that they work while the key-encryption key is away.
type Sealer struct {
	// Set once.
	store *store.Store
	kek   kek.Wrapper // the current one of keys
	keys  kek.Keys

	mu     sync.Mutex
	groups map[string]*Group // guarded by mu; by name
}

// New makes a Sealer with one key-encryption key; nothing is read yet.
func New(s *store.Store, w kek.Wrapper) *Sealer { return NewWith(s, kek.Keys{Current: w}) }

// NewWith makes a Sealer that opens what any of the keys wrapped, and wraps with the current one.
func NewWith(s *store.Store, keys kek.Keys) *Sealer {
	return &Sealer{store: s, kek: keys.Current, keys: keys, groups: map[string]*Group{}}
}

// System answers the group of what belongs to no group. store.ErrNotFound says that Init never ran on this database.
func (s *Sealer) System(ctx context.Context) (*Group, error) {
	return s.Group(ctx, store.SystemGroup)
}

// Group answers the group of that name, whose keyring and head are checked when it is loaded for the first time. It may
// ask the key-encryption key, so it is called before any lock is taken.
func (s *Sealer) Group(ctx context.Context, name string) (*Group, error) {
	if g := s.cached(name); g != nil {
		return g, nil
	}
	g, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.keep(g), nil
}

// Refresh reads the keyrings of all loaded groups again, after another replica changed one. Those that are stored as they
// were when they were read are left alone. A group that does not load keeps its ring; the others are refreshed all the same.
func (s *Sealer) Refresh(ctx context.Context) error {
	rows, err := s.store.Keyrings(ctx)
	if err != nil {
		return fmt.Errorf("refresh keyrings: %w", err)
	}
	stored := map[string]store.Keyring{}
	for _, row := range rows {
		stored[row.GroupUID] = row
	}
	var errs []error
	for _, g := range s.Opened() {
		row := stored[g.uid]
		if was := g.stored.Load(); was != nil && *was == formOf(row) {
			continue
		}
		fresh, err := s.load(ctx, g.name)
		switch {
		case errors.Is(err, ErrUnavailable) && row.Version == g.KeyringVersion():
			// Another key wraps the same ring, and does not answer or is not here: what is open goes on.
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, g.advance(fresh))
		}
	}
	return errors.Join(errs...)
}

// advance takes the newer ring. A ring becomes older only by the hand of somebody who writes past the control plane.
func (g *Group) advance(fresh *Group) error {
	ring := fresh.ring.Load()
	for {
		old := g.ring.Load()
		if fresh.uid != g.uid || ring.Version() < old.Version() {
			return &UnreadableError{Table: "keyrings", Group: g.name, Reason: fmt.Sprintf(
				"has version %d of %s, version %d of %s was seen: an older keyring was put in place", ring.Version(), fresh.uid,
				old.Version(), g.uid)}
		}
		if g.ring.CompareAndSwap(old, ring) {
			g.stored.Store(fresh.stored.Load())
			return nil
		}
	}
}

func (s *Sealer) load(ctx context.Context, name string) (*Group, error) {
	head, row, err := s.read(ctx, name)
	if err != nil {
		return nil, err
	}
	ring, err := s.unwrap(ctx, head, row)
	if err != nil {
		return nil, err
	}
	g := newGroup(head.GroupUID, head.Group, ring)
	form := formOf(row)
	g.stored.Store(&form)
	return g, g.VerifyHead(head)
}

// form is how a keyring is stored.
type form struct {
	version int32
	kek     string
	wrapped [sha256.Size]byte
}

func formOf(row store.Keyring) form {
	return form{version: row.Version, kek: row.KEKID, wrapped: sha256.Sum256(row.Wrapped)}
}

// read answers the head and the keyring of a group, of one moment.
func (s *Sealer) read(ctx context.Context, name string) (head store.Head, row store.Keyring, err error) {
	err = s.store.InSnapshot(ctx, name, func(ctx context.Context, r *store.Reader) error {
		var err error
		if head, err = r.Head(ctx); err != nil {
			return err
		}
		row, err = r.Keyring(ctx)
		return err
	})
	if errors.Is(err, store.ErrMissing) {
		table := "keyrings"
		if head.GroupUID == "" {
			table = purposeHead
		}
		return head, row, &UnreadableError{Table: table, Group: name, Reason: store.ErrMissing.Error(), err: err}
	}
	if err != nil {
		return head, row, fmt.Errorf("load keyring of group %s: %w", name, err)
	}
	return head, row, nil
}

// unwrap opens a keyring row. The version is part of the wrapping context and stands in the authenticated head: an older
// row neither fits the head nor, with its version corrected, unwraps.
func (s *Sealer) unwrap(ctx context.Context, head store.Head, row store.Keyring) (*keyring.Ring, error) {
	bad := func(err error, format string, args ...any) error {
		return &UnreadableError{Table: "keyrings", Group: head.Group, Reason: fmt.Sprintf(format, args...), err: err}
	}
	if row.Version != head.KeyringVersion {
		return nil, bad(nil, "has version %d, the head says %d: another version was put in place", row.Version, head.KeyringVersion)
	}
	key, role := s.keys.Find(row.KEKID)
	if role == kek.RoleMissing {
		return nil, &MissingKEKError{Group: head.Group, KEK: row.KEKID, Have: s.keys.IDs()}
	}
	plain, err := key.Unwrap(ctx, wrapContext(head.GroupUID, row.Version), row.Wrapped)
	if errors.Is(err, kek.ErrRefused) {
		return nil, bad(err, "does not unwrap: it was altered, or belongs to another group or version")
	}
	if err != nil {
		return nil, unavailable("unwrap keyring of group "+head.Group, err)
	}
	defer clear(plain)
	ring, err := keyring.Unmarshal(plain)
	if err != nil || ring.Version() != row.Version {
		return nil, bad(err, "is malformed")
	}
	return ring, nil
}

// wrap wraps a ring with the current key. What that key does not give back, because it may only encrypt or because its
// answer was lost on the way, would be lost with the memory of this process: it is not stored.
func (s *Sealer) wrap(ctx context.Context, groupUID string, ring *keyring.Ring) ([]byte, error) {
	plain, place := ring.Marshal(), wrapContext(groupUID, ring.Version())
	defer clear(plain)
	wrapped, err := s.kek.Wrap(ctx, place, plain)
	if err != nil {
		return nil, unavailable("wrap keyring", err)
	}
	again, err := s.kek.Unwrap(ctx, place, wrapped)
	defer clear(again)
	if err != nil {
		return nil, unavailable("unwrap keyring that was just wrapped", err)
	}
	if !bytes.Equal(again, plain) {
		return nil, unavailable("wrap keyring", fmt.Errorf("key-encryption key %s gives back something else", s.kek.ID()))
	}
	return wrapped, nil
}

// wrapContext has a fixed length, so that its parts cannot run into each other.
func wrapContext(groupUID string, version int32) []byte {
	return fmt.Appendf(nil, "keyward/keyring/v1 %36s %010d", groupUID, version)
}

func (s *Sealer) cached(name string) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.groups[name]
}

// keep answers the group that was kept first, so that all callers hold the one that Refresh reaches.
func (s *Sealer) keep(g *Group) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.groups[g.name]; first != nil {
		return first
	}
	s.groups[g.name] = g
	return g
}

// Opened answers the groups whose keyrings are in memory, the system among them.
func (s *Sealer) Opened() []*Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := make([]*Group, 0, len(s.groups))
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	return groups
}
