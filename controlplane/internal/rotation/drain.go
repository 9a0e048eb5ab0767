package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
)

const (
	// batch is how many rows are rewrapped in one transaction: some ten milliseconds, which is how long a writer may have to
	// wait for one of them.
	batch = 250
	// rest is how long a group is left alone in which rows do not open.
	rest = time.Minute
)

// drain rewraps all groups in which something may be left under older terms. Between two batches it pauses as long as a batch
// takes, so that half of what the database can do stays for others.
func (k *Keeper) drain(ctx context.Context) {
	left, err := k.undrained(ctx)
	k.tell(ctx, "rewrap", err)
	for _, t := range left {
		if !k.resting(t.GroupUID) {
			k.tell(ctx, "rewrap "+t.GroupUID, k.drainGroup(ctx, t))
		}
	}
}

// undrained answers the newest terms of the groups in which something may be left under the terms before.
func (k *Keeper) undrained(ctx context.Context) ([]store.KeyringTerm, error) {
	terms, err := k.cfg.Store.KeyringTerms(ctx)
	if err != nil {
		return nil, err
	}
	var left []store.KeyringTerm
	for i, t := range terms {
		newest := i+1 == len(terms) || terms[i+1].GroupUID != t.GroupUID
		if newest && t.Term > 1 && t.DrainedAt.IsZero() {
			left = append(left, t)
		}
	}
	return left, nil
}

func (k *Keeper) drainGroup(ctx context.Context, t store.KeyringTerm) error {
	name, err := k.cfg.Store.GroupName(ctx, t.GroupUID)
	if err != nil {
		return err
	}
	g, err := k.cfg.Sealer.Group(ctx, name)
	if err != nil {
		return err
	}
	if g.Terms().Newest != t.Term {
		return nil // this replica has yet to meet the new keyring
	}
	for ctx.Err() == nil {
		p := pass{keeper: k, group: g}
		err := p.run(ctx, t.Term)
		switch {
		case errors.Is(err, store.ErrRewrapping):
			return nil
		case err != nil:
			return fmt.Errorf("rewrap group %s: %w", name, err)
		case p.unreadable != nil:
			k.letRest(t.GroupUID)
			return fmt.Errorf("rewrap group %s: %d rows stay under older terms, the first: %w", name, p.failed, p.unreadable)
		case p.seen == 0:
			k.cfg.Log.InfoContext(ctx, "keyring rewrapped", "group", name, "term", t.Term)
			return k.cfg.Store.Drained(ctx, t.GroupUID, t.Term)
		}
	}
	return nil
}

// pass is one walk over what a group has under older terms.
type pass struct {
	keeper       *Keeper
	group        *sealer.Group
	seen, failed int64
	unreadable   error
}

func (p *pass) run(ctx context.Context, newest uint32) error {
	walk := p.keeper.cfg.Store.NewWalk(p.group.UID(), newest)
	walk.OnlyWhile(p.group.VerifyHead)
	for ctx.Err() == nil {
		begun := time.Now()
		n, done, err := p.keeper.cfg.Store.Rewrap(ctx, walk, batch, p.seal)
		if done || err != nil {
			return err
		}
		p.keeper.rewrapped.WithLabelValues(p.group.Name()).Add(float64(n))
		pause(ctx, time.Since(begun))
	}
	return ctx.Err()
}

// seal answers nil for a row that does not open: it is evidence.
func (p *pass) seal(row store.SealedRow) []byte {
	p.seen++
	sealed, err := p.group.Rewrap(row)
	if err != nil {
		p.failed++
		if p.unreadable == nil {
			p.unreadable = err
		}
		return nil
	}
	return sealed
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (k *Keeper) resting(groupUID string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cfg.Now().Before(k.stuck[groupUID])
}

func (k *Keeper) rested(groupUID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.stuck, groupUID)
}

func (k *Keeper) letRest(groupUID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stuck[groupUID] = k.cfg.Now().Add(rest)
}
