package configsvc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// RestoreRequest declares what the database holds of a group to be the truth, after it was restored or after a fail-over
// that lost changes.
type RestoreRequest struct {
	// Actor is who declares it, for the audit trail.
	Actor string
	Group string
	// Force does it although nobody has reported a revision that the database does not have.
	Force bool
}

// RestoreResult is what a restore found and did.
type RestoreResult struct {
	// Revision of the group, which stays.
	Revision int64
	// Lost is the highest revision that a gateway was seen to run and that the database does not have; 0: none.
	Lost int64
	// Began says that a new epoch began, with Epoch.
	Began bool
	Epoch uint64
}

// reportsSince is how old the news of a replica may be: they are renewed every few seconds while it lives.
const reportsSince = time.Hour

// Restore begins a new epoch of the group at the revision that the database has, so that replicas and gateways that saw
// later revisions of the old epoch give them up. Without a sign of such a revision it does nothing, unless it is forced:
// every gateway takes the whole set. The set has to verify against its head, so that damage does not become the truth.
func (s *Service) Restore(ctx context.Context, req RestoreRequest) (RestoreResult, error) {
	if req.Group == store.SystemGroup { // has no revisions
		return RestoreResult{}, problem.Errorf(problem.NotFound, "there is no group named %q", req.Group)
	}
	vault, err := s.cfg.Sealer.Group(ctx, req.Group) // may ask the KEK: before any lock
	if err != nil {
		return RestoreResult{}, err
	}
	var res RestoreResult
	err = s.cfg.Store.InGroup(ctx, req.Group, func(ctx context.Context, tx *store.GroupTx) error {
		// A set of its own: the one that this process may have could be of before.
		view, err := snapshot.NewGroup(req.Group, vault, s.cfg.Log).CatchUp(ctx, tx.Reader())
		if err != nil {
			return err
		}
		res = RestoreResult{Revision: view.Revision, Epoch: view.Epoch}
		if res.Lost, err = s.lost(ctx, tx.Head()); err != nil || res.Lost == 0 && !req.Force {
			return err
		}
		res.Began = true
		epoch := Epoch{Actor: req.Actor, At: s.cfg.Now(), Detail: lostDetail(res.Lost)}
		res.Epoch, err = epoch.begin(ctx, tx, vault, view)
		return err
	})
	if err != nil {
		return RestoreResult{}, classify(err)
	}
	return res, nil
}

// lost is the highest revision of the head's epoch, later than the head, that a gateway was seen to run.
func (s *Service) lost(ctx context.Context, head store.Head) (int64, error) {
	gateways, err := s.cfg.Store.Gateways(ctx, head.Group)
	if err != nil {
		return 0, err
	}
	reports, err := s.cfg.Store.Reports(ctx, head.Group, s.cfg.Now().Add(-reportsSince))
	if err != nil {
		return 0, err
	}
	highest := int64(0)
	note := func(epoch uint64, revision int64) {
		if epoch == head.Epoch && revision > head.Revision {
			highest = max(highest, revision)
		}
	}
	for _, g := range gateways {
		note(g.AppliedEpoch, g.AppliedRevision)
	}
	for _, r := range reports {
		for _, g := range r.Gateways {
			note(g.Epoch, g.Revision)
		}
	}
	return highest, nil
}

func lostDetail(revision int64) string {
	if revision == 0 {
		return ""
	}
	return fmt.Sprintf("a gateway had revision %d", revision)
}

// Epoch is one that a group begins.
type Epoch struct {
	// Actor, At and Detail are for the audit trail.
	Actor  string
	At     time.Time
	Detail string
}

// Begin begins a new epoch of the group of the transaction, which nobody else has opened; that of the system too. The set has to
// verify against its head, so that damage does not become the truth. It answers the revision that holds, and the epoch.
func (e Epoch) Begin(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, log *slog.Logger) (revision int64, epoch uint64, err error) {
	if tx.Head().Group == store.SystemGroup { // has no set
		if err := vault.VerifyHead(tx.Head()); err != nil {
			return 0, 0, err
		}
		epoch, err = e.write(ctx, tx, vault)
		return 0, epoch, err
	}
	view, err := snapshot.NewGroup(tx.Head().Group, vault, log).CatchUp(ctx, tx.Reader())
	if err != nil {
		return 0, 0, err
	}
	epoch, err = e.begin(ctx, tx, vault, view)
	return view.Revision, epoch, err
}

func (e Epoch) begin(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, view *snapshot.View) (uint64, error) {
	epoch, err := e.write(ctx, tx, vault)
	if err != nil {
		return 0, err
	}
	return epoch, e.restage(ctx, tx, vault, view, epoch)
}

// write writes the head of the new epoch, with its row in the audit chain.
func (e Epoch) write(ctx context.Context, tx *store.GroupTx, vault *sealer.Group) (uint64, error) {
	old, epoch := tx.Head(), sealer.NewEpoch()
	detail := fmt.Sprintf("epoch %d became %d at revision %d", old.Epoch, epoch, old.Revision)
	if e.Detail != "" {
		detail += "; " + e.Detail
	}
	at := e.At.UTC().Truncate(time.Microsecond)
	head, err := audit.Append(ctx, tx, vault, old, audit.Event{
		At: at, Actor: e.Actor, Action: "group.restore", Subjects: []string{"groups/" + old.Group}, Detail: detail,
	})
	if err != nil {
		return 0, err
	}
	head.Epoch, head.UpdatedAt = epoch, at
	head.MAC = vault.MACHead(head)
	return epoch, tx.SetHead(ctx, head)
}

// restage gives every gateway of a staged group the revision that the epoch begins with: what some of them ran before it is
// given up, and none can be held back at a revision of another epoch. A pause stays.
func (e Epoch) restage(ctx context.Context, tx *store.GroupTx, vault *sealer.Group, view *snapshot.View, epoch uint64) error {
	settings, ok := view.Get("settings", "settings")
	if !ok {
		return nil
	}
	before, err := rollout.Read(ctx, tx, vault)
	if err != nil { // one that does not verify says nothing
		before = nil
	}
	after := before.Next(rollout.Commit{
		Epoch: epoch, Revision: view.Revision, Plan: rolloutOf(settings), Immediate: true, At: e.At,
	})
	return stages{touched: after != nil || before != nil, after: after}.store(ctx, tx, vault)
}
