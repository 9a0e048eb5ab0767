// Package retention drops what no longer has to be kept. Of the history of a group it drops the oldest changes, after it
// has taken them into the group's baseline: the sealed records that the group held when the kept history begins, from
// which package history goes on. What does not verify is never dropped. A background job (package jobs) calls it, on any
// replica; it holds no lock that writers of configuration wait for.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// MinKeep is how many revisions of a group are always kept: as many as a replica that has just started reads, so that
// gateways that reconnect to it need no whole set. The database holds to it, too.
const MinKeep = 256

// Database is what is pruned; *store.Store is one.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	InHistory(ctx context.Context, group string, fn func(context.Context, *store.HistoryTx) error) error
}

// Config says what is kept: a change that is among the newest Keep of its group, or younger than MaxAge.
type Config struct {
	Database Database
	// Unlock opens the keyring of a group.
	Unlock func(ctx context.Context, group string) (*sealer.Group, error)
	// Needed answers the revision from which on everything of the group is kept, because a gateway that is new may have to
	// begin with it; 0: nothing beyond the bounds. nil: so for every group.
	Needed func(ctx context.Context, group string) (int64, error)
	// Keep is at least MinKeep.
	Keep int64
	// MaxAge 0 keeps everything.
	MaxAge time.Duration
	// Changes and Bytes bound what is taken into the baseline in one transaction; one change always is. 0: 256 and 8 MiB.
	Changes int
	Bytes   int64
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// History prunes the histories of all groups.
type History struct{ cfg Config }

// New returns a History.
func New(cfg Config) *History {
	if cfg.Keep < MinKeep {
		cfg.Keep = MinKeep
	}
	if cfg.Changes <= 0 {
		cfg.Changes = 256
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = 8 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Needed == nil {
		cfg.Needed = func(context.Context, string) (int64, error) { return 0, nil }
	}
	return &History{cfg: cfg}
}

// Run prunes every group. One that fails does not hold up the others. What is not done when ctx ends is done next time.
func (h *History) Run(ctx context.Context) error {
	if h.cfg.MaxAge <= 0 {
		return nil
	}
	heads, err := h.cfg.Database.Heads(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, head := range heads {
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, h.group(ctx, head.Group))
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// group prunes one group, in as many transactions as it takes.
func (h *History) group(ctx context.Context, name string) error {
	vault, err := h.cfg.Unlock(ctx, name) // may ask the KEK: before any lock
	if err != nil {
		return fmt.Errorf("open group %s: %w", name, err)
	}
	needed, err := h.cfg.Needed(ctx, name) // it only ever grows
	if err != nil {
		return fmt.Errorf("ask what group %s needs of its history: %w", name, err)
	}
	dropped, oldest := int64(0), int64(0)
	defer func() {
		if dropped > 0 {
			h.cfg.Log.InfoContext(ctx, "old revisions dropped from history", "group", name, "dropped", dropped, "oldest_kept", oldest)
		}
	}()
	for ctx.Err() == nil {
		var n int64
		err := h.cfg.Database.InHistory(ctx, name, func(ctx context.Context, tx *store.HistoryTx) error {
			n, err = h.step(ctx, tx, vault, needed)
			oldest = tx.Baseline().Revision + n + 1
			return err
		})
		if err != nil {
			return fmt.Errorf("prune history of group %s: %w", name, err)
		}
		if n == 0 {
			return nil
		}
		dropped += n
	}
	return nil
}

// step takes the oldest changes into the baseline, as far as they need not be kept, and answers how many.
func (h *History) step(ctx context.Context, tx *store.HistoryTx, vault *sealer.Group, needed int64) (int64, error) {
	if err := vault.VerifyHead(tx.Head()); err != nil {
		return 0, err
	}
	oldest, err := tx.Oldest(ctx, h.cfg.Changes)
	if err != nil {
		return 0, err
	}
	n := h.due(oldest, tx.Head().Revision, needed)
	if n == 0 {
		return 0, nil
	}
	changes, err := tx.Changes(ctx, n)
	if err != nil {
		return 0, err
	}
	s := &step{tx: tx, vault: vault}
	return int64(n), s.take(ctx, changes, h.cfg.Now())
}

// due says how many of the oldest changes are dropped in one go. The set at the needed revision stays as the baseline.
func (h *History) due(oldest []store.ChangeSize, newest, needed int64) int {
	size, before := int64(0), h.cfg.Now().Add(-h.cfg.MaxAge)
	for i, c := range oldest {
		size += c.Bytes
		wanted := c.Revision > newest-h.cfg.Keep || needed > 0 && c.Revision > needed
		if wanted || !c.At.Before(before) || i > 0 && size > h.cfg.Bytes {
			return i
		}
	}
	return len(oldest)
}
