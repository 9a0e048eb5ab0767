package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Limits bound the window of a group, and how fast changes go out of it.
type Limits struct {
	// Changes is how many changes are kept. 0: 4096.
	Changes int
	// Bytes is how large they may be together; the newest is always kept. 0: 64 MiB.
	Bytes int64
	// Every is how far apart changes go out in the long run; some go out at once before. 0: 100 ms, negative: all at once.
	Every time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Changes <= 0 {
		l.Changes = 4096
	}
	if l.Bytes <= 0 {
		l.Bytes = 64 << 20
	}
	if l.Every == 0 {
		l.Every = 100 * time.Millisecond
	}
	l.Every = max(l.Every, 0)
	return l
}

// ErrAhead says that a stream stands at a revision that this replica has not seen yet.
var ErrAhead = errors.New("the stream is ahead of this replica")

// Group is the fan-out of one group. Run feeds it; any number of streams Join.
type Group struct {
	name   string
	source Source
	limits Limits
	log    *slog.Logger
	// building is held by who encodes a snapshot, so that many joiners make one.
	building chan struct{}

	mu         sync.Mutex // guards what follows
	ready      bool
	generation int      // counts the subscriptions
	base       Position // where the window begins
	head       Position // where it ends
	window     []*Batch // dense: each follows the one before
	bytes      int64
	changed    chan struct{} // closed and replaced with every change of the above
	snapshot   *Batch        // nil if it is not in use or no longer connects
	users      int           // streams that are sending the snapshot
	streams    int
	staging    staging
	order      order
	pace       pace
}

// NewGroup returns the fan-out of the group.
func NewGroup(name string, source Source, limits Limits, log *slog.Logger) *Group {
	limits = limits.withDefaults()
	return &Group{
		name: name, source: source, limits: limits, log: log,
		building: make(chan struct{}, 1), changed: make(chan struct{}),
		order: order{news: make(chan struct{})}, pace: pace{every: limits.Every},
	}
}

const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// Run follows the source until the context ends. While the source fails, streams keep what they have.
func (g *Group) Run(ctx context.Context) error {
	pause := minPause
	for ctx.Err() == nil {
		err := g.subscribe(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end was asked for
		case errors.Is(err, ErrBroken):
			pause = minPause
		default:
			g.log.WarnContext(ctx, "changes of a group cannot be followed", "group", g.name, "err", err, "retry_in", pause)
			pause = min(pause*2, maxPause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
	return nil
}

// subscribe follows the source until it breaks off.
func (g *Group) subscribe(ctx context.Context) error {
	snapshot, cursor, err := g.source.Subscribe(ctx, g.name)
	if err != nil {
		return err
	}
	at := Position{Epoch: snapshot.Epoch, Revision: snapshot.Revision, Digest: snapshot.Digest}
	g.rebase(at, g.history(ctx, at), snapshot.Staged)
	g.retargetLogged(ctx)
	return g.follow(ctx, cursor)
}

// refill is how many changes before the first snapshot are looked up.
const refill = 256

// history encodes the changes that led to the position. Without them streams begin with a snapshot, which is all that is
// lost if something does not fit.
func (g *Group) history(ctx context.Context, at Position) []*Batch {
	source, ok := g.source.(Historian)
	if !ok || g.at() == at {
		return nil
	}
	changes, err := source.History(ctx, g.name, at.Epoch, at.Revision, min(refill, g.limits.Changes))
	if err != nil {
		g.log.WarnContext(ctx, "earlier changes of a group cannot be read; gateways that reconnect get the whole set", "group", g.name, "err", err)
		return nil
	}
	first := at.Revision - int64(len(changes)) + 1
	batches := make([]*Batch, 0, len(changes))
	for i, c := range changes {
		if c.Epoch != at.Epoch || c.Revision != first+int64(i) {
			return nil
		}
		batch, err := encodeChange(c.Revision-1, c, 0)
		if err != nil {
			return nil
		}
		batches = append(batches, batch)
	}
	if n := len(batches); n == 0 || batches[n-1].To != at {
		return nil
	}
	return batches
}

func (g *Group) at() Position {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.head
}

func (g *Group) follow(ctx context.Context, cursor Cursor) error {
	for {
		change, err := cursor.Next(ctx)
		if err != nil {
			return err
		}
		if err := g.publish(change); err != nil {
			return err
		}
		g.retargetLogged(ctx)
	}
}

// rebase begins a window, with the changes that led to the position. If it connects to the old one, nothing is lost.
func (g *Group) rebase(at Position, history []*Batch, staged bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.staging.on = staged
	g.generation++
	g.ready = true
	g.pace.shown = at.Revision
	if at != g.head {
		g.base, g.head, g.window, g.bytes = at, at, nil, 0
		if len(history) > 1 {
			// What the first of them applied to is not known by its digest, so it only says where the window begins.
			g.base, g.window = history[0].To, history[1:]
		}
		for _, b := range g.window {
			g.bytes += b.size
		}
		g.trim()
		g.dropSnapshot()
	}
	g.wake()
}

// trim keeps the window in its limits.
func (g *Group) trim() {
	for len(g.window) > 1 && (len(g.window) > g.limits.Changes || g.bytes > g.limits.Bytes) {
		g.base = g.window[0].To
		g.bytes -= g.window[0].size
		g.window[0] = nil
		g.window = g.window[1:]
	}
}

// publish encodes a change, outside the lock, and puts it at the end of the window.
func (g *Group) publish(c Change) error {
	g.mu.Lock()
	head, within := g.head, g.spread()
	g.mu.Unlock()
	if c.Epoch != head.Epoch || c.Revision != head.Revision+1 {
		return fmt.Errorf("change %d of epoch %d after %d of %d: %w", c.Revision, c.Epoch, head.Revision, head.Epoch, ErrBroken)
	}
	batch, err := encodeChange(head.Revision, c, within)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.window = append(g.window, batch)
	g.bytes += batch.size
	g.head = batch.To
	g.staging.change(c.Staging)
	g.trim()
	g.dropSnapshot()
	g.paced()
	return nil
}

const (
	// perAnswer is about four times what a change costs the replica for each stream, its answer included: gateways hold an
	// answer back for half of the time at least, by when all of them have been sent the change.
	perAnswer = 200 * time.Microsecond
	// fewAnswers are no burden, whenever they come.
	fewAnswers = 20
)

// spread is the time over which so many streams as there are spread their answers. The lock is held.
func (g *Group) spread() time.Duration {
	if g.streams <= fewAnswers {
		return 0
	}
	return time.Duration(g.streams) * perAnswer
}

// dropSnapshot forgets a snapshot that nobody sends any more once something has changed, or that no longer connects.
func (g *Group) dropSnapshot() {
	if g.snapshot != nil && (g.users == 0 || !g.connects(g.snapshot.To)) {
		g.snapshot = nil
	}
}

// connects says whether the changes after the position are in the window.
func (g *Group) connects(at Position) bool {
	return at.Epoch == g.head.Epoch && at.Revision >= g.base.Revision
}

// known says whether the position is one this group went through, with that digest.
func (g *Group) known(at Position) bool {
	if !g.connects(at) || at.Revision > g.head.Revision {
		return false
	}
	if at.Revision == g.base.Revision {
		return at == g.base
	}
	return g.window[at.Revision-g.base.Revision-1].To == at
}
