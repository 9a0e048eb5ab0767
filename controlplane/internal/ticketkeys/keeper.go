package ticketkeys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// Actor is who writes the keys, in the audit trail.
const Actor = "session-tickets"

// Database says which groups there are, and how many gateways of each have been revoked.
type Database interface {
	Heads(ctx context.Context) ([]store.HeadStamp, error)
	RevokedIn(ctx context.Context, group string) (uint64, error)
}

// Gateways says which of the connected ones do not know all of a contract.
type Gateways interface {
	Older(ctx context.Context, group string, contract uint32) ([]string, error)
}

// Groups gives the newest set of a group.
type Groups interface {
	Fresh(ctx context.Context, group string) (*snapshot.View, error)
}

// Writer is the write path.
type Writer interface {
	WriteSystem(ctx context.Context, req configsvc.SystemRequest) (configsvc.Result, error)
}

// Config is what a Keeper needs.
type Config struct {
	Database Database
	Gateways Gateways
	Groups   Groups
	Writer   Writer
	// Period is how long a key is used.
	Period time.Duration
	// Settle is how long nothing is made for a group that has no keys, after the start and after a gateway was connected that
	// would not know them: one that goes from one replica to another is connected to none for a moment.
	Settle time.Duration
	Now    func() time.Time
}

// Keeper looks after the keys of all groups. Any replica may run it, and several at once.
type Keeper struct {
	cfg     Config
	started time.Time
	mu      sync.Mutex
	older   map[string]time.Time // guarded by mu: when one was last connected that does not know keys, by group
}

// New returns a keeper.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, started: cfg.Now(), older: map[string]time.Time{}}
}

// settled notes whether a gateway is connected to the group that would not know keys, and says whether none has been for long.
func (k *Keeper) settled(group string, older bool) bool {
	now := k.cfg.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if older {
		k.older[group] = now
	}
	last, seen := k.older[group]
	if !seen {
		last = k.started
	}
	return now.Sub(last) >= k.cfg.Settle
}

// Timeout bounds a run of the job.
const Timeout = time.Minute

// Every is how often there may be something to do: gateways are revoked at any moment.
func (k *Keeper) Every() time.Duration { return max(time.Second, min(10*time.Second, k.cfg.Period/4)) }

// Run makes what is missing and due in every group.
func (k *Keeper) Run(ctx context.Context) error {
	heads, err := k.cfg.Database.Heads(ctx)
	if err != nil {
		return fmt.Errorf("keep session ticket keys: %w", err)
	}
	var failed error
	for _, head := range heads {
		if err := k.group(ctx, head.Group); err != nil {
			failed = errors.Join(failed, fmt.Errorf("keep session ticket keys of group %s: %w", head.Group, err))
		}
	}
	return failed
}

func (k *Keeper) group(ctx context.Context, group string) error {
	older, err := k.cfg.Gateways.Older(ctx, group, contract)
	if err != nil {
		return err
	}
	revoked, err := k.cfg.Database.RevokedIn(ctx, group)
	if err != nil {
		return err
	}
	view, err := k.cfg.Groups.Fresh(ctx, group)
	if err != nil {
		return err
	}
	is := known{now: k.cfg.Now(), period: k.cfg.Period, revoked: revoked, older: len(older) > 0, secrets: draw()}
	is.settled = k.settled(group, is.older)
	if decide(view, is).Empty() {
		return nil
	}
	_, err = k.cfg.Writer.WriteSystem(ctx, configsvc.SystemRequest{
		Actor: Actor, Action: "session-tickets.keys", Group: group, Note: "session ticket keys",
		Wanted: func(view *snapshot.View) configsvc.SystemChanges { return decide(view, is) },
	})
	return err
}
