package credentialstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

// batch is how many records are written in one revision.
const batch = 1000

// placeOf tells a store from others that had its name, or that it was before.
func placeOf(r *snapshot.Resource, rules *configv1.CredentialStore) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %q %s %t", r.UID, rules.GetProvider(), rules.GetPath(), rules.GetConsumerBy(), rules.GetAllowWeak()))
	return hex.EncodeToString(sum[:8])
}

// storeOf is a store of a view, nil if there is none that can be read.
func storeOf(view *snapshot.View, name string) (*configv1.CredentialStore, string) {
	r, ok := view.Get(tokenpair.KindStore, name)
	if !ok {
		return nil, ""
	}
	m, ok := r.Message.(*configv1.CredentialStore)
	if !ok {
		return nil, ""
	}
	return m, placeOf(r, m)
}

// records are those of a store.
func records(view *snapshot.View, store string) iter.Seq[*snapshot.Resource] {
	return func(yield func(*snapshot.Resource) bool) {
		for r := range view.From(tokenpair.KindEntry, prefixOf(store)) {
			rest, ok := strings.CutPrefix(r.Name, prefixOf(store))
			if !ok || len(rest) == recordSuffix && !yield(r) {
				return
			}
		}
	}
}

func entryOf(r *snapshot.Resource) *systemv1.StoredCredential {
	if r == nil {
		return nil
	}
	m, _ := r.Message.(*systemv1.StoredCredential)
	return m
}

func stateOf(view *snapshot.View, store string) (*snapshot.Resource, *systemv1.CredentialStoreState) {
	r, ok := view.Get(tokenpair.KindState, store)
	if !ok {
		return nil, nil
	}
	m, _ := r.Message.(*systemv1.CredentialStoreState)
	return r, m
}

// decision is what becomes of the records of a store.
type decision struct {
	*reading
	view   *snapshot.View
	before *systemv1.CredentialStoreState // nil: nothing that is of this store as it is
	out    configsvc.SystemChanges
	// want are the records there shall be, by name, and unread whether some entry has never been read.
	want   map[string]*systemv1.StoredCredential
	unread bool
}

// decide works out which records of a store change, some at a time. It is pure, and asked again with the group's head locked.
func decide(view *snapshot.View, name, place string, r *reading) configsvc.SystemChanges {
	rules, now := storeOf(view, name)
	if rules == nil || now != place || !r.hash.same(view) {
		return configsvc.SystemChanges{} // it was changed meanwhile, and is read anew
	}
	d := &decision{reading: r, view: view, want: map[string]*systemv1.StoredCredential{}}
	d.out.Immediate = true // who is gone must not wait for a roll-out
	state, before := stateOf(view, name)
	if before.GetPlace() == place {
		d.before = before
	}
	if r.names == nil && r.failed != nil {
		d.keepAll(name)
	} else {
		d.entries()
		d.twins()
	}
	after := d.state(place)
	d.write(name)
	if len(d.out.Upserts) > batch {
		d.out.Upserts = d.out.Upserts[:batch]
	} else if state == nil || before == nil || !proto.Equal(before, after) {
		d.out.Upserts = append(d.out.Upserts, upsert(state, tokenpair.KindState, name, after))
		d.out.Notes = append(d.out.Notes, tokenpair.KindStore+"/"+name+": "+noteOf(d.before, after))
	}
	return d.out
}

// keepAll is what there is to keep when it is not even known what there is.
func (d *decision) keepAll(name string) {
	d.unread = true
	if d.before == nil {
		return
	}
	for r := range records(d.view, name) {
		d.want[r.Name] = d.kept(entryOf(r))
	}
}

// entries works out the record of each entry.
func (d *decision) entries() {
	for _, name := range d.names {
		names := d.hash.records(name)
		var stored *snapshot.Resource
		for _, n := range names {
			if r, ok := d.view.Get(tokenpair.KindEntry, n); ok && d.before != nil {
				stored = r
			}
		}
		at := names[0]
		if stored != nil {
			at = stored.Name
		}
		f, read := d.found[name]
		switch {
		case !read || f.failed != nil:
			d.unread = d.unread || stored == nil && (!read || d.failed != nil)
			m := d.kept(entryOf(stored))
			if m != nil && (f.failed == nil || d.at.Sub(f.since) < d.rules.GetStaleBound().AsDuration()) {
				d.want[at] = m
			}
		case f.gone || f.bad != nil || over(f.pair.expires, d.at):
		default:
			d.want[at] = d.record(f.pair, entryOf(stored))
		}
	}
}

func over(ends, now time.Time) bool { return !ends.IsZero() && !now.Before(ends) }

func (d *decision) record(p pair, stored *systemv1.StoredCredential) *systemv1.StoredCredential {
	m := &systemv1.StoredCredential{
		Store: d.hash.store, Access: d.hash.access(p).keep(stored.GetAccess()), Pair: d.hash.pair(p).keep(stored.GetPair()),
		Named: p.named, Consumer: resolve(d.view, d.rules.GetConsumerBy(), p.named),
	}
	if !p.expires.IsZero() {
		m.Expires = timestamppb.New(p.expires)
	}
	return m
}

// kept is a record that is left, for whom it names now; nil if it has ended.
func (d *decision) kept(m *systemv1.StoredCredential) *systemv1.StoredCredential {
	if m == nil || m.GetExpires() != nil && over(m.GetExpires().AsTime(), d.at) {
		return nil
	}
	if to := resolve(d.view, d.rules.GetConsumerBy(), m.GetNamed()); to != m.GetConsumer() {
		m = proto.CloneOf(m)
		m.Consumer = to
	}
	return m
}

// twins lets nobody in by an access token that several entries have: which of them is meant nobody can tell.
func (d *decision) twins() {
	held := map[string]string{}
	twin := map[string]bool{}
	hold := func(h *configv1.KeyedHash, at string) {
		if other, ok := held[key(h)]; ok && other != at {
			twin[at], twin[other] = true, true
		}
		held[key(h)] = at
	}
	for at, m := range d.want {
		hold(m.GetAccess(), at)
	}
	for name, f := range d.found { // the same token may be kept under another term
		for _, at := range d.hash.records(name) {
			if d.want[at] == nil || f.failed != nil || f.bad != nil || f.gone {
				continue
			}
			for _, h := range d.hash.access(f.pair) {
				hold(h, at)
			}
		}
	}
	for at := range twin {
		if d.want[at].GetPair() != nil {
			d.want[at] = proto.CloneOf(d.want[at])
			d.want[at].Pair = nil
		}
	}
}

// state is how it is with the store after the reading.
func (d *decision) state(place string) *systemv1.CredentialStoreState {
	after := &systemv1.CredentialStoreState{Place: place, Known: d.before.GetKnown() || !d.unread}
	if d.failed == nil {
		return after
	}
	after.FailingSince = d.before.GetFailingSince()
	if since := after.GetFailingSince(); since == nil || since.AsTime().After(d.at) {
		after.FailingSince = timestamppb.New(d.at.UTC().Truncate(time.Second))
	}
	if d.at.Sub(after.GetFailingSince().AsTime()) >= d.rules.GetStaleBound().AsDuration() {
		after.Known = false
		clear(d.want)
	}
	return after
}

// write compares what there shall be with what there is. What is removed is removed first.
func (d *decision) write(name string) {
	for r := range records(d.view, name) {
		if d.want[r.Name] == nil {
			d.out.Deletes = append(d.out.Deletes, r.Ref())
		}
	}
	var fresh []admission.Upsert
	for at, m := range d.want {
		stored, _ := d.view.Get(tokenpair.KindEntry, at)
		if have := entryOf(stored); m != nil && (have == nil || !proto.Equal(have, m)) {
			fresh = append(fresh, upsert(stored, tokenpair.KindEntry, at, m))
		}
	}
	d.out.Upserts = sorted(fresh)
}

func noteOf(before, after *systemv1.CredentialStoreState) string {
	switch {
	case !after.GetKnown() && before.GetKnown():
		return "could not be read since " + after.GetFailingSince().AsTime().Format(time.RFC3339) + ": its routes are closed"
	case !after.GetKnown():
		return "cannot be read yet"
	case after.GetFailingSince() != nil:
		return "cannot be read; what was read before is kept"
	case before.GetFailingSince() != nil:
		return "can be read again"
	}
	return "read"
}
