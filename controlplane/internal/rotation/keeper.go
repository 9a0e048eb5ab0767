// Package rotation is the life of keyrings: it rotates them, on request or when a term is too old or has sealed too much, sees
// to it that every replica has read a keyring before it is used, puts what is stored under the newest term, and removes terms
// under which nothing is left. Each replica runs a Keeper. What has to be done is in the database, never only in memory: a
// replica that dies in the middle leaves it to the next one. Package sealer knows how a keyring changes, this package when.
package rotation

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/run"
)

// Config is what a Keeper needs.
type Config struct {
	Store  *store.Store
	Sealer *sealer.Sealer
	// Replica is the name of this replica.
	Replica string
	// MaxAge and MaxSeals are after which age, or how many ciphertexts, a term is followed by another one; 0: never.
	MaxAge   time.Duration
	MaxSeals int64
	// Beat is how often the replica says that it runs and looks what there is to do; 0: every two seconds.
	Beat time.Duration
	// Patience is how long Rotate and Remove wait for other replicas before they leave the rest to the background; 0: longer
	// than it takes to know that a replica is gone.
	Patience time.Duration
	Now      func() time.Time
	Log      *slog.Logger
}

// Keeper looks after the keyrings of all groups and of the system.
type Keeper struct {
	cfg     Config
	poked   chan struct{}
	drainer chan struct{}
	metrics
	// beats counts those of Run.
	beats int

	mu sync.Mutex
	// said is the last that was logged of a group, so that it is not said every time. Guarded by mu.
	said map[string]string
	// stuck is until when a group is left alone whose rows do not open. Guarded by mu.
	stuck map[string]time.Time
}

// New returns a Keeper. Its Run has to run.
func New(cfg Config) *Keeper {
	if cfg.Beat <= 0 {
		cfg.Beat = 2 * time.Second
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 15 * time.Second
	}
	return &Keeper{
		cfg: cfg, poked: make(chan struct{}, 1), drainer: make(chan struct{}, 1), metrics: newMetrics(),
		said: map[string]string{}, stuck: map[string]time.Time{},
	}
}

// Poke has the Keeper look at once: another replica changed something.
func (k *Keeper) Poke() {
	for _, c := range []chan struct{}{k.poked, k.drainer} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	return run.Group(ctx,
		func(ctx context.Context) error { return k.every(ctx, k.poked, k.beat) },
		func(ctx context.Context) error { return k.every(ctx, k.drainer, k.drain) },
	)
}

// every calls fn once a beat and whenever it is woken.
func (k *Keeper) every(ctx context.Context, woken <-chan struct{}, fn func(context.Context)) error {
	ticker := time.NewTicker(k.cfg.Beat)
	defer ticker.Stop()
	for ctx.Err() == nil {
		fn(ctx)
		select {
		case <-ctx.Done():
		case <-woken:
		case <-ticker.C:
		}
	}
	return nil
}

// Begin says that this replica runs, before it has read any keyring: from then on it is waited for.
func (k *Keeper) Begin(ctx context.Context) error {
	return k.cfg.Store.ReplicaRuns(ctx, k.cfg.Replica)
}

// End says that this replica is waited for no longer; it comes after Run.
func (k *Keeper) End(ctx context.Context) {
	if err := k.cfg.Store.ReplicaEnds(ctx, k.cfg.Replica); err != nil {
		k.cfg.Log.DebugContext(ctx, "the end of this replica could not be noted", "err", err)
	}
}

// beat says that this replica runs, reads what is prepared, completes what everybody has read, and counts.
func (k *Keeper) beat(ctx context.Context) {
	k.tell(ctx, "replica", k.cfg.Store.ReplicaRuns(ctx, k.cfg.Replica))
	next, err := k.cfg.Sealer.ReadNext(ctx)
	k.tell(ctx, "next", err)
	for _, n := range next {
		_, err := k.settle(ctx, n)
		k.tell(ctx, "settle "+n.Group, err)
	}
	if k.beats++; k.beats%slow == 1 {
		k.tell(ctx, "seals", k.count(ctx))
		k.tell(ctx, "metrics", k.measure(ctx))
	}
}

// slow is after how many beats what is counted is told and read again: ten seconds.
const slow = 5

// tell logs what went wrong, once for each reason. A database that is away is told elsewhere.
func (k *Keeper) tell(ctx context.Context, what string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.said, what)
		return
	}
	if ctx.Err() != nil || k.said[what] == err.Error() {
		return
	}
	k.said[what] = err.Error()
	k.cfg.Log.WarnContext(ctx, "keyrings are not looked after as they should be; trying again", "err", err)
}

// count tells the database how often this replica has sealed.
func (k *Keeper) count(ctx context.Context) error {
	for _, g := range k.cfg.Sealer.Opened() {
		term, n := g.Seals()
		if n == 0 {
			continue
		}
		known, err := k.cfg.Store.AddSeals(ctx, g.UID(), term, n)
		if err == nil && !known {
			err = k.introduce(ctx, g, term, n)
		}
		if err != nil {
			return err
		}
		g.Told(n)
	}
	return nil
}

// introduce keeps what is known of a term of which nothing is kept: it is as old as its group.
func (k *Keeper) introduce(ctx context.Context, g *sealer.Group, term uint32, n int64) error {
	group, err := k.cfg.Store.Group(ctx, g.Name())
	if err != nil {
		return err
	}
	t := store.KeyringTerm{GroupUID: g.UID(), Term: term, CreatedAt: group.CreatedAt}
	t.MAC = g.MACTerm(t)
	if err := k.cfg.Store.NoteKeyringTerm(ctx, t); err != nil {
		return err
	}
	_, err = k.cfg.Store.AddSeals(ctx, g.UID(), term, n)
	return err
}
