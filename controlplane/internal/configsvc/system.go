package configsvc

import (
	"context"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/tokenpair"
)

// SystemRequest is a change of system records: what gateways need and nobody wrote. Users' changes never come this way, and
// no document names the kinds of these records.
type SystemRequest struct {
	// Actor, Action and Note are as in Request.
	Actor, Action, Note string
	Group               string
	// Wanted works out the changes, with the group's head locked. It must be pure.
	Wanted func(*snapshot.View) SystemChanges
}

// SystemChanges are what a SystemRequest wants.
type SystemChanges struct {
	Upserts []admission.Upsert
	Deletes []snapshot.Ref
	// Notes say in the audit trail what the names of records do not.
	Notes []string
	// Immediate sends them to all gateways at once.
	Immediate bool
}

// Empty reports whether nothing is wanted.
func (c SystemChanges) Empty() bool { return len(c.Upserts)+len(c.Deletes) == 0 }

// WriteSystem brings system records into the group as Write does resources: one revision, sealed, audited, sent to gateways.
// What they mean was judged by who made them.
func (s *Service) WriteSystem(ctx context.Context, req SystemRequest) (Result, error) {
	return s.commit(ctx, req.Group, false, func(view *snapshot.View) (*plan, error) {
		changes := req.Wanted(view)
		write := Request{Actor: req.Actor, Action: req.Action, Group: req.Group, Note: req.Note, Immediate: changes.Immediate}
		return s.plan(view, write, admission.Admitted{Upserts: changes.Upserts, Deletes: changes.Deletes, Audit: changes.Notes})
	})
}

// refers reports whether the change brings certificates with references, credential stores, or providers.
func (p *plan) refers() bool {
	for _, r := range p.change.Upserts {
		if r.Kind == secretplace.Kind || r.Kind == tokenpair.KindStore || len(claims.References(r.Message)) > 0 {
			return true
		}
		c, ok := r.Message.(*configv1.Certificate)
		if !ok {
			continue
		}
		for _, slot := range certs.Slots(c) {
			if certs.Reference(slot.Version) != "" {
				return true
			}
		}
	}
	return false
}

// orders reports whether the change is about what ACME authorities issue.
func (p *plan) orders() bool {
	for _, item := range p.items {
		for _, r := range []*snapshot.Resource{item.Before, item.After} {
			if r == nil {
				continue
			}
			if c, ok := r.Message.(*configv1.Certificate); ok && c.GetAcme() != nil || r.Kind == certs.KindIssuer {
				return true
			}
		}
	}
	return false
}
