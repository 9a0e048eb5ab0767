// Package changefeed tells this replica what others have committed. Notifications are hints that make it fast; polling
// the heads is what makes it true, so a lost notification costs one interval and nothing else. It knows no resources: it
// asks for groups to catch up, and wakes whoever follows state without revisions (revocations, tokens, keyrings).
package changefeed

import (
	"context"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/store"
)

// Database is asked where things are.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	// Wakeups answers, for each topic of unrevisioned state, a number that grows with every change.
	Wakeups(ctx context.Context) (map[string]int64, error)
}

// Groups are the open groups of this replica.
type Groups interface {
	Behind(at store.HeadStamp) bool
	CatchUp(ctx context.Context, group string) error
}

// Config is what a Feed needs.
type Config struct {
	Database Database
	Groups   Groups
	// Hints say that something has probably changed.
	Hints <-chan store.Hint
	// Interval of polling; 0: 500ms, so that a revocation holds within a second even if its notification was lost.
	Interval time.Duration
	// Wake is called with a topic whose unrevisioned state has changed, and once with each topic at the start.
	Wake func(ctx context.Context, topic string)
	Log  *slog.Logger
}

// Feed follows the database.
type Feed struct {
	cfg     Config
	wakeups map[string]int64
	// failing are the groups that cannot catch up, with what was logged of them.
	failing map[string]string
}

// New returns a feed; Run makes it work.
func New(cfg Config) *Feed {
	if cfg.Interval <= 0 {
		cfg.Interval = 500 * time.Millisecond
	}
	return &Feed{cfg: cfg, failing: map[string]string{}}
}

// Run follows until the context ends. A database that is down is logged once and asked again at each interval.
func (f *Feed) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.cfg.Interval)
	defer ticker.Stop()
	down := false
	for {
		if err := f.poll(ctx); err != nil && ctx.Err() == nil && !down {
			f.cfg.Log.WarnContext(ctx, "database does not answer; streams and reads go on from memory", "err", err)
			down = true
		} else if err == nil && down {
			f.cfg.Log.InfoContext(ctx, "database answers again")
			down = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.cfg.Hints:
		case <-ticker.C:
		}
	}
}

// poll asks once for everything.
func (f *Feed) poll(ctx context.Context) error {
	stamps, err := f.cfg.Database.Heads(ctx)
	if err != nil {
		return err
	}
	for _, s := range stamps {
		if f.cfg.Groups.Behind(s) {
			f.failed(ctx, s, f.cfg.Groups.CatchUp(ctx, s.Group))
		}
	}
	counters, err := f.cfg.Database.Wakeups(ctx)
	if err != nil {
		return err
	}
	for topic, n := range counters {
		if seen, ok := f.wakeups[topic]; !ok || n != seen {
			f.cfg.Wake(ctx, topic)
		}
	}
	f.wakeups = counters
	return nil
}

// failed logs why a group cannot catch up, once for each reason: it is tried again at each interval.
func (f *Feed) failed(ctx context.Context, s store.HeadStamp, err error) {
	if err == nil {
		delete(f.failing, s.Group)
		return
	}
	if text := err.Error(); f.failing[s.Group] != text {
		f.failing[s.Group] = text
		f.cfg.Log.ErrorContext(ctx, "group cannot catch up; its gateways keep what they have", "group", s.Group, "revision", s.Revision, "err", err)
	}
}
