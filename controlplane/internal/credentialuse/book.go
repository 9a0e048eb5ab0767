// Package credentialuse gathers what gateways say of the use of credentials, and writes it in one statement once in a while.
// Nothing depends on it: what is lost costs precision, and a database that is down costs the uses of that time at most. The
// stream server tells it, package store keeps it, the admin API reads it there.
package credentialuse

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/store"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
)

const (
	// writeEvery is how far apart a replica's statements are, more or less, so that replicas do not write at the same time.
	writeEvery = 10 * time.Second
	// maxPending bounds what waits of a group. Gateways tell of a credential once an hour: a million that are in use are 2,800 in
	// the time between two statements. What is more is lost, of that group alone.
	maxPending = 20_000
	// maxWrite bounds a statement, of which all groups have their turn.
	maxWrite = 20_000
	// writeTimeout bounds a statement, lastTimeout the one at the end.
	writeTimeout, lastTimeout = 30 * time.Second, 3 * time.Second
)

// Store keeps uses; *store.Store does.
type Store interface {
	SaveCredentialUses(ctx context.Context, uses []store.CredentialUse) error
}

// uid is that of a credential.
type uid [16]byte

// text is how uids are written everywhere else.
func (u uid) text() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Book is what a replica has heard and not written yet.
type Book struct {
	store Store
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	pending map[string]map[uid]time.Time
	lost    uint64
	// last is the group with which the last statement ended.
	last string
}

// New returns an empty book. Run writes what it gathers.
func New(s Store, now func() time.Time, log *slog.Logger) *Book {
	return &Book{store: s, now: now, log: log, pending: map[string]map[uid]time.Time{}}
}

// Take takes what a gateway of a group says. Whether the credentials are that group's is seen when it is written.
func (b *Book) Take(group string, uses []*syncv1.CredentialUse) {
	if len(uses) == 0 {
		return
	}
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range uses {
		if len(u.GetUid()) == len(uid{}) {
			b.note(group, uid(u.GetUid()), now.Add(-time.Duration(u.GetSecondsAgo())*time.Second))
		}
	}
}

// note remembers the latest use of a credential; b.mu is held.
func (b *Book) note(group string, id uid, at time.Time) {
	known := b.pending[group]
	if known == nil {
		known = map[uid]time.Time{}
		b.pending[group] = known
	}
	switch was, ok := known[id]; {
	case !ok && len(known) >= maxPending:
		b.lost++
	case at.After(was):
		known[id] = at
	}
}

// Lost answers how many uses came when too many waited.
func (b *Book) Lost() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// Run writes until the context ends, and then a last time.
func (b *Book) Run(ctx context.Context) error {
	failing := false
	for {
		timer := time.NewTimer(writeEvery*9/10 + rand.N(writeEvery/5))
		select {
		case <-ctx.Done():
			timer.Stop()
			b.end(ctx)
			return nil
		case <-timer.C:
		}
		err := b.write(ctx, writeTimeout)
		if err != nil && !failing && ctx.Err() == nil {
			b.log.WarnContext(ctx, "uses of credentials cannot be written; they are kept", "err", err)
		}
		failing = err != nil
	}
}

func (b *Book) end(ctx context.Context) {
	if err := b.write(context.WithoutCancel(ctx), lastTimeout); err != nil {
		b.log.WarnContext(ctx, "the last uses of credentials could not be written", "err", err)
	}
}

// write writes what waits, as far as it fits into a statement. What fails waits on.
func (b *Book) write(ctx context.Context, timeout time.Duration) error {
	uses, again := b.due()
	if len(uses) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := b.store.SaveCredentialUses(ctx, uses); err != nil {
		again()
		return err
	}
	return nil
}

// due takes what is to be written next. again gives it back.
func (b *Book) due() (uses []store.CredentialUse, again func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[string]map[uid]time.Time{}
	for _, group := range b.turns() {
		if len(uses) == maxWrite {
			break
		}
		b.last, taken[group] = group, map[uid]time.Time{}
		for id, at := range b.pending[group] {
			if len(uses) == maxWrite {
				break
			}
			uses = append(uses, store.CredentialUse{Group: group, UID: id.text(), At: at})
			taken[group][id] = at
			delete(b.pending[group], id)
		}
		if len(b.pending[group]) == 0 {
			delete(b.pending, group)
		}
	}
	return uses, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for group, ids := range taken {
			for id, at := range ids {
				b.note(group, id, at)
			}
		}
	}
}

// turns are the groups of which something waits, from the one on whose turn is next; b.mu is held.
func (b *Book) turns() []string {
	groups := slices.Sorted(maps.Keys(b.pending))
	next, found := slices.BinarySearch(groups, b.last)
	if found {
		next++
	}
	return append(groups[next:len(groups):len(groups)], groups[:next]...)
}
