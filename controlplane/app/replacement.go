package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

// errReplaced says that all that this replica has in memory is of another database.
var errReplaced = errors.New("a backup was restored into the database")

// replaceCheckEvery is how often the installation is looked at when nobody says that something has changed.
const replaceCheckEvery = 5 * time.Second

// replacement notices that a backup was restored into the database of a replica that runs: the epoch of the installation is then
// another one. Its keyrings, authorities and tokens may be older than what is in memory, which a replica otherwise refuses; it
// has to begin anew. A head that does not verify is no reason to: whoever only writes to the database cannot make one.
type replacement struct {
	store *store.Store
	keys  kek.Keys
	log   *slog.Logger
	epoch uint64
	woken chan struct{}
	last  string // what was logged
}

func newReplacement(ctx context.Context, s *store.Store, keys kek.Keys, log *slog.Logger) (*replacement, error) {
	head, err := s.Head(ctx, store.SystemGroup)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNotBootstrapped
	}
	if err != nil {
		return nil, err
	}
	return &replacement{store: s, keys: keys, log: log, epoch: head.Epoch, woken: make(chan struct{}, 1)}, nil
}

// poke makes Run look now.
func (r *replacement) poke() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, or until the database was replaced.
func (r *replacement) Run(ctx context.Context) error {
	tick := time.NewTicker(replaceCheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.woken:
		case <-tick.C:
		}
		if r.happened(ctx) {
			return errReplaced
		}
	}
}

func (r *replacement) happened(ctx context.Context) bool {
	head, err := r.store.Head(ctx, store.SystemGroup)
	if err != nil || head.Epoch == r.epoch {
		return false // a database that is away says nothing
	}
	_, err = sealer.NewWith(r.store, r.keys).System(ctx)
	if err == nil {
		return true
	}
	if text := err.Error(); ctx.Err() == nil && text != r.last {
		r.last = text
		r.log.ErrorContext(ctx, "the database says that a backup was restored, which cannot be verified; going on with what is in memory", "err", err)
	}
	return false
}
