// Package fanout sends one group's changes to any number of streams: each change is encoded once, streams follow a
// bounded window of encoded changes at their own pace, and those that begin or fall behind share one encoded snapshot.
// It holds no connection and knows no gateway; the stream server reads from it, the snapshot package feeds it. An
// instance serves exactly one group, so that nothing of another group can come out of it.
package fanout

import (
	"context"
	"errors"
	"iter"
	"time"

	"keyward.dev/shared/digest"
)

// Record is a resource or system record as it is streamed.
type Record struct {
	Kind, UID, Name string
	// Bytes is the exact sync.v1.Record; nil if Unreadable.
	Bytes []byte
	// Unreadable says that the record could not be opened.
	Unreadable bool
}

// Ref names a removed record.
type Ref struct{ Kind, UID, Name string }

// Snapshot is the whole set of a group at a revision.
type Snapshot struct {
	Epoch    uint64
	Revision int64
	Digest   [digest.Size]byte
	// Staged says that at this revision gateways may go only as far as their targets.
	Staged bool
	// Records can be walked more than once.
	Records iter.Seq[Record]
}

// Change is one committed change set.
type Change struct {
	Epoch    uint64
	Revision int64
	Upserts  []Record
	Removes  []Ref
	// Digest of the whole set after the change.
	Digest      [digest.Size]byte
	CommittedAt time.Time
	// Staging says whether Staged is another from here on.
	Staging Staging
}

// Staging is what a change does to whether a group is staged.
type Staging int8

// What it does.
const (
	StagingUnchanged Staging = iota
	StagingOn
	StagingOff
)

// Cursor follows a group's changes after a snapshot.
type Cursor interface {
	// Next waits for the change that follows the last one. ErrBroken says that the changes no longer connect and a new
	// snapshot has to be taken.
	Next(ctx context.Context) (Change, error)
}

// ErrBroken ends a Cursor: history was rewound, or the cursor was too slow.
var ErrBroken = errors.New("changes no longer connect")

// Source gives a group's set and its changes from there on.
type Source interface {
	Subscribe(ctx context.Context, group string) (Snapshot, Cursor, error)
}

// Historian is a Source that also knows the changes before a snapshot, so that streams find their place again after this
// process was restarted.
type Historian interface {
	// History returns the last changes up to the revision, at most limit, ascending and dense. It may return fewer.
	History(ctx context.Context, group string, epoch uint64, upTo int64, limit int) ([]Change, error)
}

// Member is who has a stream.
type Member struct {
	ID     string
	Labels map[string]string
}

// Targets are the revisions that the members of a staged group are to have. Those with the higher revision, and of one
// revision with the higher version, are newer.
type Targets struct {
	Epoch    uint64
	Revision int64
	Version  int64
	Of       func(Member) int64
}

func (t *Targets) newer(o *Targets) bool {
	return o == nil || t.Epoch != o.Epoch || t.Revision > o.Revision || t.Revision == o.Revision && t.Version > o.Version
}

// Stager is a Source whose groups may be staged. Without it nothing of a staged group is sent.
type Stager interface {
	// Targets answers the newest; nil if the group is not staged any more.
	Targets(ctx context.Context, group string) (*Targets, error)
	// At answers the set at an earlier revision.
	At(ctx context.Context, group string, revision int64) (Snapshot, error)
}

// Position is where a stream stands.
type Position struct {
	Epoch    uint64
	Revision int64
	Digest   [digest.Size]byte
}
