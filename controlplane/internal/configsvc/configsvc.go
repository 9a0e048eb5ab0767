// Package configsvc is the write path: how a set of wanted changes becomes one committed revision of a gateway group, or
// nothing at all. Read Write from top to bottom. It decides no rules (admission does), knows no SQL (store does) and no
// cryptography (sealer does). The admin API calls it; bootstrap creates groups through it.
package configsvc

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/passwords"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// Config holds what a Service needs.
type Config struct {
	Store     *store.Store
	Sealer    *sealer.Sealer
	Groups    *snapshot.Manager
	History   Past
	Admission *admission.Admitter
	Log       *slog.Logger
	// Secrets answers the providers that the operator gives a group; nil: none.
	Secrets func(group string) admission.Secrets
	// Referring hears of each commit that brings references, credential stores, or providers for them. It must not wait.
	Referring func(group string)
	// First are system records that a new group has beside its pepper; nil: none.
	First func(now time.Time) []admission.Upsert
	// Ordering hears of each commit that changes what ACME authorities issue. It must not wait.
	Ordering func(group string)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Service writes configuration.
type Service struct {
	cfg       Config
	passwords *passwords.Hasher
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, passwords: passwords.New(0)}
}

// Request is a set of changes that shall hold together or not at all.
type Request struct {
	// Actor is who asks, for the audit trail.
	Actor string
	// Action is what the audit trail calls it, e.g. "resources.apply".
	Action string
	Group  string
	// Changes are what is wanted, as decoded from documents.
	Changes []admission.Change
	// Prune removes the resources of the kinds that users write which Changes do not name.
	Prune bool
	// DryRun does everything but store.
	DryRun bool
	// Immediate sends the revision to all gateways at once, even if the settings stage changes.
	Immediate bool
	// Note says for history and audit trail what the counts of changes do not.
	Note string
	// Faults are violations found when the document was read. With any the request is refused, with them and whatever
	// else is wrong.
	Faults []problem.Violation
}

// Item is what a request does to one resource.
type Item struct {
	// Action is "create", "update" or "delete".
	Action     string
	Kind, Name string
	// Before and After are the stored resource; nil where there is none. Read-only.
	Before, After *snapshot.Resource
}

// Result is what a request did, or with DryRun would do.
type Result struct {
	// Revision that holds the changes; the revision the group already had if nothing changed.
	Revision  int64
	Changed   bool
	Items     []Item
	Unchanged int
	Warnings  []problem.Violation
	// View is the set after the request; with DryRun the set before it.
	View *snapshot.View
}

// Write brings the changes into the group, in one revision. Whatever is wrong with them comes back as one
// *problem.Error with every violation, and nothing is stored. Asking for what is already there makes no revision.
func (s *Service) Write(ctx context.Context, req Request) (Result, error) {
	ready := admission.Prepare(req.Changes, s.cfg.Now()) // what is slow: before any lock
	if err := s.hashPasswords(ctx, req.Group, ready.Changes); err != nil {
		return Result{}, err
	}
	res, err := s.commit(ctx, req.Group, req.DryRun, func(view *snapshot.View) (*plan, error) {
		return s.admit(view, req, admission.Request{Changes: ready.Changes, Prune: req.Prune, Faults: append(ready.Faults, req.Faults...)})
	})
	res.Warnings = append(res.Warnings, ready.Warnings...)
	return res, err
}

// commit is Write for changes that depend on what the group holds: decide works them out with the group's head locked.
func (s *Service) commit(ctx context.Context, name string, dryRun bool, decide func(*snapshot.View) (*plan, error)) (Result, error) {
	group, err := s.cfg.Groups.Group(ctx, name)
	if err != nil {
		return Result{}, err
	}
	vault, err := s.cfg.Sealer.Group(ctx, name) // may ask the KEK: before any lock
	if err != nil {
		return Result{}, err
	}
	var p *plan
	err = s.cfg.Store.InGroup(ctx, name, func(ctx context.Context, tx *store.GroupTx) error {
		view, err := group.CatchUp(ctx, tx.Reader()) // the head row is locked: this is the newest there is
		if err != nil {
			return err
		}
		if p, err = decide(view); err != nil || !p.changed() {
			return err
		}
		if err := p.stage(ctx, tx, vault); err != nil || dryRun {
			return err
		}
		return p.store(ctx, tx, vault)
	})
	if err != nil {
		return Result{}, classify(err)
	}
	if p.changed() && !dryRun {
		group.Committed(p.change)
		if s.cfg.Referring != nil && p.refers() {
			s.cfg.Referring(name)
		}
		if s.cfg.Ordering != nil && p.orders() {
			s.cfg.Ordering(name)
		}
	}
	return p.result(group, dryRun), nil
}

// admit judges what is wanted of the view.
func (s *Service) admit(view *snapshot.View, req Request, ask admission.Request) (*plan, error) {
	var err error
	if ask.Hash, err = hasher(view); err != nil {
		return nil, err
	}
	if s.cfg.Secrets != nil {
		ask.Secrets = s.cfg.Secrets(req.Group)
	}
	admitted, err := s.cfg.Admission.Admit(view, ask)
	if err != nil {
		return nil, err
	}
	return s.plan(view, req, admitted)
}

// classify gives errors that have no code yet the one their cause has.
func classify(err error) error {
	if _, ok := errors.AsType[*problem.Error](err); ok {
		return err
	}
	if errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, snapshot.ErrRewound) {
		return problem.Wrap(problem.Unavailable, "the stored configuration of the group does not verify; nothing was stored", err)
	}
	return err
}
