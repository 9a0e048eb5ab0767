// Package fanouttest has a source of changes for tests. Only tests use it.
package fanouttest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/shared/digest"
)

// Source is a group that lives in memory. All its records are of the kind "routes".
type Source struct {
	mu            sync.Mutex
	epoch         uint64
	records       map[string]fanout.Record
	sum           digest.Set
	history       []fanout.Change
	sets          []map[string]fanout.Record // after each change
	changed       chan struct{}
	broken        int
	err           error
	subscriptions int
	staged        bool
	staging       fanout.Staging // of the next change
	targets       *fanout.Targets
}

// NewSource returns an empty group.
func NewSource(epoch uint64) *Source {
	return &Source{epoch: epoch, records: map[string]fanout.Record{}, changed: make(chan struct{})}
}

// Stage says whether the group is staged from the next change on.
func (s *Source) Stage(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staging = fanout.StagingOff
	if on {
		s.staging = fanout.StagingOn
	}
}

// SetTargets says how far streams of a staged group may go; nobody is told.
func (s *Source) SetTargets(of func(fanout.Member) int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version := int64(1)
	if s.targets != nil {
		version += s.targets.Version
	}
	s.targets = &fanout.Targets{Epoch: s.epoch, Revision: 1, Version: version, Of: of}
}

// Targets implements fanout.Stager.
func (s *Source) Targets(context.Context, string) (*fanout.Targets, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targets, nil
}

// At implements fanout.Stager.
func (s *Source) At(_ context.Context, _ string, revision int64) (fanout.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return fanout.Snapshot{}, s.err
	}
	c, set := s.history[revision-1], s.sets[revision-1]
	return fanout.Snapshot{Epoch: c.Epoch, Revision: c.Revision, Digest: c.Digest, Staged: true, Records: maps.Values(set)}, nil
}

// turn marks a change as the one that stages the group, or ends that. The lock is held.
func (s *Source) turn(c *fanout.Change) {
	if s.staging != fanout.StagingUnchanged {
		s.staged = s.staging == fanout.StagingOn
	}
	c.Staging, s.staging = s.staging, fanout.StagingUnchanged
}

// Put creates or changes a record in a change of its own.
func (s *Source) Put(uid, name string, bytes []byte) {
	s.change(fanout.Record{Kind: "routes", UID: uid, Name: name, Bytes: bytes}, nil)
}

// PutUnreadable creates a record that cannot be opened.
func (s *Source) PutUnreadable(uid, name string) {
	s.change(fanout.Record{Kind: "routes", UID: uid, Name: name, Unreadable: true}, nil)
}

// Remove removes a record and says whether it was there.
func (s *Source) Remove(uid string) bool {
	s.mu.Lock()
	r, ok := s.records[uid]
	s.mu.Unlock()
	if ok {
		s.change(fanout.Record{}, []fanout.Ref{{Kind: r.Kind, UID: r.UID, Name: r.Name}})
	}
	return ok
}

// Fill creates n records of the size in one change.
func (s *Source) Fill(n, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = maps.Clone(s.records)
	c := fanout.Change{Epoch: s.epoch, Revision: int64(len(s.history)) + 1, CommittedAt: time.Now()}
	for i := range n {
		r := fanout.Record{Kind: "routes", UID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), Name: fmt.Sprint("n", i), Bytes: make([]byte, size)}
		s.records[r.UID] = r
		s.sum.Add(r.Kind, r.UID, r.Bytes)
		c.Upserts = append(c.Upserts, r)
	}
	c.Digest = s.sum.Sum()
	s.turn(&c)
	s.history = append(s.history, c)
	s.sets = append(s.sets, s.records)
	s.wake()
}

func (s *Source) change(r fanout.Record, removes []fanout.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = maps.Clone(s.records)
	c := fanout.Change{Epoch: s.epoch, Revision: int64(len(s.history)) + 1, Removes: removes, CommittedAt: time.Now()}
	for _, ref := range removes {
		s.take(ref.UID)
	}
	if r.UID != "" {
		s.take(r.UID)
		s.records[r.UID] = r
		if !r.Unreadable {
			s.sum.Add(r.Kind, r.UID, r.Bytes)
		}
		c.Upserts = []fanout.Record{r}
	}
	c.Digest = s.sum.Sum()
	s.turn(&c)
	s.history = append(s.history, c)
	s.sets = append(s.sets, s.records)
	s.wake()
}

func (s *Source) take(uid string) {
	if old, ok := s.records[uid]; ok && !old.Unreadable {
		s.sum.Remove(old.Kind, uid, old.Bytes)
	}
	delete(s.records, uid)
}

func (s *Source) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Rewind goes back to a revision, as a restored database does, under a new epoch.
func (s *Source) Rewind(epoch uint64, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.history, s.sets = epoch, s.history[:revision:revision], s.sets[:revision:revision]
	s.records = maps.Clone(s.sets[revision-1])
	s.sum = digest.Set{}
	for _, r := range s.records {
		if !r.Unreadable {
			s.sum.Add(r.Kind, r.UID, r.Bytes)
		}
	}
	s.broken++
	s.wake()
}

// Fail makes new subscriptions fail; nil ends that.
func (s *Source) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Break ends all cursors.
func (s *Source) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken++
	s.wake()
}

// Subscriptions returns how often the set was taken.
func (s *Source) Subscriptions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscriptions
}

// Digest returns the digest of the set.
func (s *Source) Digest() [digest.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum.Sum()
}

// Position returns where the group stands.
func (s *Source) Position() fanout.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fanout.Position{Epoch: s.epoch, Revision: int64(len(s.history)), Digest: s.sum.Sum()}
}

// Subscribe implements fanout.Source.
func (s *Source) Subscribe(context.Context, string) (fanout.Snapshot, fanout.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions++
	if s.err != nil {
		return fanout.Snapshot{}, nil, s.err
	}
	at := int64(len(s.history))
	keys := slices.Sorted(maps.Keys(s.records))
	records := s.records
	set := fanout.Snapshot{Epoch: s.epoch, Revision: at, Digest: s.sum.Sum(), Staged: s.staged, Records: func(yield func(fanout.Record) bool) {
		for _, k := range keys {
			if !yield(records[k]) {
				return
			}
		}
	}}
	return set, &cursor{source: s, at: at, broken: s.broken}, nil
}

type cursor struct {
	source *Source
	at     int64
	broken int
}

func (c *cursor) Next(ctx context.Context) (fanout.Change, error) {
	for {
		s := c.source
		s.mu.Lock()
		switch {
		case c.broken != s.broken:
			s.mu.Unlock()
			return fanout.Change{}, fanout.ErrBroken
		case c.at < int64(len(s.history)):
			change := s.history[c.at]
			c.at++
			s.mu.Unlock()
			return change, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fanout.Change{}, ctx.Err()
		}
	}
}

// ByGroup is a source of several groups.
type ByGroup map[string]*Source

// Subscribe implements fanout.Source.
func (b ByGroup) Subscribe(ctx context.Context, group string) (fanout.Snapshot, fanout.Cursor, error) {
	s, ok := b[group]
	if !ok {
		return fanout.Snapshot{}, nil, fmt.Errorf("group %s: not found", group)
	}
	return s.Subscribe(ctx, group)
}
