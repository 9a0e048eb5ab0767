// Package snapshot keeps, for each gateway group that has streams or writes, the opened set of its resources at one
// revision, and lets readers take immutable views of it and follow its changes. It opens rows and change bodies through
// the sealer, verifies them against the group's authenticated head, and turns whatever cannot be opened into an explicit
// unreadable resource, never into a hole. It writes nothing; the write path (configsvc) and the stream side (syncserver)
// call it.
package snapshot

import (
	"iter"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/record"
	"keyward.dev/shared/catalog"
)

// Resource is one resource of the set, read-only.
type Resource struct {
	Kind, UID, Name string
	// Revision of the last change.
	Revision             int64
	CreatedAt, UpdatedAt time.Time
	Labels               map[string]string
	// Record holds the exact bytes that are stored, digested and streamed; nil if unreadable.
	Record []byte
	// Message is the decoded resource; nil if unreadable.
	Message proto.Message
	// Unreadable says why the resource could not be opened; empty if it could.
	Unreadable string

	// committed is the record as the head's digest counts it: Record, or what the history says an unreadable row held;
	// nil for a row that no revision wrote.
	committed []byte
	missing   bool
}

// NewResource returns the resource that a record about to be committed makes.
func NewResource(ref Ref, revision int64, created, updated time.Time, record []byte, msg proto.Message) *Resource {
	return &Resource{
		Kind: ref.Kind, UID: ref.UID, Name: ref.Name, Revision: revision, CreatedAt: created, UpdatedAt: updated,
		Labels: labelsOf(msg), Record: record, Message: msg, committed: record,
	}
}

// Stored says whether there is a row of the resource; an unreadable one may be missing.
func (r *Resource) Stored() bool { return !r.missing }

// Counted says whether the group's head counts the resource; a row that no revision wrote is not.
func (r *Resource) Counted() bool { return r.committed != nil }

// uses yields the kind and name of what the resource refers to, and its marks.
func (r *Resource) uses() iter.Seq2[string, string] {
	return func(yield func(kind, name string) bool) {
		if r.Message == nil {
			return
		}
		for ref := range catalog.References(r.Message) {
			if !yield(ref.Kind, ref.Name) {
				return
			}
		}
		claims.Marks(r.Message)(yield)
	}
}

func (r *Resource) claims() iter.Seq[string] {
	if r.Message == nil {
		return func(func(string) bool) {}
	}
	return claims.Of(r.Message)
}

// Ref names a resource.
type Ref struct {
	Kind, UID, Name string
}

// Ref returns the reference to r.
func (r *Resource) Ref() Ref { return Ref{Kind: r.Kind, UID: r.UID, Name: r.Name} }

// Change is one committed change set, or, with Reset, the notice that the set was loaded anew and a View must be taken.
type Change struct {
	Epoch       uint64
	Revision    int64
	Reset       bool
	Upserts     []*Resource
	Removals    []Ref
	Digest      [32]byte
	CommittedAt time.Time
}

// decode opens a record and checks that it is the one its place says.
func decode(kind, uid, name string, packed []byte) (proto.Message, error) {
	var rec syncv1.Record
	if err := proto.Unmarshal(packed, &rec); err != nil {
		return nil, errMalformed
	}
	if rec.GetKind() != kind || rec.GetUid() != uid || (name != "" && rec.GetName() != name) {
		return nil, errMisplaced
	}
	msg, err := record.Message(&rec)
	if err != nil {
		return nil, errUnknownType
	}
	return msg, nil
}
