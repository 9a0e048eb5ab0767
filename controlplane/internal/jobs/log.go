package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is how long what was said once is not said again.
const repeatAfter = time.Minute

// quiet passes on only what somebody has to look at: the queue tells of every step it takes, and while the database is away
// says so several times a second.
type quiet struct {
	slog.Handler
	said *said
}

// said is when each message was last passed on. There are as many as the queue has, a few dozen.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

func newQuiet(h slog.Handler) slog.Handler {
	return quiet{h, &said{at: map[string]time.Time{}}}
}

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !q.said.first(r.Message, r.Time) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quiet{q.Handler.WithAttrs(attrs), q.said}
}

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name), q.said} }

func (s *said) first(message string, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.at[message]; ok && at.Sub(last) < repeatAfter {
		return false
	}
	s.at[message] = at
	return true
}
