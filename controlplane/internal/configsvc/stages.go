package configsvc

import (
	"context"
	"fmt"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// stages is what a change does to the roll-out of a group. The zero value is that of a group that stages nothing.
type stages struct {
	touched       bool
	before, after *rollout.State
	// urgent says why the change goes to all gateways at once; empty if it does not, or if nothing would wait anyway.
	urgent string
}

// stage works out how the change reaches the gateways. A group that stages nothing costs a look at its settings.
func (p *plan) stage(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
	was, is := p.rollouts()
	if !rollout.Staged(was) && !rollout.Staged(is) {
		return nil
	}
	urgent := p.urgent()
	before, err := rollout.Read(ctx, tx, vault)
	if err != nil && urgent == "" {
		return problem.Wrap(problem.Unavailable,
			"the roll-out of the group does not verify; nothing was stored. A change that is immediate, or a rollback, begins anew", err)
	}
	p.stages = stages{touched: true, before: before, urgent: urgent}
	p.stages.after = before.Next(rollout.Commit{
		Epoch: p.change.Epoch, Revision: p.change.Revision, Plan: is, Immediate: urgent != "", At: p.change.CommittedAt,
	})
	if p.stages.after == nil {
		p.stages.urgent = "" // there are no stages any more
	}
	return nil
}

// rollouts are what the settings say before and after the change.
func (p *plan) rollouts() (was, is *configv1.Rollout) {
	if r, ok := p.view.Get("settings", "settings"); ok {
		was = rolloutOf(r)
	}
	is = was
	for _, r := range p.change.Upserts {
		if r.Kind == "settings" {
			is = rolloutOf(r)
		}
	}
	return was, is
}

func rolloutOf(r *snapshot.Resource) *configv1.Rollout {
	if m, ok := r.Message.(*configv1.Settings); ok {
		return m.GetRollout()
	}
	return nil
}

// urgent says why the change must not wait.
func (p *plan) urgent() string {
	if p.req.Immediate {
		return "it is immediate"
	}
	for _, it := range p.items {
		change := rollout.Resource{Kind: it.Kind}
		if it.Before != nil {
			change.Existed, change.Before = true, it.Before.Message
		}
		if it.After != nil {
			change.After = it.After.Message
		}
		if change.Urgent() {
			return fmt.Sprintf("%s/%s loses something", it.Kind, it.Name)
		}
	}
	return ""
}

func (s stages) store(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
	switch {
	case !s.touched:
		return nil
	case s.after == nil:
		return tx.DeleteRollout(ctx)
	}
	row, err := s.after.Row(vault)
	if err != nil {
		return err
	}
	return tx.SetRollout(ctx, row)
}

// warnings say what goes out with a change that does not wait.
func (s stages) warnings() []problem.Violation {
	n := s.before.Pending()
	if s.urgent == "" || n == 0 {
		return nil
	}
	return []problem.Violation{{Reason: fmt.Sprintf(
		"goes to all gateways at once (%s), together with the changes that were held back: %d", s.urgent, n)}}
}
