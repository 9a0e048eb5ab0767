package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/problem"
)

// key is a resource by uid.
type key struct{ kind, uid string }

// version is a resource as one revision left it. It never changes, so sets share them.
type version struct {
	ref              snapshot.Ref
	revision         int64
	created, updated time.Time
	record           []byte
}

// fold applies changes one after the other and keeps the sets that are wanted.
type fold struct {
	vault  snapshot.Vault
	head   store.Head
	kinds  []*catalog.Kind
	wanted []int64
	kept   map[int64]*Set

	last store.Change // that was applied; its body is dropped
	all  map[key]*version
	sum  digest.Set
	hash digest.Hasher
}

func newFold(vault snapshot.Vault, head store.Head, kinds []*catalog.Kind, revisions []int64) *fold {
	f := &fold{vault: vault, head: head, kinds: kinds, kept: map[int64]*Set{}, all: map[key]*version{}}
	for _, revision := range revisions {
		if revision == Newest {
			revision = head.Revision
		}
		f.wanted = append(f.wanted, revision)
		f.kept[revision] = nil
	}
	return f
}

// begin takes in the baseline.
func (f *fold) begin(ctx context.Context, r Reader, base store.Baseline) error {
	if err := r.BaselineRows(ctx, f.past); err != nil {
		return err
	}
	if base.Revision > 0 {
		state, err := f.vault.OpenBaseline(base)
		if err != nil {
			return f.unopened(base.Revision, err)
		}
		var sum digest.Set
		if err := sum.UnmarshalBinary(state); err != nil || sum.Sum() != f.sum.Sum() {
			return f.broken(base.Revision, "is not what its baseline holds", nil)
		}
	}
	f.last.Revision = base.Revision
	f.keep()
	return nil
}

// past takes in one record of the baseline.
func (f *fold) past(row store.Row) error {
	record, err := f.vault.OpenPastRecord(row)
	if err != nil {
		return f.unopened(row.Revision, err)
	}
	return f.put(store.Change{Revision: row.Revision, At: row.UpdatedAt}, row.CreatedAt, record)
}

// change applies the next change.
func (f *fold) change(c store.Change) error {
	if want := f.last.Revision + 1; c.Revision != want {
		return f.broken(want, "is missing", nil)
	}
	body, err := f.open(c)
	if err != nil {
		return err
	}
	for _, rm := range body.GetRemovals() {
		f.remove(key{rm.GetKind(), rm.GetUid()})
	}
	for _, up := range body.GetUpserts() {
		if err := f.put(c, c.At, up.GetRecord()); err != nil {
			return err
		}
	}
	if sum := f.sum.Sum(); string(sum[:]) != string(body.GetDigest()) {
		return f.broken(c.Revision, "does not follow from those before it", nil)
	}
	f.last = c
	f.last.Sealed = nil
	f.keep()
	return nil
}

func (f *fold) open(c store.Change) (*syncv1.ChangeBody, error) {
	body, err := Body(f.vault, c)
	switch {
	case errors.Is(err, errMalformed):
		return nil, f.broken(c.Revision, "is malformed", nil)
	case err != nil:
		return nil, f.unopened(c.Revision, err)
	}
	return body, nil
}

var errMalformed = errors.New("the change is malformed")

// Body opens a change.
func Body(vault snapshot.Vault, c store.Change) (*syncv1.ChangeBody, error) {
	raw, err := vault.OpenChange(c)
	if err != nil {
		return nil, err
	}
	body := &syncv1.ChangeBody{}
	if err := proto.Unmarshal(raw, body); err != nil || body.GetRevision() != c.Revision || body.GetEpoch() != c.Epoch {
		return nil, errMalformed
	}
	return body, nil
}

// unopened keeps apart what goes by and what stays as it is.
func (f *fold) unopened(revision int64, err error) error {
	if errors.Is(err, sealer.ErrUnavailable) {
		return err
	}
	return f.broken(revision, "does not open", err)
}

// put takes in a record; created is for one that was not there.
func (f *fold) put(c store.Change, created time.Time, record []byte) error {
	var rec syncv1.Record
	if err := proto.Unmarshal(record, &rec); err != nil {
		return f.broken(c.Revision, "is malformed", nil)
	}
	at := key{rec.GetKind(), rec.GetUid()}
	if old := f.all[at]; old != nil {
		created = old.created
	}
	f.remove(at)
	f.hash.Add(&f.sum, at.kind, at.uid, streamed(record))
	f.all[at] = &version{
		ref:      snapshot.Ref{Kind: at.kind, UID: at.uid, Name: rec.GetName()},
		revision: c.Revision, created: created, updated: c.At, record: record,
	}
	return nil
}

// streamed is record.Streamed, where records have its name.
func streamed(b []byte) []byte { return record.Streamed(b) }

// remove takes a resource out. One that no change put there was put into the database past the control plane, and removed
// by a change like any other; the digest tells whether that is all.
func (f *fold) remove(at key) {
	if old := f.all[at]; old != nil {
		f.hash.Remove(&f.sum, at.kind, at.uid, streamed(old.record))
		delete(f.all, at)
	}
}

// keep keeps the set if it is wanted.
func (f *fold) keep() {
	if _, ok := f.kept[f.last.Revision]; ok {
		f.kept[f.last.Revision] = &Set{
			Revision: f.last.Revision, At: f.last.At, Actor: f.last.Actor, Summary: f.last.Summary, Epoch: f.head.Epoch,
			Digest: f.sum.Sum(), kinds: f.kinds, all: maps.Clone(f.all),
		}
	}
}

// end holds the last set against the head, which is authenticated. With the digests of the changes, each of which is sealed
// to its revision, that leaves only this undetected: a database that was rewound, written on, and put back, with a change of
// the time between in place of the one of the same number, and all it did undone by the changes after it.
func (f *fold) end() error {
	if f.last.Revision != f.head.Revision {
		return f.broken(f.last.Revision+1, "is missing", nil)
	}
	if f.sum.Sum() != f.head.Digest {
		return f.broken(f.last.Revision, "is not the one the head of the group speaks of", nil)
	}
	return nil
}

// broken refuses the history. Nothing that was read is repeated.
func (f *fold) broken(revision int64, what string, cause error) error {
	detail := fmt.Sprintf("the history of group %s cannot be used: revision %d %s; what the group holds now is not affected, "+
		"keyward-controlplane check-db says more", f.head.Group, revision, what)
	return problem.Wrap(problem.Unavailable, detail, cause)
}

func (f *fold) sets() []*Set {
	out := make([]*Set, 0, len(f.wanted))
	for _, revision := range f.wanted {
		out = append(out, f.kept[revision])
	}
	return out
}
