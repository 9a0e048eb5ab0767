package syncclient

import (
	"context"
	"log/slog"
	"time"
)

// newsEvery is how often it is logged that configurations are applied: with fifty changes a second a line for each is a twelfth
// of what they cost, and nobody reads it.
const newsEvery = time.Second

// news tells of configurations that were applied.
type news struct {
	log    *slog.Logger
	told   time.Time
	faults int
	// untold is how many have been applied since.
	untold int
}

// applied tells of one, unless another has just been told of and there is nothing new to be seen: those are for who debugs.
func (n *news) applied(ctx context.Context, revision int64, faults int) {
	level, now := slog.LevelInfo, time.Now()
	if faults == n.faults && now.Sub(n.told) < newsEvery {
		level = slog.LevelDebug
		n.untold++
	}
	n.log.Log(ctx, level, "configuration applied", "revision", revision, "faults", faults, "untold", n.untold)
	if level == slog.LevelInfo {
		n.told, n.faults, n.untold = now, faults, 0
	}
}
