package app

import (
	"context"
	"errors"
	"fmt"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/snapshot"
)

// source gives the stream side what the snapshots hold.
type source struct {
	groups *snapshot.Manager
}

// Subscribe opens the group if need be.
func (s source) Subscribe(ctx context.Context, group string) (fanout.Snapshot, fanout.Cursor, error) {
	g, err := s.groups.Group(ctx, group)
	if err != nil {
		return fanout.Snapshot{}, nil, err
	}
	view, c := g.Subscribe()
	snap := fanout.Snapshot{
		Epoch: view.Epoch, Revision: view.Revision, Digest: view.Digest,
		Records: func(yield func(fanout.Record) bool) {
			for r := range view.Resources() {
				if !yield(streamed(r)) {
					return
				}
			}
		},
	}
	return snap, cursor{c}, nil
}

func streamed(r *snapshot.Resource) fanout.Record {
	return fanout.Record{Kind: r.Kind, UID: r.UID, Name: r.Name, Bytes: r.Record, Unreadable: r.Unreadable != ""}
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
	out := fanout.Change{Epoch: change.Epoch, Revision: change.Revision, Digest: change.Digest, CommittedAt: change.CommittedAt}
	for _, r := range change.Upserts {
		out.Upserts = append(out.Upserts, streamed(r))
	}
	for _, r := range change.Removals {
		out.Removes = append(out.Removes, fanout.Ref{Kind: r.Kind, UID: r.UID, Name: r.Name})
	}
	return out, nil
}
