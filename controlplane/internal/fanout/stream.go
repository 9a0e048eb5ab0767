package fanout

import "context"

// Stream is one stream's place in the window. It belongs to one goroutine.
type Stream struct {
	group *Group
	who   Member
	at    Position
	// generation is that of the group when at was taken from a snapshot.
	generation int
	reset      bool
	release    func()
}

// Join returns a stream that goes on from the position if the group went through it, and else begins with a snapshot. It
// waits for the group's first set, and for this replica to see a revision that the stream has already.
func (g *Group) Join(ctx context.Context, who Member, at Position) (*Stream, error) {
	for {
		g.mu.Lock()
		ahead := g.ready && at.Epoch == g.head.Epoch && at.Revision > g.head.Revision
		if g.ready && !ahead {
			s := &Stream{group: g, who: who, at: at, generation: g.generation, reset: !g.known(at)}
			g.streams++
			g.mu.Unlock()
			return s, nil
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			if ahead {
				return nil, ErrAhead
			}
			return nil, context.Cause(ctx)
		}
	}
}

// Resync makes the next batch a snapshot.
func (s *Stream) Resync() { s.reset = true }

// Close ends the stream. It must be called once.
func (s *Stream) Close() {
	s.done()
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.group.streams--
}

// Next waits for the next batch: the next change, or a snapshot for a stream that begins, fell behind or asked for it.
// The batch before must have been sent.
func (s *Stream) Next(ctx context.Context) (*Batch, error) {
	for {
		batch, changed, err := s.Poll(ctx)
		if batch != nil || err != nil {
			return batch, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Poll is Next without waiting for a change: with nothing to send it returns a channel that is closed when that may have
// changed. It may still take the time to make a snapshot.
func (s *Stream) Poll(ctx context.Context) (batch *Batch, changed <-chan struct{}, err error) {
	s.done()
	batch, changed = s.poll()
	if batch == nil && s.reset {
		batch, err = s.snapshot(ctx)
	}
	return batch, changed, err
}

// poll returns the change at the stream's place. With neither a change nor a need for a snapshot there is nothing yet.
func (s *Stream) poll() (*Batch, <-chan struct{}) {
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.at.Epoch != g.head.Epoch {
		// The snapshot was newer than the window; whether it connects shows when the window has caught up.
		s.reset = s.reset || s.generation != g.generation
		return nil, g.news(s)
	}
	if min(g.limit(s), g.pace.shown) <= s.at.Revision {
		return nil, g.news(s) // if there is more, then not yet for this one
	}
	i := s.at.Revision - g.base.Revision
	if i < 0 {
		s.reset = true
	}
	if s.reset || i >= int64(len(g.window)) {
		return nil, g.news(s)
	}
	batch := g.window[i]
	s.at = batch.To
	return batch, g.news(s)
}

// snapshot returns the shared snapshot, or makes it. It returns none while it is not known how far the stream may go.
func (s *Stream) snapshot(ctx context.Context) (*Batch, error) {
	g := s.group
	select {
	case g.building <- struct{}{}:
		defer func() { <-g.building }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if batch := s.share(nil, 0); batch != nil {
		return batch, nil
	}
	g.mu.Lock()
	generation, limit, head, within := g.generation, g.limit(s), g.head.Revision, g.spread()
	g.mu.Unlock()
	if limit < head {
		return s.earlier(ctx, generation, limit)
	}
	set, _, err := g.source.Subscribe(ctx, g.name)
	if err != nil {
		return nil, err
	}
	if set.Staged && set.Revision > limit || set.Staged && limit == unlimited {
		return nil, nil //nolint:nilnil // newer than what is followed here, which is about to change
	}
	batch, err := encodeSnapshot(set, within)
	if err != nil {
		return nil, err
	}
	return s.share(batch, generation), nil
}

// share takes the group's snapshot, or gives it the one that was just made.
func (s *Stream) share(made *Batch, generation int) *Batch {
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := g.snapshot
	if batch != nil && batch.To.Epoch == s.at.Epoch && batch.To.Revision < s.at.Revision {
		batch = nil // the stream has seen more, and would refuse to go back
	}
	if batch != nil && batch.To.Revision > g.limit(s) {
		batch = nil
	}
	if made != nil {
		batch = made
		s.generation = generation
		if g.connects(made.To) {
			g.snapshot, g.users = made, 0
		}
	} else if batch != nil {
		s.generation = g.generation
	}
	if batch == nil {
		return nil
	}
	s.at, s.reset = batch.To, false
	if batch == g.snapshot {
		g.users++
		s.release = func() { g.unuse(batch) }
	}
	return batch
}

func (s *Stream) done() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

func (g *Group) unuse(b *Batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.snapshot == b {
		g.users--
	}
}
