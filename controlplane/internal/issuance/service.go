package issuance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

// Actor is who writes what was issued, in the audit trail.
const Actor = "acme"

const (
	// Every is how often Run has something to do.
	Every = 10 * time.Second
	// Timeout bounds a run of the job, which only hands work on.
	Timeout = time.Minute
	// orderTimeout bounds an order, most of which is waiting for the authority.
	orderTimeout = 8 * time.Minute
	// atOnce is how many orders of a group are under way, groupsAtOnce how many groups a replica works on: each occupies a
	// connection to the database.
	atOnce, groupsAtOnce = 4, 2
)

// Database says which groups there are, and lets one replica at a time work on each.
type Database interface {
	GroupsHolding(ctx context.Context, kinds []string) ([]string, error)
	TryLock(ctx context.Context, name string) (release func(), ok bool, err error)
}

// Groups gives the newest set of a group.
type Groups interface {
	Fresh(ctx context.Context, group string) (*snapshot.View, error)
}

// Writer is the write path.
type Writer interface {
	WriteSystem(ctx context.Context, req configsvc.SystemRequest) (configsvc.Result, error)
}

// Gateways says how far the gateways of a group are.
type Gateways interface {
	ConnectedIn(ctx context.Context, group string) (int, error)
	WaitForRevision(ctx context.Context, group string, revision int64, least int, timeout time.Duration) (registry.Progress, error)
}

// Rollouts says whether changes of a group are held back.
type Rollouts interface {
	State(ctx context.Context, group string) (*rollout.State, error)
}

// Config is what a Service needs.
type Config struct {
	Database Database
	Accounts *Ledger
	Groups   Groups
	Writer   Writer
	Gateways Gateways
	Rollouts Rollouts
	// Egress says where authorities may be.
	Egress *egress.Rules
	// Woken are the groups to look at.
	Woken *inbox.Inbox
	Now   func() time.Time
	Log   *slog.Logger
}

// Service has certificates issued. Any replica may run it, and several at once.
type Service struct {
	cfg     Config
	metrics metrics

	mu sync.Mutex
	// asked is when authorities are next asked about certificates, guarded by mu: each replica asks for itself.
	asked map[place]time.Time
	// kept are the accounts of groups that were there when this replica tidied up last, guarded by mu.
	kept map[string][]string
}

// place is where a certificate is: in a group, by its name.
type place struct{ group, name string }

// New returns a service.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, metrics: newMetrics(), asked: map[place]time.Time{}, kept: map[string][]string{}}
}

// Run hands the groups that have certificates of this kind to Serve. It is done by one replica at a time, so that the work goes
// from one to another if one of them cannot do it.
func (s *Service) Run(ctx context.Context) error {
	groups, err := s.cfg.Database.GroupsHolding(ctx, []string{certs.KindIssuer, certs.KindIssued, certs.KindChallenge})
	if err != nil {
		return fmt.Errorf("look for certificates to be issued: %w", err)
	}
	for _, group := range groups {
		s.cfg.Woken.Wake(group)
	}
	return nil
}

// Serve does the work until ctx ends. What fails is tried again when Run comes by.
func (s *Service) Serve(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, groupsAtOnce)
	for {
		group, ok := s.cfg.Woken.Next(ctx)
		if !ok {
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		workers.Go(func() {
			defer func() { <-slots }()
			defer s.cfg.Woken.Done(group)
			if err := s.group(ctx, group); err != nil && ctx.Err() == nil {
				s.cfg.Log.WarnContext(ctx, "certificates cannot be issued; it is tried again", "group", group, "err", err)
			}
		})
	}
}

// group does what is to be done for a group now, if nobody else does.
func (s *Service) group(ctx context.Context, group string) error {
	view, err := s.cfg.Groups.Fresh(ctx, group)
	if err != nil || !s.busy(view, group) {
		return err
	}
	release, ok, err := s.cfg.Database.TryLock(ctx, "acme/"+group)
	if err != nil || !ok {
		return err
	}
	defer release()
	for ctx.Err() == nil {
		if view, err = s.cfg.Groups.Fresh(ctx, group); err != nil {
			return err
		}
		if err := s.tidy(ctx, view, group); err != nil {
			return err
		}
		due := dueOf(view, s.cfg.Now())
		if len(due) == 0 {
			return s.ask(ctx, view, group)
		}
		ready, err := s.ready(ctx, group, due)
		if err != nil || !ready {
			return err
		}
		if err := s.orders(ctx, group, due); err != nil {
			return err
		}
	}
	return nil
}

// busy reports whether there may be something to do.
func (s *Service) busy(view *snapshot.View, group string) bool {
	now := s.cfg.Now()
	return len(dueOf(view, now))+len(leftovers(view))+len(recovered(view, now)) > 0 || len(s.unasked(view, group)) > 0 || s.moved(view, group)
}

// moved reports whether the issuers have, or would have, other accounts than when this replica tidied up last.
func (s *Service) moved(view *snapshot.View, group string) bool {
	ids, ok := accountsOf(view)
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, seen := s.kept[group]
	return ok && (!seen || !slices.Equal(ids, kept))
}

func dueOf(view *snapshot.View, now time.Time) []want {
	var due []want
	for _, w := range wants(view) {
		if w.due(now) {
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b want) int { return a.record.GetRenewAt().AsTime().Compare(b.record.GetRenewAt().AsTime()) })
	return due
}

// tidy removes what nobody needs any more. It holds the lock, so that no order is under way.
func (s *Service) tidy(ctx context.Context, view *snapshot.View, group string) error {
	now := s.cfg.Now()
	judge := func(view *snapshot.View) configsvc.SystemChanges {
		out := configsvc.SystemChanges{Deletes: leftovers(view)}
		for _, name := range recovered(view, now) {
			m := succeeded(recordOf(view, name))
			out.Upserts = append(out.Upserts, upsert(view, certs.KindIssued, name, m))
		}
		return out
	}
	if !judge(view).Empty() {
		if err := s.write(ctx, group, judge); err != nil {
			return err
		}
	}
	ids, ok := accountsOf(view)
	if !ok { // who knows whose they are
		return nil
	}
	if err := s.cfg.Accounts.keep(ctx, group, ids); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[group] = ids
	return nil
}

func (s *Service) write(ctx context.Context, group string, judge func(*snapshot.View) configsvc.SystemChanges) error {
	_, err := s.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: Actor, Action: "certificates.issue", Group: group, Note: "ACME", Wanted: judge,
	})
	return err
}

// nobody is what is said where nothing is ordered because nobody could answer: an authority would count it as a failure.
const nobody = "nothing is ordered: no gateway is connected that could answer the authority"

// ready reports whether gateways could answer an authority. That none is there is said with the certificates; that a roll-out holds
// changes back is not, because saying it would be another change.
func (s *Service) ready(ctx context.Context, group string, due []want) (bool, error) {
	state, err := s.cfg.Rollouts.State(ctx, group)
	if err != nil {
		return false, err
	}
	if state != nil && state.Pending() > 0 {
		s.cfg.Log.DebugContext(ctx, "certificates are not ordered before a roll-out is over", "group", group)
		return false, nil
	}
	connected, err := s.cfg.Gateways.ConnectedIn(ctx, group)
	if err != nil || connected > 0 {
		return err == nil, err
	}
	due = slices.DeleteFunc(due, func(w want) bool { return w.record.GetLastError() == nobody })
	if len(due) == 0 {
		return false, nil
	}
	return false, s.write(ctx, group, func(view *snapshot.View) configsvc.SystemChanges { return waiting(view, due, nobody, s.cfg.Now()) })
}

// orders carries out orders, several at once.
func (s *Service) orders(ctx context.Context, group string, due []want) error {
	var workers sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	slots := make(chan struct{}, atOnce)
	for _, w := range due {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			if err := s.order(ctx, group, w); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	workers.Wait()
	return failed
}
