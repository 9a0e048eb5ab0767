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

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/run"
	"keyward.dev/shared/secret"
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
	// Providers are those of the operator.
	Providers *Providers
	// Egress says where providers that tenants make may be.
	Egress *egress.Rules
	// Patience bounds how long the providers that the tenants of a group made can have a run wait, however many they are; 0: 20s.
	Patience time.Duration
	Database Database
	Groups   Groups
	Writer   Writer
	// Woken are the groups with new references.
	Woken *inbox.Inbox
	Now   func() time.Time
	Log   *slog.Logger
}

// Resolver reads references and keeps what they mean. Any replica may run it, and several at once.
type Resolver struct {
	cfg     Config
	metrics metrics
	tenants *tenants

	mu sync.Mutex
	// All guarded by mu, and only about what this replica did: another one knows nothing of it and reads at once.
	next map[place]turn
	told map[place]string
	// looked is what groups were found to hold, by name.
	looked map[string]holding
}

// place is where a reference stands: in a group, by the name of its record.
type place struct{ group, name string }

// turn is when a reference is to be read again, unless it has another provider by then.
type turn struct {
	at       time.Time
	provider *Provider
}

// holding says whether a group had providers or values at a revision.
type holding struct {
	epoch    uint64
	revision int64
	any      bool
}

// New returns a resolver.
func New(cfg Config) *Resolver {
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	return &Resolver{
		cfg: cfg, metrics: newMetrics(cfg.Providers), tenants: &tenants{rules: cfg.Egress, made: map[string]map[string]made{}},
		next: map[place]turn{}, told: map[place]string{}, looked: map[string]holding{},
	}
}

const (
	// Timeout bounds a run of the job.
	Timeout = 5 * time.Minute
	// late is how much later than its period the job may run.
	late = 2 * time.Second
	// patience is Config.Patience if nothing else is said, and lanes is how many groups are waited for at once: what others need
	// is not late for it.
	patience = 20 * time.Second
	lanes    = 4
)

// Every is how often Run has something to do.
func (r *Resolver) Every() time.Duration { return r.cfg.Providers.tick() }

// Run reads what is due: first what the operator's providers give, then, of several groups at once, what those of tenants give.
// That a source does not answer is no failure of it.
func (r *Resolver) Run(ctx context.Context) error {
	groups, err := r.groups(ctx)
	if err != nil {
		return fmt.Errorf("resolve secret references: %w", err)
	}
	return r.both(ctx, groups, false)
}

// both reads what is due of some groups.
func (r *Resolver) both(ctx context.Context, groups []string, fresh bool) error {
	var mu sync.Mutex // guards failed
	var failed error
	resolve := func(group string, whose side) bool {
		further, err := r.group(ctx, group, fresh, whose)
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, fmt.Errorf("resolve secret references of group %s: %w", group, err))
			mu.Unlock()
		}
		return further
	}
	var further []string
	for _, group := range groups {
		if resolve(group, ofOperator) {
			further = append(further, group)
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, lanes)
	for _, group := range further {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			resolve(group, ofTenant)
		})
	}
	wg.Wait()
	return failed
}

// Serve reads what commits of this replica bring, at once, and keeps the providers logged in. If reading fails, or the replica
// ends, the job does it.
func (r *Resolver) Serve(ctx context.Context) error {
	return run.Group(ctx, r.hear, func(ctx context.Context) error { return r.cfg.Providers.Run(ctx, r.cfg.Log) })
}

func (r *Resolver) hear(ctx context.Context) error {
	for {
		group, ok := r.cfg.Woken.Next(ctx)
		if !ok {
			return nil
		}
		groups := append([]string{group}, r.cfg.Woken.Rest()...)
		slices.Sort(groups)
		bounded, cancel := context.WithTimeout(ctx, Timeout)
		err := r.both(bounded, groups, true)
		r.cfg.Woken.Done(groups...)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.WarnContext(ctx, "new secret references could not be resolved; the background job tries again", "err", err)
		}
	}
}

// groups are those that the operator's providers are for, and those that have providers of their own or hold values: also to
// close what nobody reads any more.
func (r *Resolver) groups(ctx context.Context) ([]string, error) {
	heads, err := r.cfg.Database.Heads(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	now := map[string]holding{}
	for _, h := range heads {
		if slices.ContainsFunc(r.cfg.Providers.list, func(p *Provider) bool { return p.groups[h.Group] }) {
			out = append(out, h.Group)
			continue
		}
		r.mu.Lock()
		had, ok := r.looked[h.Group]
		r.mu.Unlock()
		if !ok || had.epoch != h.Epoch || had.revision != h.Revision {
			had = holding{epoch: h.Epoch, revision: h.Revision}
			if had.any, err = r.holds(ctx, h.Group); err != nil {
				return nil, err
			}
		}
		if now[h.Group] = had; had.any {
			out = append(out, h.Group)
		}
	}
	r.mu.Lock()
	r.looked = now
	r.mu.Unlock()
	return out, nil
}

var errEnough = errors.New("one is enough")

func (r *Resolver) holds(ctx context.Context, group string) (bool, error) {
	err := r.cfg.Database.RowsOf(ctx, group, []string{certs.KindResolved, secretplace.Kind}, func(store.Row) error { return errEnough })
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

// side says which providers are read from.
type side bool

const (
	ofOperator side = false
	ofTenant   side = true
)

// group reads the references of a group that are due, and with fresh those of which nothing is kept, and writes what has changed.
// It answers whether the group has providers of its own.
func (r *Resolver) group(ctx context.Context, group string, fresh bool, whose side) (bool, error) {
	view, err := r.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return false, err
	}
	made := r.tenants.of(view)
	ask := asking{
		find: func(ref secret.Reference) (*Provider, string) { return r.cfg.Providers.find(group, made, ref) },
		kept: func(name string) *systemv1.ResolvedSecret {
			stored, _ := view.Get(certs.KindResolved, name)
			return recordOf(stored)
		},
		now: r.cfg.Now(), whose: whose, fresh: fresh, answers: newAnswers(),
	}
	found := r.readDue(ctx, group, wants(view), ask)
	if ctx.Err() != nil { // what was not read for want of time did not fail
		return false, ctx.Err()
	}
	at := r.cfg.Now()
	judge := func(view *snapshot.View) configsvc.SystemChanges { return decide(view, found, staleIn(ask), at) }
	r.tell(ctx, group, found)
	if !judge(view).Empty() {
		_, err = r.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
			Actor: Actor, Action: "secrets.resolve", Group: group, Note: "secret references", Wanted: judge,
		})
	}
	if err == nil {
		err = r.giveBack(ctx, view, ask, found)
	}
	return len(made) > 0, err
}

// readDue reads what this replica has not read lately, or from another provider, and what is missing: it may be back after it was
// gone.
func (r *Resolver) readDue(ctx context.Context, group string, wanted map[string]want, ask asking) map[string]outcome {
	r.mu.Lock()
	due := map[string]want{}
	for name, w := range wanted {
		p, _ := ask.find(w.reference)
		if (p != nil && p.tenant) != bool(ask.whose) {
			continue
		}
		last := r.next[place{group, name}]
		if last.provider != p || !ask.now.Before(last.at) || ask.fresh && ask.missing(name, w) || p.ends(ask.kept(name)) {
			due[name] = w
		}
	}
	ask.together(due, wanted)
	for at := range r.next { // what nobody wants any more
		if _, ok := wanted[at.name]; at.group == group && !ok {
			delete(r.next, at)
			delete(r.told, at)
		}
	}
	r.mu.Unlock()
	if ask.whose == ofTenant {
		bounded, cancel := context.WithTimeout(ctx, r.cfg.Patience)
		defer cancel()
		ctx = bounded
	}
	found := ask.readAll(ctx, due)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, o := range found {
		r.metrics.read(o)
		p, _ := ask.find(o.reference)
		r.next[place{group, name}] = turn{at: r.again(o, ask.now), provider: p}
	}
	return found
}

// again is when a reference is read again: such that the job, which does not come at any moment, is not later than the
// refresh interval, and a little less, so that not all are read at once; and what was issued before too much of its life is over.
func (r *Resolver) again(o outcome, now time.Time) time.Time {
	every := DefaultRefresh
	if o.provider != nil {
		every = o.provider.refresh
	}
	every = max(0, every-r.cfg.Providers.tick()-late)
	if l := o.value.GetLease(); l != nil {
		return renewAt(l)
	}
	at := now.Add(every - time.Duration(rand.Float64()*float64(every)/4))
	if o.provider == nil || !o.provider.issues || o.value.GetCertificate() == nil {
		return at
	}
	set, vs := certs.Open(&configv1.Certificate{Current: o.value.GetCertificate()})
	if len(vs) > 0 || renewal(set.Current.Leaf()).After(at) {
		return at
	}
	return renewal(set.Current.Leaf())
}

// staleIn answers the bound up to which a value is kept; one whose provider is gone is kept as long as one of a provider that
// says nothing, so that replicas whose settings differ for a while close nothing.
func staleIn(ask asking) func(w want) time.Duration {
	return func(w want) time.Duration {
		if p, reason := ask.find(w.reference); reason == "" {
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
		log := r.cfg.Log.With("group", group, "of", o.holder, "reference", o.reference.String())
		if o.err != nil {
			log.WarnContext(ctx, "secret reference could not be resolved", "err", o.err)
		} else {
			log.InfoContext(ctx, "secret reference is resolved again")
		}
		r.told[at] = text
	}
}
