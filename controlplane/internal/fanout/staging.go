package fanout

import (
	"context"
	"math"
)

// unlimited is how far streams of a group may go that is not staged.
const unlimited int64 = math.MaxInt64

// staging is what holds the streams of a group back. The group's lock guards it.
type staging struct {
	on      bool
	targets *Targets
	// sets are snapshots at targets, for streams that begin, by revision; of one epoch.
	sets map[int64]*Batch
}

// maxSets is how many snapshots at targets are kept: those in the middle of a roll-out and one that has just ended.
const maxSets = 3

func (s *staging) change(c Staging) {
	switch c {
	case StagingUnchanged:
	case StagingOn:
		s.on = true
	case StagingOff:
		*s = staging{}
	}
}

// limit answers the revision up to which the stream may go. What a stream has it keeps: a gateway refuses to go back. A
// staged group whose targets are not known yet, or are of another epoch, holds everybody where they are. The lock is held.
func (g *Group) limit(s *Stream) int64 {
	if !g.staging.on {
		return unlimited
	}
	has := int64(0)
	if s.at.Epoch == g.head.Epoch {
		has = s.at.Revision
	}
	if t := g.staging.targets; t != nil && t.Epoch == g.head.Epoch {
		return max(has, t.Of(s.who))
	}
	return has
}

// Retarget asks for the targets again; for a group that is not staged it does nothing.
func (g *Group) Retarget(ctx context.Context) error {
	g.mu.Lock()
	on := g.staging.on
	g.mu.Unlock()
	source, ok := g.source.(Stager)
	if !on || !ok {
		return nil
	}
	t, err := source.Targets(ctx, g.name)
	if err != nil || t == nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.staging.on && t.newer(g.staging.targets) {
		g.staging.targets = t
		g.wake()
	}
	return nil
}

func (g *Group) retargetLogged(ctx context.Context) {
	if err := g.Retarget(ctx); err != nil && ctx.Err() == nil {
		g.log.WarnContext(ctx, "how far gateways may go cannot be read; they keep what they have", "group", g.name, "err", err)
	}
}

// earlier returns the set at a revision before the head, which streams that may go so far share. The caller is the only
// one that builds.
func (s *Stream) earlier(ctx context.Context, generation int, revision int64) (*Batch, error) {
	g := s.group
	source, ok := g.source.(Stager)
	if !ok || revision < 1 {
		return nil, nil //nolint:nilnil // nothing yet
	}
	g.mu.Lock()
	epoch, within := g.head.Epoch, g.spread()
	batch := g.staging.sets[revision]
	if batch != nil && batch.To.Epoch != epoch {
		batch = nil
	}
	g.mu.Unlock()
	if batch == nil {
		set, err := source.At(ctx, g.name, revision)
		if err != nil {
			return nil, err
		}
		set.Epoch = epoch // the revision that an epoch begins with was made in the one before
		if batch, err = encodeSnapshot(set, within); err != nil {
			return nil, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.staging.keep(batch)
	s.generation, s.at, s.reset = generation, batch.To, false
	return batch, nil
}

// keep remembers a snapshot; if there are too many the oldest goes.
func (s *staging) keep(b *Batch) {
	if !s.on {
		return
	}
	if s.sets == nil {
		s.sets = map[int64]*Batch{}
	}
	s.sets[b.To.Revision] = b
	for len(s.sets) > maxSets {
		oldest := unlimited
		for r := range s.sets {
			oldest = min(oldest, r)
		}
		delete(s.sets, oldest)
	}
}
