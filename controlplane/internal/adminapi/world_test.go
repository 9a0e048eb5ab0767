package adminapi_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// world stands in for everything behind the admin API: groups "a" and "b" in memory, a write path without rules, a
// registry with one gateway.
type world struct {
	t       *testing.T
	catalog *catalog.Catalog

	mu      sync.Mutex
	groups  map[string]*group
	tokens  map[string]adminauth.Token
	down    error               // what every store answers
	older   map[uint32][]string // who does not know a contract
	unable  map[string][]string // what gateways do not know, by policy type
	lost    error               // what asking for that answers
	violate error               // what admission says about every write
	writes  []configsvc.Request
	backs   []configsvc.RollbackRequest
	uses    uses
}

// group is a set whose "ciphertext" is the record itself.
type group struct {
	head    store.Head
	digest  digest.Set
	rows    map[string]store.Row
	changes []store.Change
	set     *snapshot.Group
}

func newWorld(t *testing.T) *world {
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, catalog: cat, groups: map[string]*group{}, tokens: map[string]adminauth.Token{}}
	for _, name := range []string{"a", "b"} {
		w.add(name)
	}
	return w
}

func (w *world) add(name string) {
	g := &group{head: store.Head{Group: name, GroupUID: "uid-" + name, Epoch: 7}, rows: map[string]store.Row{}}
	g.head.Digest = g.digest.Sum()
	g.set = snapshot.NewGroup(name, g, slog.New(slog.DiscardHandler))
	if _, err := g.set.CatchUp(context.Background(), g); err != nil {
		w.t.Fatal(err)
	}
	w.groups[name] = g
}

// Group and Fresh are adminapi.Sets.
func (w *world) Group(_ context.Context, name string) (*snapshot.Group, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g, ok := w.groups[name]; ok {
		return g.set, nil
	}
	return nil, fmt.Errorf("open group: %w", store.ErrNotFound)
}

func (w *world) Fresh(ctx context.Context, name string) (*snapshot.View, error) {
	g, err := w.Group(ctx, name)
	if err != nil {
		return nil, err
	}
	if w.down != nil {
		return nil, w.down
	}
	return g.CatchUp(ctx, w.groups[name])
}

func violationsOf(err error) []problem.Violation {
	if err == nil {
		return nil
	}
	return problem.Of(err).Violations
}

// written counts the calls of Write.
func (w *world) written() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes)
}

// Groups and Heads are adminapi.Directory, CreateGroup is adminapi.GroupCreator.
func (w *world) Groups(context.Context) ([]store.Group, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []store.Group
	for _, name := range slices.Sorted(maps.Keys(w.groups)) {
		out = append(out, store.Group{Name: name, UID: "uid-" + name})
	}
	return out, w.down
}

func (w *world) Heads(context.Context) ([]store.HeadStamp, error) { return nil, w.down }

func (w *world) CreateGroup(_ context.Context, _, name, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.groups[name]; ok {
		return store.ErrConflict
	}
	w.add(name)
	return nil
}
