package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// Unlocker gives the vault of a group.
type Unlocker func(ctx context.Context, group string) (Vault, error)

// Database gives readers of committed state, each at one moment.
type Database interface {
	InSnapshot(ctx context.Context, group string, fn func(context.Context, *store.Reader) error) error
}

// Manager holds the groups that this replica has opened. A group is opened when it is first asked for, by a stream or a
// write; groups that nobody asks for stay sealed.
type Manager struct {
	db     Database
	unlock Unlocker
	log    *slog.Logger

	mu     sync.Mutex // guards groups
	groups map[string]*entry
}

// entry is a group that is being opened or is open.
type entry struct {
	mu    sync.Mutex // held while opening
	group *Group     // nil until opened
}

// NewManager returns a manager that has opened no group.
func NewManager(db Database, unlock Unlocker, log *slog.Logger) *Manager {
	return &Manager{db: db, unlock: unlock, log: log, groups: map[string]*entry{}}
}

// Group returns the group, opened and loaded. An error leaves nothing behind: the next call tries again. What belongs to no
// group is kept like a group, under a reserved name, and is none: it has no resources and no gateways.
func (m *Manager) Group(ctx context.Context, name string) (*Group, error) {
	if name == store.SystemGroup {
		return nil, noGroup(name, store.ErrNotFound)
	}
	e := m.entry(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.group != nil {
		return e.group, nil
	}
	vault, err := m.unlock(ctx, name)
	if err != nil {
		m.drop(name, e)
		if errors.Is(err, store.ErrNotFound) {
			return nil, noGroup(name, err)
		}
		return nil, fmt.Errorf("open group %s: %w", name, err)
	}
	g := NewGroup(name, vault, m.log)
	if _, err := m.catchUp(ctx, g); err != nil {
		m.drop(name, e)
		return nil, err
	}
	e.group = g
	return g, nil
}

func noGroup(name string, err error) error {
	return problem.Wrap(problem.NotFound, fmt.Sprintf("there is no group named %q", name), err)
}

// Fresh returns the group after it has caught up with the database.
func (m *Manager) Fresh(ctx context.Context, name string) (*View, error) {
	g, err := m.Group(ctx, name)
	if err != nil {
		return nil, err
	}
	return m.catchUp(ctx, g)
}

func (m *Manager) catchUp(ctx context.Context, g *Group) (view *View, err error) {
	before := g.View()
	var head store.Head
	err = m.db.InSnapshot(ctx, g.name, func(ctx context.Context, r *store.Reader) error {
		if head, err = r.Head(ctx); err != nil {
			return err
		}
		view, err = g.CatchUp(ctx, r)
		return err
	})
	if errors.Is(err, ErrRewound) && before != nil && overtaken(head, before, g.View()) {
		return g.View(), nil
	}
	g.rewound.Store(errors.Is(err, ErrRewound))
	return view, err
}

// overtaken says that the head is older than the set only because this replica committed while the head was read: it is no
// older than what the set was before.
func overtaken(head store.Head, before, now *View) bool {
	return head.Epoch == before.Epoch && before.Revision <= head.Revision && head.Revision < now.Revision
}

// Rewound says whether the database, when it was last looked at, had an older revision of an open group than this replica.
func (m *Manager) Rewound(name string) bool {
	m.mu.Lock()
	e, ok := m.groups[name]
	m.mu.Unlock()
	if !ok || !e.mu.TryLock() {
		return false
	}
	defer e.mu.Unlock()
	return e.group != nil && e.group.rewound.Load()
}

// Active returns the names of the open groups, sorted.
func (m *Manager) Active() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.groups))
	for name := range m.groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// History returns the last changes of a group up to a revision, see Group.History.
func (m *Manager) History(ctx context.Context, name string, epoch uint64, upTo int64, limit int) (changes []Change, err error) {
	g, err := m.Group(ctx, name)
	if err != nil {
		return nil, err
	}
	err = m.db.InSnapshot(ctx, name, func(ctx context.Context, r *store.Reader) error {
		changes, err = g.History(ctx, r, epoch, upTo, limit)
		return err
	})
	return changes, err
}

// CatchUp brings an open group to the database's head.
func (m *Manager) CatchUp(ctx context.Context, name string) error {
	_, err := m.Fresh(ctx, name)
	return err
}

// Behind says whether an open group is not at the given head. One that is ahead of it is not either: then the database was
// rewound, or has moved on since the head was read.
func (m *Manager) Behind(at store.HeadStamp) bool {
	m.mu.Lock()
	e, ok := m.groups[at.Group]
	m.mu.Unlock()
	if !ok || !e.mu.TryLock() {
		return false // not open, or just being opened
	}
	defer e.mu.Unlock()
	if e.group == nil {
		return false
	}
	view := e.group.View()
	return view.Epoch != at.Epoch || view.Revision != at.Revision || view.full.Sum() != at.Digest
}

func (m *Manager) entry(name string) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.groups[name]
	if !ok {
		e = &entry{}
		m.groups[name] = e
	}
	return e
}

// drop forgets an entry that could not be opened, so that names which do not exist do not pile up.
func (m *Manager) drop(name string, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[name] == e {
		delete(m.groups, name)
	}
}
