package credentialstore

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

// memory is what a replica knows of a store that it reads; another one begins without and reads again. It holds no tokens.
type memory struct {
	place string
	// busy, next and bad are guarded by the keeper; the rest belongs to who has made it busy.
	busy bool
	next time.Time
	bad  int // entries that cannot be used
	// entries are those that were read, by name.
	entries map[string]remembered
	told    string
	// warned is what was told of each.
	warned map[string]string
}

// remembered is when an entry was read, and what is wrong with it.
type remembered struct {
	read, failing time.Time
	bad           string
}

func newMemory(place string) *memory {
	return &memory{place: place, entries: map[string]remembered{}, warned: map[string]string{}}
}

// again is when a store is read again: such that the job, which does not come at any moment, is not later than the refresh
// interval, and a little less, so that not all are read at once.
func (m *memory) again(now time.Time, rules *configv1.CredentialStore) time.Time {
	every := max(0, rules.GetRefresh().AsDuration()-Every)
	return now.Add(every - time.Duration(rand.Float64()*float64(every)/4))
}

// choose picks the entries to read: all that are new, or that no pair is kept of because another one had the same access token,
// and of the others those that were read the longest ago.
func (m *memory) choose(r *reading, view *snapshot.View) (due []string) {
	var others []string
	for _, name := range r.names {
		switch stored := storedAs(r, view, name); {
		case m.entries[name].read.IsZero() && stored == nil, stored != nil && entryOf(stored).GetPair() == nil:
			due = append(due, name)
		default:
			others = append(others, name)
		}
	}
	slices.SortStableFunc(others, func(a, b string) int {
		return cmp.Or(m.entries[a].read.Compare(m.entries[b].read), cmp.Compare(a, b))
	})
	return append(due, others[:min(len(others), budget(r.rules))]...)
}

func storedAs(r *reading, view *snapshot.View, name string) *snapshot.Resource {
	for _, n := range r.hash.records(name) {
		if stored, ok := view.Get(tokenpair.KindEntry, n); ok {
			return stored
		}
	}
	return nil
}

// note keeps what was read, and since when what fails does.
func (m *memory) note(r *reading) {
	if r.names == nil && r.failed != nil {
		return
	}
	now := map[string]remembered{}
	for _, name := range r.names {
		e := m.entries[name]
		if f, ok := r.found[name]; ok {
			e = f.remember(e, r.at)
			f.since = e.failing
			r.found[name] = f
		}
		now[name] = e
	}
	for name, err := range r.bad {
		now[name] = remembered{bad: err.Error()}
	}
	m.entries = now
}

func (f found) remember(before remembered, now time.Time) remembered {
	e := remembered{read: now}
	switch {
	case f.failed != nil:
		if e.bad, e.failing = "it cannot be read: "+f.failed.Error(), before.failing; e.failing.IsZero() {
			e.failing = now
		}
	case f.bad != nil:
		e.bad = f.bad.Error()
	}
	return e
}

// skipped counts entries that cannot be used.
func (m *memory) skipped() (n int) {
	for _, e := range m.entries {
		if e.bad != "" {
			n++
		}
	}
	return n
}

// mostTold bounds how many entries are told of after a reading.
const mostTold = 20

// tell logs what is wrong, once for each reason.
func (k *Keeper) tell(ctx context.Context, group, name string, m *memory, r *reading) {
	log := k.cfg.Log.With("group", group, "credential_store", name)
	text := ""
	if r.failed != nil {
		text = r.failed.Error()
	}
	switch {
	case text == m.told:
	case text != "":
		log.WarnContext(ctx, "credential store cannot be read", "err", r.failed)
	default:
		log.InfoContext(ctx, "credential store is read again")
	}
	m.told = text
	m.warn(ctx, log)
}
