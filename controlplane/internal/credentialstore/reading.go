package credentialstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/secretsource"
)

const (
	// MaxEntries is how many entries of a store are read, the first by name.
	MaxEntries = 10_000
	// readers are entries that are read at once.
	readers     = 8
	readTimeout = 10 * time.Second
	// perSecond is how many entries that are known are read again in a second, and atLeast how many with each reading: beyond
	// that they take turns, so that a large store is no burden for Vault.
	perSecond = 100
	atLeast   = 500
)

// Folder is where a store is read.
type Folder interface {
	List(ctx context.Context) ([]string, error)
	Read(ctx context.Context, name string) (secretsource.Entry, error)
}

// found is what came of reading an entry: a pair, or why it is none, or why it could not be read.
type found struct {
	pair   pair
	bad    error // of the entry
	failed error // of the reading
	// since is since when it fails.
	since time.Time
	gone  bool
}

// reading is what came of reading a store.
type reading struct {
	rules *configv1.CredentialStore
	hash  *hasher
	// names are all entries, and found those that were read now.
	names []string
	found map[string]found
	// bad are names that cannot be read at all.
	bad map[string]error
	// failed is why not everything could be read that was to be.
	failed error
	at     time.Time
}

// list lists the entries: what is in folders below does not count.
func (r *reading) list(ctx context.Context, in Folder) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	names, err := in.List(ctx)
	if err != nil {
		r.failed = err
		return
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, "/"):
		case !secretplace.Path(name) || strings.Contains(name, "/"):
			r.bad[name] = errName
		case len(r.names) == MaxEntries:
			r.bad[name] = errTooMany
		default:
			r.names = append(r.names, name)
		}
	}
}

// read reads some entries, several at once. When nobody answers no more are asked for, and which were not read is not told.
func (r *reading) read(ctx context.Context, in Folder, due []string) {
	var mu sync.Mutex // guards r.found, r.failed and down
	var wg sync.WaitGroup
	down, read := false, 0
	slots := make(chan struct{}, readers)
	for _, name := range due {
		slots <- struct{}{}
		mu.Lock()
		stop := down || ctx.Err() != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			f := r.one(ctx, in, name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(f.failed, secretsource.ErrDown):
				r.failed, down = f.failed, true
				return
			case f.failed == nil:
				read++
			}
			r.found[name] = f
		})
	}
	wg.Wait()
	for _, name := range due { // one that may not be read is its own fault; all of them are not
		if f := r.found[name]; read == 0 && r.failed == nil && f.failed != nil {
			r.failed = f.failed
		}
	}
}

func (r *reading) one(ctx context.Context, in Folder, name string) (f found) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	e, err := in.Read(ctx, name)
	switch {
	case errors.Is(err, secretsource.ErrNothing):
		return found{gone: true}
	case err != nil:
		return found{failed: err}
	}
	f.pair, f.bad = parse(name, e, r.rules)
	return f
}

// hint tells people which entry is meant, without telling a token.
func hint(name string) string {
	return fmt.Sprintf("%s… (%d characters)", name[:min(4, len(name)/4)], len(name))
}

// budget is how many entries that are known are read again with one reading.
func budget(rules *configv1.CredentialStore) int {
	return max(atLeast, int(perSecond*rules.GetRefresh().AsDuration().Seconds()))
}
