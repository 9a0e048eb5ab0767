package certstatus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	neturl "net/url"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/check/certs"
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

// Database says which groups there are, and gives their stored resources of some kinds.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	RowsOf(ctx context.Context, group string, kinds []string, yield func(store.Row) error) error
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
	next map[place]time.Time
	told map[place]string
	idle map[string]store.HeadStamp // groups that want nothing, as of a head
}

// place is where something is kept: in a group, by the kind and name of its record.
type place struct{ group, kind, name string }

// New returns a keeper.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, metrics: newMetrics(), next: map[place]time.Time{}, told: map[place]string{}, idle: map[string]store.HeadStamp{}}
}

// Run fetches what is due. That something cannot be fetched is no failure of it.
func (k *Keeper) Run(ctx context.Context) error {
	heads, err := k.cfg.Database.Heads(ctx)
	if err != nil {
		return fmt.Errorf("fetch status of certificates: %w", err)
	}
	var failed error
	for _, h := range heads {
		if err := k.groupOf(ctx, h); err != nil {
			failed = errors.Join(failed, fmt.Errorf("fetch status of certificates of group %s: %w", h.Group, err))
		}
	}
	return failed
}

// groupOf looks after a group, unless it wanted nothing and has not changed since. Most want nothing ever, and are not opened.
func (k *Keeper) groupOf(ctx context.Context, h store.HeadStamp) error {
	k.mu.Lock()
	was, known := k.idle[h.Group]
	k.mu.Unlock()
	if known && was.Epoch == h.Epoch && was.Revision == h.Revision {
		return nil
	}
	busy, err := k.busy(ctx, h.Group)
	if err != nil {
		return err
	}
	k.mu.Lock()
	if delete(k.idle, h.Group); !busy {
		k.idle[h.Group] = h
	}
	k.mu.Unlock()
	if !busy {
		return nil
	}
	return k.group(ctx, h.Group)
}

// busy reports whether a group wants something, or keeps something.
func (k *Keeper) busy(ctx context.Context, group string) (bool, error) {
	vault, err := k.cfg.Unlock(ctx, group)
	if err != nil {
		return false, err
	}
	kept, elsewhere := false, false
	stored := map[string][]proto.Message{}
	err = k.cfg.Database.RowsOf(ctx, group, append(wantingKinds(), keptKinds()...), func(row store.Row) error {
		for _, kind := range keptKinds() {
			kept = kept || row.Kind == kind
		}
		if kept {
			return nil
		}
		m := open(vault, row)
		if m == nil {
			return nil
		}
		stored[row.Kind] = append(stored[row.Kind], m)
		if c, ok := m.(*configv1.Certificate); ok {
			elsewhere = elsewhere || slices.ContainsFunc(certs.Slots(c), func(s certs.Slot) bool { return certs.Reference(s.Version) != "" })
		}
		return nil
	})
	if err != nil || kept || elsewhere { // what a reference means is known with the group opened
		return kept || elsewhere, err
	}
	all, _ := wants(func(kind string, yield func(proto.Message)) {
		for _, m := range stored[kind] {
			yield(m)
		}
	})
	return len(all) > 0, nil
}

// open is a stored resource, nil if it cannot be read: then it wants nothing. Who opens its group tells.
func open(vault Vault, row store.Row) proto.Message {
	packed, err := vault.Open(row)
	if err != nil {
		return nil
	}
	var rec syncv1.Record
	if proto.Unmarshal(packed, &rec) != nil {
		return nil
	}
	m, err := record.Message(&rec)
	if err != nil {
		return nil
	}
	return m
}

// group fetches what is due of a group, some at a time, and writes what has changed.
func (k *Keeper) group(ctx context.Context, group string) error {
	view, err := k.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return err
	}
	all, tooMany := wants(inView(view))
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
		judge := func(view *snapshot.View) configsvc.SystemChanges { return decide(view, found, at) }
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
	return nil
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
