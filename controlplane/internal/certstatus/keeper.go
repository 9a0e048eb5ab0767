package certstatus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	neturl "net/url"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// Actor is who writes what was fetched, in the audit trail.
const Actor = "certificate-status"

const (
	// Every is how often Run is to be called: what is asked for anew is fetched so soon.
	Every = 5 * time.Second
	// Timeout bounds a run.
	Timeout = 5 * time.Minute
	// fetchTimeout bounds a call.
	fetchTimeout = 20 * time.Second
	// together is how many calls are made at once, and written at once.
	together = 8
	// retry is until something that could not be fetched is tried again, at the soonest.
	retry = time.Minute
)

// Database says which groups there are, and gives their stored resources of some kinds that have changed after a revision.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	RowsSince(ctx context.Context, group string, kinds []string, revision int64, yield func(store.Row) error) error
}

// Vault opens stored resources.
type Vault interface {
	Open(row store.Row) ([]byte, error)
}

// Groups gives the newest set of a group.
type Groups interface {
	Fresh(ctx context.Context, group string) (*snapshot.View, error)
}

// Writer is the write path.
type Writer interface {
	WriteSystem(ctx context.Context, req configsvc.SystemRequest) (configsvc.Result, error)
}

// Config is what a Keeper needs.
type Config struct {
	Database Database
	Unlock   func(ctx context.Context, group string) (Vault, error)
	Groups   Groups
	Writer   Writer
	Fetcher  Fetcher
	Now      func() time.Time
	Log      *slog.Logger
}

// Keeper fetches what is due.
type Keeper struct {
	cfg     Config
	metrics metrics

	mu sync.Mutex
	// All guarded by mu, and only about what this replica did: another one knows nothing of it and fetches at once.
	next   map[place]time.Time
	told   map[place]string
	looked map[string]look // by group
	wanted *memory
}

// place is where something is kept: in a group, by the kind and name of its record.
type place struct{ group, kind, name string }

// New returns a keeper.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, metrics: newMetrics(), next: map[place]time.Time{}, told: map[place]string{}, looked: map[string]look{}, wanted: newMemory()}
}

// Run fetches what is due. That something cannot be fetched is no failure of it.
func (k *Keeper) Run(ctx context.Context) error {
	heads, err := k.cfg.Database.Heads(ctx)
	if err != nil {
		return fmt.Errorf("fetch status of certificates: %w", err)
	}
	k.forget(heads)
	var failed error
	for _, h := range heads {
		if err := k.groupOf(ctx, h); err != nil {
			failed = errors.Join(failed, fmt.Errorf("fetch status of certificates of group %s: %w", h.Group, err))
		}
	}
	return failed
}

// forget forgets groups that are gone.
func (k *Keeper) forget(heads []store.HeadStamp) {
	there := map[string]bool{}
	for _, h := range heads {
		there[h.Group] = true
	}
	k.mu.Lock()
	maps.DeleteFunc(k.looked, func(group string, _ look) bool { return !there[group] })
	k.mu.Unlock()
	k.wanted.forget(there)
}

// groupOf looks after a group, if it has changed or something is due. Most groups want nothing ever, and are not opened: of them
// only what has changed is looked at.
func (k *Keeper) groupOf(ctx context.Context, h store.HeadStamp) error {
	k.mu.Lock()
	was := k.looked[h.Group]
	k.mu.Unlock()
	if was.at(h) && (!was.busy || k.cfg.Now().Before(was.soon)) {
		return nil
	}
	if was.busy && was.head.Epoch == h.Epoch {
		return k.group(ctx, h)
	}
	now := look{head: h}
	var err error
	if now.busy, now.tls, err = k.busy(ctx, h, was); err != nil {
		return err
	}
	if now.busy {
		return k.group(ctx, h)
	}
	k.note(h.Group, now)
	return nil
}

func (k *Keeper) note(group string, l look) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked[group] = l
}

// group fetches what is due of a group, some at a time, and writes what has changed.
func (k *Keeper) group(ctx context.Context, h store.HeadStamp) error {
	group := h.Group
	view, err := k.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return err
	}
	all, tooMany := k.wanted.wants(view)
	if tooMany > 0 {
		k.tell(ctx, place{group: group}, site{}, fmt.Errorf("the group names %d more lists than the %d that are fetched", tooMany, MaxLists))
	}
	due, down := k.due(group, all), map[string]error{}
	for first := true; first || len(due) > 0; first = false { // at least once: what nobody wants any more is removed
		some := due[:min(len(due), together)]
		due = due[len(some):]
		found := k.fetch(ctx, group, some, view, down)
		if ctx.Err() != nil { // what was not fetched for want of time did not fail
			return ctx.Err()
		}
		at := k.cfg.Now()
		judge := func(view *snapshot.View) configsvc.SystemChanges { return decide(view, k.wanted, found, at) }
		if judge(view).Empty() {
			continue
		}
		_, err = k.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
			Actor: Actor, Action: "certificates.fetch-status", Group: group, Note: "what is known of certificates", Wanted: judge,
		})
		if err != nil {
			return err
		}
		if view, err = k.cfg.Groups.Fresh(ctx, group); err != nil {
			return err
		}
	}
	k.note(group, look{head: h, busy: len(all) > 0 || keeps(view), soon: k.soon(group, all), tls: tlsOf(view)})
	return nil
}

// soon is when the first of some subjects is due.
func (k *Keeper) soon(group string, all []subject) (first time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, s := range all {
		if at := k.next[placeOf(group, s)]; i == 0 || at.Before(first) {
			first = at
		}
	}
	return first
}

// due are the subjects whose time has come.
func (k *Keeper) due(group string, all []subject) (due []subject) {
	now := k.cfg.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := map[place]bool{}
	for _, s := range all {
		at := placeOf(group, s)
		wanted[at] = true
		if !now.Before(k.next[at]) {
			due = append(due, s)
		}
	}
	for at := range k.next { // what nobody wants any more
		if at.group == group && !wanted[at] {
			delete(k.next, at)
			delete(k.told, at)
		}
	}
	return due
}

func placeOf(group string, s subject) place { return place{group, s.at().kind, s.at().name} }

// fetch fetches several at once, and no more from where nobody has answered in this run.
func (k *Keeper) fetch(ctx context.Context, group string, due []subject, view *snapshot.View, down map[string]error) map[string]outcome {
	out := map[string]outcome{}
	var mu sync.Mutex // guards out and down
	var wg sync.WaitGroup
	for _, s := range due {
		wg.Go(func() {
			host := hostOf(s.at().url)
			mu.Lock()
			err := down[host]
			mu.Unlock()
			var v []byte
			if err == nil {
				bounded, cancel := context.WithTimeout(ctx, fetchTimeout)
				defer cancel()
				v, err = s.fetch(bounded, k.cfg.Fetcher, k.cfg.Now())
			}
			mu.Lock()
			defer mu.Unlock()
			if _, ok := errors.AsType[*neturl.Error](err); ok {
				down[host] = err
			}
			out[s.at().name] = outcome{v, err}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return out
	}
	now := k.cfg.Now()
	for _, s := range due {
		at := s.at()
		stored, _ := view.Get(at.kind, at.name)
		kept, _ := value(stored)
		o := out[at.name]
		_, _, err := next(s, stored, o, now)
		k.metrics.fetched(at.kind, err)
		again := s.due(o.value, now)
		if err != nil {
			again = s.due(kept, now)
			if soon := now.Add(retry); soon.Before(again) {
				again = soon
			}
		}
		k.mu.Lock()
		k.next[placeOf(group, s)] = again.Add(-time.Duration(rand.Float64() * float64(again.Sub(now)) / 8)) // not all at once
		k.mu.Unlock()
		k.tell(ctx, placeOf(group, s), at, err)
	}
	return out
}

func hostOf(url string) string {
	u, err := neturl.Parse(url)
	if err != nil {
		return url
	}
	return u.Host
}

// tell logs what could not be fetched, once for each reason.
func (k *Keeper) tell(ctx context.Context, at place, where site, err error) {
	text := ""
	if err != nil {
		text = reason(err)
	}
	k.mu.Lock()
	was := k.told[at]
	k.told[at] = text
	k.mu.Unlock()
	if was == text {
		return
	}
	log := k.cfg.Log.With("group", at.group, "resource", where.holder, "url", where.url)
	if err != nil {
		log.WarnContext(ctx, "status of certificates could not be fetched", "err", text)
	} else {
		log.InfoContext(ctx, "status of certificates is fetched again")
	}
}

// reason is the text of an error without what differs from call to call.
func reason(err error) string {
	if call, ok := errors.AsType[*neturl.Error](err); ok {
		err = call.Err
	}
	return err.Error()
}
