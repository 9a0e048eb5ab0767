package sealedcache

import (
	"errors"
	"io"
	"iter"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/sealedset"
)

// recordsOf yields every record of the set with the bytes it came in.
func recordsOf(set *state.Set) iter.Seq[sealedset.Record] {
	return func(yield func(sealedset.Record) bool) {
		for _, kind := range set.Kinds() {
			for r := range set.All(kind) {
				if !yield(sealedset.Record{Kind: r.Kind, UID: r.UID, Name: r.Name, Bytes: r.Bytes}) {
					return
				}
			}
		}
	}
}

func readRecords(in io.Reader, h *header, limits state.Limits) (*state.Set, error) {
	at := state.Kept{Epoch: h.epoch, Revision: h.revision, Digest: h.digest}
	set, err := state.FromFrames(at, limits, func(fold func(*syncv1.Frame) error) error { return sealedset.ReadRecords(in, fold) })
	switch {
	case errors.Is(err, state.ErrSum):
		return nil, refuse(sealedset.Digest, "%w", err)
	case err != nil:
		return nil, refuse(sealedset.Damaged, "%w", err)
	}
	return set, nil
}
