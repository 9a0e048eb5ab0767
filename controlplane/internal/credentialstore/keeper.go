package credentialstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

// Actor is who writes what was read, in the audit trail.
const Actor = "credential-stores"

const (
	// Every is how often Run is to be called.
	Every = 2 * time.Second
	// Timeout bounds a run, and patience what a store may have it wait; lanes are stores that are read at once.
	Timeout  = 5 * time.Minute
	patience = 30 * time.Second
	lanes    = 4
)

// Database says which groups there are.
type Database interface {
	GroupsHolding(ctx context.Context, kinds []string) ([]string, error)
}

// Groups gives the newest set of a group.
type Groups interface {
	Fresh(ctx context.Context, group string) (*snapshot.View, error)
}

// Places finds folders; Resolver of package secretsource does, see Of.
type Places interface {
	Folder(view *snapshot.View, provider, path string) (Folder, error)
}

// Writer is the write path.
type Writer interface {
	WriteSystem(ctx context.Context, req configsvc.SystemRequest) (configsvc.Result, error)
}

// Config is what a Keeper needs.
type Config struct {
	Database Database
	Groups   Groups
	Places   Places
	Writer   Writer
	// Woken are the groups with new stores.
	Woken *inbox.Inbox
	Now   func() time.Time
	Log   *slog.Logger
}

// Of takes folders from a resolver of references, which has the providers of groups.
func Of(r *secretsource.Resolver) Places { return places{r} }

type places struct{ *secretsource.Resolver }

// Folder implements Places.
func (p places) Folder(view *snapshot.View, provider, path string) (Folder, error) {
	f, err := p.Resolver.Folder(view, provider, path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Keeper reads the stores that are due. Any replica may run it, and several at once.
type Keeper struct {
	cfg     Config
	metrics metrics

	mu sync.Mutex
	// stores is what this replica knows of those it reads, guarded by mu.
	stores map[id]*memory
}

// id is a store of a group, by name.
type id struct{ group, store string }

// New returns a keeper.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, metrics: newMetrics(), stores: map[id]*memory{}}
}

// Run reads what is due. That a store cannot be read is no failure of it.
func (k *Keeper) Run(ctx context.Context) error {
	groups, err := k.cfg.Database.GroupsHolding(ctx, []string{tokenpair.KindStore, tokenpair.KindEntry, tokenpair.KindState})
	if err != nil {
		return fmt.Errorf("read credential stores: %w", err)
	}
	k.forget(groups)
	return k.all(ctx, groups)
}

// Serve reads what commits of this replica bring, at once. What fails the job does.
func (k *Keeper) Serve(ctx context.Context) error {
	for {
		group, ok := k.cfg.Woken.Next(ctx)
		if !ok {
			return nil
		}
		groups := append([]string{group}, k.cfg.Woken.Rest()...)
		bounded, cancel := context.WithTimeout(ctx, Timeout)
		err := k.all(bounded, groups)
		k.cfg.Woken.Done(groups...)
		cancel()
		if err != nil && ctx.Err() == nil {
			k.cfg.Log.WarnContext(ctx, "new credential stores could not be read; the background job tries again", "err", err)
		}
	}
}

// forget drops what is known of groups that have no stores any more.
func (k *Keeper) forget(groups []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for at := range k.stores {
		if !slices.Contains(groups, at.group) {
			delete(k.stores, at)
		}
	}
}

// all reads what is due of some groups.
func (k *Keeper) all(ctx context.Context, groups []string) error {
	var mu sync.Mutex // guards failed
	var failed error
	var wg sync.WaitGroup
	slots := make(chan struct{}, lanes)
	for _, group := range groups {
		view, err := k.cfg.Groups.Fresh(ctx, group)
		if err == nil {
			err = k.tidy(ctx, view)
		}
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, fmt.Errorf("read credential stores of group %s: %w", group, err))
			mu.Unlock()
			continue
		}
		for _, name := range k.due(view) {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := k.store(ctx, view, name); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = errors.Join(failed, fmt.Errorf("read credential store %s of group %s: %w", name, group, err))
				}
			})
		}
	}
	wg.Wait()
	return failed
}

// tidy removes what is kept of stores that are gone, from the database and from memory.
func (k *Keeper) tidy(ctx context.Context, view *snapshot.View) error {
	k.mu.Lock()
	for at := range k.stores {
		if _, ok := view.Get(tokenpair.KindStore, at.store); at.group == view.Group && !ok {
			delete(k.stores, at)
		}
	}
	k.mu.Unlock()
	if orphans(view).Empty() {
		return nil
	}
	return k.write(ctx, view.Group, "credential stores that are gone", orphans)
}

func (k *Keeper) write(ctx context.Context, group, note string, wanted func(*snapshot.View) configsvc.SystemChanges) error {
	_, err := k.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: Actor, Action: "credential-stores.read", Group: group, Note: note, Wanted: wanted,
	})
	return err
}

// due are the stores of a view whose time has come, or that are others than they were; nobody else reads them now.
func (k *Keeper) due(view *snapshot.View) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for r := range view.All(tokenpair.KindStore) {
		_, place := storeOf(view, r.Name)
		if place == "" {
			continue // unreadable; what was read before counts on
		}
		m := k.stores[id{view.Group, r.Name}]
		if m != nil && (m.busy || m.place == place && k.cfg.Now().Before(m.next)) {
			continue
		}
		if m == nil || m.place != place {
			m = newMemory(place)
			k.stores[id{view.Group, r.Name}] = m
		}
		m.busy = true
		out = append(out, r.Name)
	}
	return out
}

// store reads a store and writes what has changed.
func (k *Keeper) store(ctx context.Context, view *snapshot.View, name string) error {
	k.mu.Lock()
	m := k.stores[id{view.Group, name}]
	k.mu.Unlock()
	rules, place := storeOf(view, name)
	defer func() {
		k.mu.Lock()
		m.busy, m.next, m.bad = false, m.again(k.cfg.Now(), rules), m.skipped()
		k.mu.Unlock()
	}()
	r, err := k.read(ctx, view, name, rules, m)
	if err != nil || ctx.Err() != nil { // what was not read for want of time did not fail
		return errors.Join(err, ctx.Err())
	}
	m.note(r)
	k.metrics.read(r)
	k.tell(ctx, view.Group, name, m, r)
	judge := func(view *snapshot.View) configsvc.SystemChanges { return decide(view, name, place, r) }
	for !judge(view).Empty() {
		if err := k.write(ctx, view.Group, "credential store "+name, judge); err != nil {
			return err
		}
		if view, err = k.cfg.Groups.Fresh(ctx, view.Group); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) read(ctx context.Context, view *snapshot.View, name string, rules *configv1.CredentialStore, m *memory) (*reading, error) {
	hash, err := newHasher(view, name)
	if err != nil {
		return nil, err
	}
	r := &reading{rules: rules, hash: hash, found: map[string]found{}, bad: map[string]error{}, at: k.cfg.Now()}
	in, err := k.cfg.Places.Folder(view, rules.GetProvider(), rules.GetPath())
	if err != nil { // which is told as what is wrong with the store
		r.failed = err
		return r, nil
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if r.list(bounded, in); r.failed == nil {
		r.read(bounded, in, m.choose(r, view))
	}
	return r, nil
}
