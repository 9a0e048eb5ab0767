// Package statetest makes sets and streams for tests, the way a control plane makes them. Only tests use it.
package statetest

import (
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/state"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/digest"
)

// Record is a record to be sent. A nil Resource means that the control plane could not open it.
type Record struct {
	Kind, UID, Name string
	Resource        proto.Message
}

// Bytes returns the bytes of the record; nil if it cannot be opened.
func (r Record) Bytes() []byte {
	if r.Resource == nil {
		return nil
	}
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, r.Resource, proto.MarshalOptions{Deterministic: true}); err != nil { // maps, too
		panic(err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&syncv1.Record{Kind: r.Kind, Uid: r.UID, Name: r.Name, Resource: a})
	if err != nil {
		panic(err)
	}
	return b
}

// Source plays the control plane's part for one group: it holds the records and makes the messages of the stream.
type Source struct {
	Epoch    uint64
	Revision int64
	// FrameBytes bounds the bytes of a frame. 0: 200 KiB.
	FrameBytes int
	records    map[string]Record
}

// NewSource returns a source at revision 0.
func NewSource(epoch uint64) *Source {
	return &Source{Epoch: epoch, records: map[string]Record{}}
}

// Records returns the records, sorted.
func (s *Source) Records() []Record {
	var all []Record
	for _, k := range slices.Sorted(maps.Keys(s.records)) {
		all = append(all, s.records[k])
	}
	return all
}

// Digest returns the digest of the records.
func (s *Source) Digest() []byte {
	var d digest.Set
	for _, r := range s.records {
		if r.Resource != nil {
			d.Add(r.Kind, r.UID, r.Bytes())
		}
	}
	sum := d.Sum()
	return sum[:]
}

// Change applies a change set and returns its messages.
func (s *Source) Change(upserts, removes []Record) []*syncv1.ConfigResponse {
	ms := []*syncv1.ConfigResponse{begin(&syncv1.Begin{Epoch: s.Epoch, FromRevision: s.Revision})}
	s.Revision++
	for _, r := range removes {
		delete(s.records, r.Kind+"/"+r.UID)
		ms = append(ms, frame(&syncv1.Frame{Kind: r.Kind, Uid: r.UID, Removed: true}))
	}
	for _, r := range upserts {
		s.records[r.Kind+"/"+r.UID] = r
		ms = append(ms, s.frames(r)...)
	}
	return append(ms, s.commit())
}

// Reset returns the messages of the whole set.
func (s *Source) Reset() []*syncv1.ConfigResponse {
	ms := []*syncv1.ConfigResponse{begin(&syncv1.Begin{Epoch: s.Epoch, Reset_: true})}
	for _, r := range s.Records() {
		ms = append(ms, s.frames(r)...)
	}
	return append(ms, s.commit())
}

func (s *Source) frames(r Record) []*syncv1.ConfigResponse {
	if r.Resource == nil {
		return []*syncv1.ConfigResponse{frame(&syncv1.Frame{Kind: r.Kind, Uid: r.UID, Name: r.Name, Unreadable: true})}
	}
	limit := s.FrameBytes
	if limit == 0 {
		limit = 200 << 10
	}
	var ms []*syncv1.ConfigResponse
	b, offset := r.Bytes(), 0
	for part := range slices.Chunk(b, limit) {
		f := &syncv1.Frame{Kind: r.Kind, Uid: r.UID, Offset: int64(offset), Bytes: slices.Clone(part)}
		offset += len(part)
		f.Last = offset == len(b)
		ms = append(ms, frame(f))
	}
	return ms
}

func (s *Source) commit() *syncv1.ConfigResponse {
	c := &syncv1.Commit{Epoch: s.Epoch, Revision: s.Revision, Digest: s.Digest()}
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Commit{Commit: c}}
}

func begin(b *syncv1.Begin) *syncv1.ConfigResponse {
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Begin{Begin: b}}
}

func frame(f *syncv1.Frame) *syncv1.ConfigResponse {
	return &syncv1.ConfigResponse{Message: &syncv1.ConfigResponse_Frame{Frame: f}}
}

// Fold folds the messages and returns the last set.
func Fold(t testing.TB, f *state.Folder, ms []*syncv1.ConfigResponse) *state.Set {
	t.Helper()
	for _, m := range ms {
		if _, err := f.Fold(m); err != nil {
			t.Fatalf("Fold(%T) = %v", m.GetMessage(), err)
		}
	}
	return f.Set()
}

// Set returns a set that holds the records, at revision 1 of epoch 1.
func Set(t testing.TB, records ...Record) *state.Set {
	t.Helper()
	s := NewSource(1)
	s.Change(records, nil)
	return Fold(t, state.NewFolder(state.Empty(), state.Limits{}), s.Reset())
}
