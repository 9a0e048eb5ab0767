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

var _ fanout.Historian = source{}

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
	}
	for _, r := range change.Removals {
		out.Removes = append(out.Removes, fanout.Ref{Kind: r.Kind, UID: r.UID, Name: r.Name})
	}
	return out
}
