// Package history answers what a gateway group held at past revisions and how two of them differ. It folds the sealed
// change bodies forward from the first, or from the baseline that retention left of those it dropped, and holds every one
// of them against its digest and the last against the group's authenticated head: a history with a hole, or one that was
// altered, is refused as a whole. It writes nothing, and what users do not write (pepper terms) leaves it only among the
// records of a whole set, for gateways. The admin API shows what it answers, with secrets hidden; the write path (configsvc)
// rolls back to it; gateways that a roll-out holds back begin with it.
package history

import (
	"context"
	"errors"
	"fmt"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// Newest stands for the revision the group is at.
const Newest int64 = -1

// maxReads bounds how many histories are folded at once: each holds up to three sets in memory.
const maxReads = 2

// Reader reads the state of one group at one moment.
type Reader interface {
	Head(ctx context.Context) (store.Head, error)
	// Changes gives every change to yield, the oldest first.
	Changes(ctx context.Context, yield func(store.Change) error) error
	// Baseline answers where they begin, and BaselineRows what the group held there.
	Baseline(ctx context.Context) (store.Baseline, error)
	BaselineRows(ctx context.Context, yield func(store.Row) error) error
}

// Log reads the history of groups. It is safe for concurrent use.
type Log struct {
	db     snapshot.Database
	unlock snapshot.Unlocker
	kinds  []*catalog.Kind
	reads  chan struct{}
}

// New returns a Log that answers resources of the given kinds.
func New(db snapshot.Database, unlock snapshot.Unlocker, kinds []*catalog.Kind) *Log {
	return &Log{db: db, unlock: unlock, kinds: kinds, reads: make(chan struct{}, maxReads)}
}

// At returns what a group held at each of the revisions, which are in no order. Revision 0 is the empty set before the
// first; Newest is the last. The earliest is that of the baseline, if there is one.
func (l *Log) At(ctx context.Context, group string, revisions ...int64) ([]*Set, error) {
	select {
	case l.reads <- struct{}{}:
		defer func() { <-l.reads }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if group == store.SystemGroup {
		return nil, noGroup(group, store.ErrNotFound)
	}
	vault, err := l.unlock(ctx, group)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noGroup(group, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open group %s: %w", group, err)
	}
	var sets []*Set
	err = l.db.InSnapshot(ctx, group, func(ctx context.Context, r *store.Reader) error {
		sets, err = Read(ctx, r, vault, l.kinds, revisions...)
		return err
	})
	return sets, err
}

// Read is At over a reader that is there already.
func Read(ctx context.Context, r Reader, vault snapshot.Vault, kinds []*catalog.Kind, revisions ...int64) ([]*Set, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := vault.VerifyHead(head); err != nil {
		return nil, err
	}
	base, err := r.Baseline(ctx)
	if err != nil {
		return nil, err
	}
	f := newFold(vault, head, kinds, revisions)
	for _, revision := range f.wanted {
		switch {
		case revision < 0 || revision > head.Revision:
			return nil, problem.Errorf(problem.NotFound, "group %s has no revision %d; the newest is %d", head.Group, revision, head.Revision)
		case revision < base.Revision:
			return nil, problem.Errorf(problem.NotFound, "what group %s held then is no longer kept; the oldest revision that is kept is %d",
				head.Group, base.Revision+1)
		}
	}
	if err := f.begin(ctx, r, base); err != nil {
		return nil, err
	}
	if err := r.Changes(ctx, f.change); err != nil {
		return nil, err
	}
	if err := f.end(); err != nil {
		return nil, err
	}
	return f.sets(), nil
}

func noGroup(name string, err error) error {
	return problem.Wrap(problem.NotFound, fmt.Sprintf("there is no group named %q", name), err)
}
