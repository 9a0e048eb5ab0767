package retention

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/digest"
)

// step moves a baseline over some changes. It costs as much as they are large, however large the group is.
type step struct {
	tx    *store.HistoryTx
	vault *sealer.Group

	sum  digest.Set
	hash digest.Hasher
	// last is what the changes leave of each resource they touch.
	last map[store.Ref]outcome
}

// outcome is a resource after the changes; without a record it is removed.
type outcome struct {
	record         []byte
	revision       int64
	created, since time.Time
}

// take moves the baseline, if what comes of it is what the last of the changes says.
func (s *step) take(ctx context.Context, changes []store.Change, now time.Time) error {
	if err := s.open(); err != nil {
		return err
	}
	var want []byte
	s.last = map[store.Ref]outcome{}
	for i, c := range changes {
		if next := s.tx.Baseline().Revision + 1 + int64(i); c.Revision != next {
			return fmt.Errorf("revision %d is missing; nothing is dropped", next)
		}
		body, err := history.Body(s.vault, c)
		if err == nil {
			err = s.change(c, body)
		}
		if err != nil {
			return fmt.Errorf("revision %d: %w; nothing is dropped", c.Revision, err)
		}
		want = body.GetDigest()
	}
	if err := s.replace(ctx); err != nil {
		return err
	}
	to := changes[len(changes)-1].Revision
	if sum := s.sum.Sum(); string(sum[:]) != string(want) {
		return fmt.Errorf("the changes up to revision %d do not lead to what it says; nothing is dropped", to)
	}
	return s.store(ctx, store.Baseline{Revision: to, UpdatedAt: now})
}

// open begins with the digest of the baseline.
func (s *step) open() error {
	base := s.tx.Baseline()
	if base.Revision == 0 {
		return nil
	}
	state, err := s.vault.OpenBaseline(base)
	if err != nil {
		return err
	}
	return s.sum.UnmarshalBinary(state)
}

func (s *step) change(c store.Change, body *syncv1.ChangeBody) error {
	for _, rm := range body.GetRemovals() {
		s.last[store.Ref{Kind: rm.GetKind(), UID: rm.GetUid()}] = outcome{}
	}
	for _, up := range body.GetUpserts() {
		var rec syncv1.Record
		if err := proto.Unmarshal(up.GetRecord(), &rec); err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		ref, created := store.Ref{Kind: rec.GetKind(), UID: rec.GetUid()}, c.At
		if old := s.last[ref]; old.record != nil {
			created = old.created
		}
		s.last[ref] = outcome{record: up.GetRecord(), revision: c.Revision, created: created, since: c.At}
	}
	return nil
}

// streamed is record.Streamed, where records have its name.
func streamed(b []byte) []byte { return record.Streamed(b) }

// replace takes the records that change out of the digest, and those that they become in.
func (s *step) replace(ctx context.Context) error {
	refs := make([]store.Ref, 0, len(s.last))
	for ref := range s.last {
		refs = append(refs, ref)
	}
	err := s.tx.Records(ctx, refs, func(row store.Row) error {
		record, err := s.vault.OpenPastRecord(row)
		if err != nil {
			return err
		}
		s.hash.Remove(&s.sum, row.Kind, row.UID, streamed(record))
		return nil
	})
	if err != nil {
		return err
	}
	for ref, o := range s.last {
		if o.record != nil {
			s.hash.Add(&s.sum, ref.Kind, ref.UID, streamed(o.record))
		}
	}
	return nil
}

func (s *step) store(ctx context.Context, to store.Baseline) error {
	state, err := s.sum.MarshalBinary()
	if err != nil {
		return err
	}
	if to.Sealed, err = s.vault.SealBaseline(to.Revision, state); err != nil {
		return err
	}
	var put []store.Row
	var remove []store.Ref
	for ref, o := range s.last {
		if o.record == nil {
			remove = append(remove, ref)
			continue
		}
		row := store.Row{Kind: ref.Kind, UID: ref.UID, Revision: o.revision, CreatedAt: o.created, UpdatedAt: o.since}
		if row.Sealed, err = s.vault.SealPastRecord(ref.Kind, ref.UID, o.revision, o.record); err != nil {
			return err
		}
		put = append(put, row)
	}
	return s.tx.Advance(ctx, to, put, remove)
}
