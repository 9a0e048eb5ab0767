package fanout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"keyward.dev/shared/run"
)

// linger is how long a group without streams is followed on, so that a gateway which comes back finds its place.
const linger = 5 * time.Minute

// ErrClosed says that the hub has ended.
var ErrClosed = errors.New("the fan-out has ended")

// Hub runs the fan-outs of the groups that have streams. A group nobody streams is not followed.
type Hub struct {
	source Source
	limits Limits
	log    *slog.Logger
	starts chan *member

	mu      sync.Mutex // guards what follows and the members' streams and idle
	members map[string]*member
}

// member is a group with the number of its streams.
type member struct {
	group   *Group
	streams int
	idle    time.Time
	stop    context.CancelFunc
}

// NewHub returns a hub. Nothing moves before Run.
func NewHub(source Source, limits Limits, log *slog.Logger) *Hub {
	return &Hub{source: source, limits: limits, log: log, starts: make(chan *member), members: map[string]*member{}}
}

// Run follows the groups until the context ends, and returns when all of them have stopped.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(linger / 5)
	defer ticker.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for {
		select {
		case <-ctx.Done():
			return causeOf(ctx)
		case now := <-ticker.C:
			h.retire(now)
		case m := <-h.starts:
			member, stop := context.WithCancel(ctx)
			h.mu.Lock()
			m.stop = stop
			h.mu.Unlock()
			wg.Go(func() {
				// run.Group turns a panic into an error.
				if err := run.Group(member, m.group.Run); err != nil {
					cancel(err)
				}
			})
		}
	}
}

func causeOf(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// retire stops groups that have had no stream for a while.
func (h *Hub) retire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, m := range h.members {
		if m.streams == 0 && m.stop != nil && now.Sub(m.idle) > linger {
			m.stop()
			delete(h.members, name)
		}
	}
}

// Retarget asks again how far the streams of staged groups may go.
func (h *Hub) Retarget(ctx context.Context) {
	h.mu.Lock()
	groups := make([]*Group, 0, len(h.members))
	for _, m := range h.members {
		groups = append(groups, m.group)
	}
	h.mu.Unlock()
	for _, g := range groups {
		g.retargetLogged(ctx)
	}
}

// Acquire returns the fan-out of the group, started if need be. release must be called when the stream has ended.
func (h *Hub) Acquire(ctx context.Context, name string) (g *Group, release func(), err error) {
	h.mu.Lock()
	m, ok := h.members[name]
	if !ok {
		m = &member{group: NewGroup(name, h.source, h.limits, h.log)}
		h.members[name] = m
	}
	m.streams++
	h.mu.Unlock()
	release = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		m.streams--
		m.idle = time.Now()
	}
	if ok {
		return m.group, release, nil
	}
	select {
	case h.starts <- m:
		return m.group, release, nil
	case <-ctx.Done():
	}
	h.mu.Lock()
	delete(h.members, name)
	h.mu.Unlock()
	return nil, nil, ErrClosed
}
