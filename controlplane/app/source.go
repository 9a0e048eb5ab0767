package app

import (
	"context"
	"errors"
	"fmt"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/snapshot"
)

// source gives the stream side what the snapshots hold, and how far it may be sent.
type source struct {
	groups   *snapshot.Manager
	past     *history.Log
	rollouts *rollout.Ledger
}

// Subscribe opens the group if need be.
func (s source) Subscribe(ctx context.Context, group string) (fanout.Snapshot, fanout.Cursor, error) {
	g, err := s.groups.Group(ctx, group)
	if err != nil {
		return fanout.Snapshot{}, nil, err
	}
	view, c := g.Subscribe()
	return s.whole(view), cursor{c}, nil
}

// whole is the set of a view.
func (s source) whole(view *snapshot.View) fanout.Snapshot {
	return fanout.Snapshot{
		Epoch: view.Epoch, Revision: view.Revision, Digest: view.Digest, Staged: stagedIn(view),
		Records: func(yield func(fanout.Record) bool) {
			for r := range view.Resources() {
				if !yield(streamed(r)) {
					return
				}
			}
		},
	}
}

func streamed(r *snapshot.Resource) fanout.Record {
	return fanout.Record{Kind: r.Kind, UID: r.UID, Name: r.Name, Bytes: record.Streamed(r.Record), Unreadable: r.Unreadable != ""}
}

var (
	_ fanout.Historian = source{}
	_ fanout.Stager    = source{}
)

func stagedIn(view *snapshot.View) bool {
	r, ok := view.Get(settingsKind, settingsKind)
	return ok && staging(r) == fanout.StagingOn
}

// settingsKind is also the name of a group's one resource of that kind.
const settingsKind = "settings"

// staging says whether the settings stage changes. Settings that cannot be read do not: gateways close what they guard.
func staging(settings *snapshot.Resource) fanout.Staging {
	if m, ok := settings.Message.(*configv1.Settings); ok && rollout.Staged(m.GetRollout()) {
		return fanout.StagingOn
	}
	return fanout.StagingOff
}

// Targets answers how far each gateway of a group may go; nil if changes are not staged.
func (s source) Targets(ctx context.Context, group string) (*fanout.Targets, error) {
	state, err := s.rollouts.State(ctx, group)
	if err != nil || state == nil {
		return nil, err
	}
	return &fanout.Targets{
		Epoch: state.Epoch, Revision: state.Revision, Version: state.Version,
		Of: func(m fanout.Member) int64 { return state.Target(m.ID, m.Labels) },
	}, nil
}

// At answers the set of an earlier revision, folded from the stored changes and held against their digests.
func (s source) At(ctx context.Context, group string, revision int64) (fanout.Snapshot, error) {
	sets, err := s.past.At(ctx, group, revision)
	if err != nil {
		return fanout.Snapshot{}, err
	}
	set := sets[0]
	return fanout.Snapshot{
		Epoch: set.Epoch, Revision: set.Revision, Digest: set.Digest, Staged: true,
		Records: func(yield func(fanout.Record) bool) {
			for ref, bytes := range set.Records() {
				if !yield(fanout.Record{Kind: ref.Kind, UID: ref.UID, Name: ref.Name, Bytes: bytes}) {
					return
				}
			}
		},
	}, nil
}

type cursor struct{ *snapshot.Cursor }

// Next waits for the next change.
func (c cursor) Next(ctx context.Context) (fanout.Change, error) {
	change, err := c.Cursor.Next(ctx)
	if errors.Is(err, snapshot.ErrTooOld) {
		return fanout.Change{}, fmt.Errorf("%w: %w", fanout.ErrBroken, err)
	}
	if err != nil {
		return fanout.Change{}, err
	}
	return streamedChange(change), nil
}

// History lets streams find their place again after this process was restarted.
func (s source) History(ctx context.Context, group string, epoch uint64, upTo int64, limit int) ([]fanout.Change, error) {
	changes, err := s.groups.History(ctx, group, epoch, upTo, limit)
	if err != nil {
		return nil, err
	}
	out := make([]fanout.Change, 0, len(changes))
	for _, c := range changes {
		out = append(out, streamedChange(c))
	}
	return out, nil
}

func streamedChange(change snapshot.Change) fanout.Change {
	out := fanout.Change{Epoch: change.Epoch, Revision: change.Revision, Digest: change.Digest, CommittedAt: change.CommittedAt}
	for _, r := range change.Upserts {
		out.Upserts = append(out.Upserts, streamed(r))
		if r.Kind == settingsKind {
			out.Staging = staging(r)
		}
	}
	for _, r := range change.Removals {
		out.Removes = append(out.Removes, fanout.Ref{Kind: r.Kind, UID: r.UID, Name: r.Name})
	}
	return out
}
