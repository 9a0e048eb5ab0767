package secretsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/run"
)

// Actor is who writes values, in the audit trail.
const Actor = "secret-references"

// Database says which groups there are, and which of them hold values.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	RowsOf(ctx context.Context, group string, kinds []string, yield func(store.Row) error) error
}

// Groups gives the newest set of a group.
type Groups interface {
	Fresh(ctx context.Context, group string) (*snapshot.View, error)
}

// Writer is the write path.
type Writer interface {
	WriteSystem(ctx context.Context, req configsvc.SystemRequest) (configsvc.Result, error)
}

// Config is what a Resolver needs.
type Config struct {
	Providers *Providers
	Database  Database
	Groups    Groups
	Writer    Writer
	// Woken are the groups with new references.
	Woken *Inbox
	Now   func() time.Time
	Log   *slog.Logger
}

// Resolver reads references and keeps what they mean. Any replica may run it, and several at once.
type Resolver struct {
	cfg     Config
	metrics metrics

	mu sync.Mutex
	// All guarded by mu, and only about what this replica did: another one knows nothing of it and reads at once.
	next  map[place]time.Time
	told  map[place]string
	swept time.Time
}

// place is where a reference stands: in a group, by the name of its record.
type place struct{ group, name string }

// New returns a resolver.
func New(cfg Config) *Resolver {
	return &Resolver{cfg: cfg, metrics: newMetrics(cfg.Providers), next: map[place]time.Time{}, told: map[place]string{}}
}

const (
	// Timeout bounds a run of the job.
	Timeout = 5 * time.Minute
	// late is how much later than its period the job may run.
	late = 2 * time.Second
	// sweep is how often groups are looked for that hold values and that no provider is for any more.
	sweep = time.Hour
)

// Every is how often Run has something to do.
func (r *Resolver) Every() time.Duration { return r.cfg.Providers.tick() }

// Run reads what is due. That a source does not answer is no failure of it.
func (r *Resolver) Run(ctx context.Context) error {
	groups, err := r.groups(ctx)
	if err != nil {
		return fmt.Errorf("resolve secret references: %w", err)
	}
	var failed error
	for _, group := range groups {
		if err := r.group(ctx, group, false); err != nil {
			failed = errors.Join(failed, fmt.Errorf("resolve secret references of group %s: %w", group, err))
		}
	}
	return failed
}

// Serve reads what commits of this replica bring, at once, and keeps the providers logged in. If reading fails, or the replica
// ends, the job does it.
func (r *Resolver) Serve(ctx context.Context) error {
	return run.Group(ctx, r.hear, func(ctx context.Context) error { return r.cfg.Providers.Run(ctx, r.cfg.Log) })
}

func (r *Resolver) hear(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.cfg.Woken.signal:
		}
		for _, group := range r.cfg.Woken.take() {
			bounded, cancel := context.WithTimeout(ctx, Timeout)
			err := r.group(bounded, group, true)
			cancel()
			if err != nil && ctx.Err() == nil {
				r.cfg.Log.WarnContext(ctx, "new secret references could not be resolved; the background job tries again", "group", group, "err", err)
			}
		}
	}
}

// groups are those that providers are for, and now and then all that hold values, to close what nobody reads any more.
func (r *Resolver) groups(ctx context.Context) ([]string, error) {
	heads, err := r.cfg.Database.Heads(ctx)
	if err != nil {
		return nil, err
	}
	now := r.cfg.Now()
	r.mu.Lock()
	all := now.Sub(r.swept) >= sweep
	r.mu.Unlock()
	var out []string
	for _, h := range heads {
		wanted := slices.ContainsFunc(r.cfg.Providers.list, func(p *Provider) bool { return p.groups[h.Group] })
		if !wanted && all {
			err := r.cfg.Database.RowsOf(ctx, h.Group, []string{certs.KindResolved}, func(store.Row) error {
				wanted = true
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		if wanted {
			out = append(out, h.Group)
		}
	}
	if all {
		r.mu.Lock()
		r.swept = now
		r.mu.Unlock()
	}
	return out, nil
}

// group reads the references of a group that are due, and with fresh those of which nothing is kept, and writes what has changed.
func (r *Resolver) group(ctx context.Context, group string, fresh bool) error {
	view, err := r.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return err
	}
	wanted := wants(view)
	found := r.readDue(ctx, group, wanted, func(name string) bool {
		_, kept := view.Get(certs.KindResolved, name)
		return fresh && !kept
	})
	if ctx.Err() != nil { // what was not read for want of time did not fail
		return ctx.Err()
	}
	at := r.cfg.Now()
	judge := func(view *snapshot.View) configsvc.SystemChanges { return decide(view, found, r.stale(group), at) }
	r.tell(ctx, group, found)
	if judge(view).Empty() {
		return nil
	}
	_, err = r.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: Actor, Action: "secrets.resolve", Group: group, Note: "secret references", Wanted: judge,
	})
	return err
}

// readDue reads what this replica has not read lately, and what is now for another reason: it may be back after it was gone.
func (r *Resolver) readDue(ctx context.Context, group string, wanted map[string]want, now func(name string) bool) map[string]outcome {
	r.mu.Lock()
	begun := r.cfg.Now()
	due := map[string]want{}
	for name, w := range wanted {
		if !begun.Before(r.next[place{group, name}]) || now(name) {
			due[name] = w
		}
	}
	for at := range r.next { // what nobody wants any more
		if _, ok := wanted[at.name]; at.group == group && !ok {
			delete(r.next, at)
			delete(r.told, at)
		}
	}
	r.mu.Unlock()
	found := readAll(ctx, r.cfg.Providers, group, due)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, o := range found {
		r.metrics.read(o)
		r.next[place{group, name}] = begun.Add(r.pause(o.provider))
	}
	return found
}

// pause is until a reference is read again: such that the job, which does not come at any moment, is not later than the
// refresh interval, and a little less, so that not all are read at once.
func (r *Resolver) pause(p *Provider) time.Duration {
	every := DefaultRefresh
	if p != nil {
		every = p.refresh
	}
	every = max(0, every-r.cfg.Providers.tick()-late)
	return every - time.Duration(rand.Float64()*float64(every)/4)
}

// stale answers the bound up to which a value is kept; one whose provider is gone is kept as long as one of a provider that
// says nothing, so that replicas whose settings differ for a while close nothing.
func (r *Resolver) stale(group string) func(w want) time.Duration {
	return func(w want) time.Duration {
		if p, reason := r.cfg.Providers.find(group, w.reference); reason == "" {
			return p.stale
		}
		return DefaultStale
	}
}

// tell logs what could not be read, once for each reason.
func (r *Resolver) tell(ctx context.Context, group string, found map[string]outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, o := range found {
		at, text := place{group, name}, ""
		if o.err != nil {
			text = o.err.Error()
		}
		if r.told[at] == text {
			continue
		}
		log := r.cfg.Log.With("group", group, "certificate", o.holder, "reference", o.reference.String())
		if o.err != nil {
			log.WarnContext(ctx, "secret reference could not be resolved", "err", o.err)
		} else {
			log.InfoContext(ctx, "secret reference is resolved again")
		}
		r.told[at] = text
	}
}

// Inbox keeps which groups have new references until they are looked at.
type Inbox struct {
	signal chan struct{}
	mu     sync.Mutex
	groups map[string]bool // guarded by mu
}

// NewInbox returns an empty one.
func NewInbox() *Inbox { return &Inbox{signal: make(chan struct{}, 1), groups: map[string]bool{}} }

// Wake notes a group. It does not wait.
func (i *Inbox) Wake(group string) {
	i.mu.Lock()
	i.groups[group] = true
	i.mu.Unlock()
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

func (i *Inbox) take() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for group := range i.groups {
		out = append(out, group)
	}
	clear(i.groups)
	slices.Sort(out)
	return out
}
