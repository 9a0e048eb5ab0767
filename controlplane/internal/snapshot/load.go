package snapshot

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/digest"
)

// streamed is record.Streamed, where records have its name.
func streamed(b []byte) []byte { return record.Streamed(b) }

// loader opens all rows of a group and holds them against the head.
type loader struct {
	group *Group
	trees trees
	full  digest.Set // of all committed records
	open  digest.Set // of the readable ones
	hash  digest.Hasher
	rows  int64
}

// row opens one row. A row that does not open becomes an unreadable resource.
func (l *loader) row(row store.Row) error {
	l.rows++
	res := &Resource{
		Kind: row.Kind, UID: row.UID, Name: row.Name, Revision: row.Revision,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, Labels: row.Labels,
	}
	record, err := l.group.vault.Open(row)
	if err == nil {
		res.Message, err = decode(row.Kind, row.UID, row.Name, record)
	}
	if err != nil {
		res.Message, res.Unreadable = nil, err.Error()
	} else {
		res.Record, res.committed = record, record
		l.hash.Add(&l.open, res.Kind, res.UID, streamed(record))
	}
	l.trees.put(res)
	return nil
}

// verify holds the opened set against the head. What differs is named by the history and becomes unreadable: rows that
// are missing, rows that are an older version of themselves. A difference without a name refuses the whole group.
func (l *loader) verify(ctx context.Context, r Reader, head store.Head) error {
	if l.rows == head.ResourceCount && l.open.Sum() == head.Digest {
		l.full = l.open
		return nil
	}
	wanted, err := l.history(ctx, r, head)
	if err != nil {
		return err
	}
	for _, w := range wanted {
		l.hash.Add(&l.full, w.kind, w.uid, streamed(w.record))
	}
	if l.full.Sum() != head.Digest {
		return ErrDamaged
	}
	for _, w := range wanted {
		l.hold(w)
	}
	for _, res := range l.surplus(wanted) {
		l.drop(res, "the row is in no revision", nil)
	}
	return nil
}

// version is what the history says of one resource.
type version struct {
	kind, uid, name string
	revision        int64
	record          []byte
}

// history replays the sealed change bodies from the baseline up to the head. The head's digest judges what comes of it.
func (l *loader) history(ctx context.Context, r Reader, head store.Head) (map[string]version, error) {
	base, err := r.Baseline(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]version{}
	if err := r.BaselineRows(ctx, func(row store.Row) error { return l.past(row, last) }); err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	for revision := base.Revision; revision < head.Revision; {
		changes, err := r.ChangesSince(ctx, revision, 256)
		if err != nil {
			return nil, err
		}
		if len(changes) == 0 || changes[0].Revision != revision+1 {
			return nil, fmt.Errorf("revision %d is missing: %w", revision+1, ErrDamaged)
		}
		for _, c := range changes {
			if err := l.replay(c, last); err != nil {
				return nil, fmt.Errorf("revision %d: %w", c.Revision, err)
			}
		}
		revision = changes[len(changes)-1].Revision
	}
	return last, nil
}

// past takes in one record of the baseline.
func (l *loader) past(row store.Row, last map[string]version) error {
	record, err := l.group.vault.OpenPastRecord(row)
	if err != nil {
		return err
	}
	return note(last, record, row.Revision)
}

// note puts a record into the versions.
func note(last map[string]version, record []byte, revision int64) error {
	var rec syncv1.Record
	if err := proto.Unmarshal(record, &rec); err != nil {
		return errMalformed
	}
	last[rec.GetKind()+sep+rec.GetUid()] = version{
		kind: rec.GetKind(), uid: rec.GetUid(), name: rec.GetName(), revision: revision, record: record,
	}
	return nil
}

func (l *loader) replay(c store.Change, last map[string]version) error {
	raw, err := l.group.vault.OpenChange(c)
	if err != nil {
		return err
	}
	var body syncv1.ChangeBody
	if err := proto.Unmarshal(raw, &body); err != nil {
		return errMalformed
	}
	for _, rm := range body.GetRemovals() {
		delete(last, rm.GetKind()+sep+rm.GetUid())
	}
	for _, u := range body.GetUpserts() {
		if err := note(last, u.GetRecord(), c.Revision); err != nil {
			return err
		}
	}
	return nil
}

// hold compares one resource with its last version.
func (l *loader) hold(w version) {
	res, ok := l.trees.byUID.Get(w.kind + sep + w.uid)
	switch {
	case !ok:
		l.trees.put(&Resource{Kind: w.kind, UID: w.uid, Name: w.name, Revision: w.revision, Unreadable: "the row is missing", committed: w.record, missing: true})
	case res.Unreadable != "":
		res.committed = w.record
	case res.Revision != w.revision:
		l.drop(res, fmt.Sprintf("the row is of revision %d, the last change was in %d", res.Revision, w.revision), w.record)
	case !slices.Equal(res.Record, w.record):
		l.drop(res, "the row differs from its last change", w.record)
	}
}

// drop makes a readable resource unreadable.
func (l *loader) drop(res *Resource, reason string, committed []byte) {
	l.hash.Remove(&l.open, res.Kind, res.UID, streamed(res.Record))
	gone := *res
	gone.Record, gone.Message, gone.Unreadable, gone.committed = nil, nil, reason, committed
	l.trees.put(&gone)
}

// surplus returns the resources that the history does not know.
func (l *loader) surplus(wanted map[string]version) []*Resource {
	var out []*Resource
	l.trees.byUID.Scan(func(key string, res *Resource) bool {
		if _, ok := wanted[key]; !ok && res.Unreadable == "" {
			out = append(out, res)
		}
		return true
	})
	return out
}
