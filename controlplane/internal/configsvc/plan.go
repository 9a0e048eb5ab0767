package configsvc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// plan is an admitted request, ready to be stored as the revision after the view's.
type plan struct {
	req      Request
	view     *snapshot.View
	admitted admission.Admitted
	items    []Item
	change   snapshot.Change
	stages   stages
}

// plan gives the admitted resources their uids, marshals them and works out the next revision.
func (s *Service) plan(view *snapshot.View, req Request, admitted admission.Admitted) (*plan, error) {
	now := s.cfg.Now().UTC().Truncate(time.Microsecond) // what the database keeps
	p := &plan{req: req, view: view, admitted: admitted}
	p.change = snapshot.Change{Epoch: view.Epoch, Revision: view.Revision + 1, CommittedAt: now}
	for _, up := range admitted.Upserts {
		item, err := p.upsert(up, now)
		if err != nil {
			return nil, err
		}
		p.items = append(p.items, item)
		p.change.Upserts = append(p.change.Upserts, item.After)
	}
	for _, del := range admitted.Deletes {
		before, _ := view.ByUID(del.Kind, del.UID)
		p.items = append(p.items, Item{Action: "delete", Kind: del.Kind, Name: del.Name, Before: before})
		p.change.Removals = append(p.change.Removals, snapshot.Ref{Kind: del.Kind, UID: del.UID, Name: del.Name})
	}
	digest := view.After(p.change.Upserts, p.change.Removals)
	p.change.Digest = digest.Sum()
	return p, nil
}

func (p *plan) upsert(up admission.Upsert, now time.Time) (Item, error) {
	item := Item{Action: "update", Kind: up.Kind, Name: up.Name}
	uid, created := up.UID, now
	if uid == "" {
		item.Action, uid = "create", store.NewUID()
	} else {
		item.Before, _ = p.view.ByUID(up.Kind, uid)
		created = item.Before.CreatedAt
	}
	packed, err := record.Pack(up.Kind, uid, up.Name, up.Message)
	if err != nil {
		return Item{}, err
	}
	ref := snapshot.Ref{Kind: up.Kind, UID: uid, Name: up.Name}
	item.After = snapshot.NewResource(ref, p.change.Revision, created, now, packed, up.Message)
	return item, nil
}

func (p *plan) changed() bool { return len(p.items) > 0 }

// store writes rows, change body, audit row and the new authenticated head.
func (p *plan) store(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) error {
	rows, err := p.rows(vault)
	if err != nil {
		return err
	}
	body, err := p.body(vault)
	if err != nil {
		return err
	}
	if err := tx.Delete(ctx, p.removed()); err != nil { // first: a name may be taken over
		return err
	}
	if err := tx.Put(ctx, rows); err != nil {
		return err
	}
	if err := tx.AppendChange(ctx, body); err != nil {
		return err
	}
	if err := p.stages.store(ctx, tx, vault); err != nil {
		return err
	}
	head, err := audit.Append(ctx, tx, vault, tx.Head(), p.event())
	if err != nil {
		return err
	}
	return tx.SetHead(ctx, p.head(head, vault))
}

func (p *plan) rows(vault *sealer.Group) ([]store.Row, error) {
	rows := make([]store.Row, 0, len(p.change.Upserts))
	for _, r := range p.change.Upserts {
		sealed, err := vault.Seal(r.Kind, r.UID, r.Name, r.Labels, r.Revision, r.Record)
		if err != nil {
			return nil, err
		}
		rows = append(rows, store.Row{
			Kind: r.Kind, UID: r.UID, Name: r.Name, Labels: r.Labels, Revision: r.Revision, Sealed: sealed,
			CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		})
	}
	return rows, nil
}

func (p *plan) removed() []store.Ref {
	refs := make([]store.Ref, 0, len(p.change.Removals))
	for _, item := range p.items {
		if item.After == nil && item.Before.Stored() {
			refs = append(refs, store.Ref{Kind: item.Kind, UID: item.Before.UID})
		}
	}
	return refs
}

// body is the sealed change, from which replicas and gateways that missed it follow.
func (p *plan) body(vault *sealer.Group) (store.Change, error) {
	body := &syncv1.ChangeBody{Epoch: p.change.Epoch, Revision: p.change.Revision, Digest: p.change.Digest[:]}
	for _, r := range p.change.Upserts {
		body.Upserts = append(body.Upserts, &syncv1.Upsert{Record: r.Record})
	}
	for _, r := range p.change.Removals {
		body.Removals = append(body.Removals, &syncv1.Removal{Kind: r.Kind, Uid: r.UID, Name: r.Name})
	}
	raw, err := proto.Marshal(body)
	if err != nil {
		return store.Change{}, fmt.Errorf("marshal revision %d: %w", p.change.Revision, err)
	}
	sealed, err := vault.SealChange(p.change.Revision, raw)
	if err != nil {
		return store.Change{}, err
	}
	return store.Change{
		Revision: p.change.Revision, Epoch: p.change.Epoch, Sealed: sealed, At: p.change.CommittedAt,
		Actor: p.req.Actor, Summary: p.summary(),
	}, nil
}

// head is the head after the change; audited is the one before it, with the new audit row.
func (p *plan) head(audited store.Head, vault *sealer.Group) store.Head {
	audited.Revision = p.change.Revision
	audited.Digest = p.change.Digest
	for _, item := range p.items {
		if item.Before != nil && item.Before.Counted() {
			audited.ResourceCount--
		}
		if item.After != nil {
			audited.ResourceCount++
		}
	}
	audited.UpdatedAt = p.change.CommittedAt
	audited.MAC = vault.MACHead(audited)
	return audited
}

// auditedSubjects bounds the names in one audit row; beyond it the row says how many there are.
const auditedSubjects = 200

func (p *plan) event() audit.Event {
	e := audit.Event{
		At: p.change.CommittedAt, Actor: p.req.Actor, Action: p.req.Action, Revision: p.change.Revision, Detail: p.summary(),
	}
	for _, item := range p.items[:min(len(p.items), auditedSubjects)] {
		e.Subjects = append(e.Subjects, item.Kind+"/"+item.Name)
	}
	if p.stages.urgent != "" {
		e.Detail += "; sent to all gateways at once: " + p.stages.urgent
	}
	for _, note := range p.admitted.Audit {
		e.Detail += "; " + note
	}
	return e
}

// summary says in a few words what the change does.
func (p *plan) summary() string {
	count := map[string]int{}
	for _, item := range p.items {
		count[item.Action]++
	}
	out, sep := p.req.Note, ": "
	for _, w := range []struct{ action, word string }{{"create", "created"}, {"update", "updated"}, {"delete", "deleted"}} {
		if n := count[w.action]; n > 0 {
			if out != "" {
				out += sep
			}
			out += fmt.Sprintf("%d %s", n, w.word)
			sep = ", "
		}
	}
	return out
}

func (p *plan) result(group *snapshot.Group, dryRun bool) Result {
	r := Result{
		Revision: p.view.Revision, Changed: p.changed(), Items: p.items, Unchanged: p.admitted.Unchanged,
		Warnings: append(slices.Clip(p.admitted.Warnings), p.stages.warnings()...), View: p.view,
	}
	if r.Changed && !dryRun {
		r.Revision, r.View = p.change.Revision, group.View()
	}
	return r
}
