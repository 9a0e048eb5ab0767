package history

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/controlplane/internal/record"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/problem"
)

// Set is what a group held at one revision, read-only.
type Set struct {
	Revision int64
	// At, Actor and Summary are those of the change that made it.
	At      time.Time
	Actor   string
	Summary string
	// Epoch of the group when the history was read.
	Epoch uint64
	// Digest of all records.
	Digest [digest.Size]byte

	kinds []*catalog.Kind
	all   map[key]*version
}

// Kinds are the names of the kinds that users write.
func (s *Set) Kinds() []string {
	out := make([]string, 0, len(s.kinds))
	for _, k := range s.kinds {
		out = append(out, k.Name)
	}
	return out
}

// Resources returns the resources that users write, ordered by kind, as the catalog has them, and name. Their secrets are
// in stored form.
func (s *Set) Resources() ([]*snapshot.Resource, error) {
	var out []*snapshot.Resource
	for _, v := range s.versions() {
		r, err := v.resource()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Records are all records in the form in which they are streamed, system records included, in no order.
func (s *Set) Records() iter.Seq2[snapshot.Ref, []byte] {
	return func(yield func(snapshot.Ref, []byte) bool) {
		for _, v := range s.all {
			if !yield(v.ref, streamed(v.record)) {
				return
			}
		}
	}
}

// versions lists what users write, ordered by kind and name.
func (s *Set) versions() []*version {
	rank := make(map[string]int, len(s.kinds))
	for i, k := range s.kinds {
		rank[k.Name] = i
	}
	var out []*version
	for at, v := range s.all {
		if _, ok := rank[at.kind]; ok {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *version) int {
		return cmp.Or(cmp.Compare(rank[a.ref.Kind], rank[b.ref.Kind]), cmp.Compare(a.ref.Name, b.ref.Name))
	})
	return out
}

func (v *version) resource() (*snapshot.Resource, error) {
	m, err := v.message()
	if err != nil {
		return nil, err
	}
	return snapshot.NewResource(v.ref, v.revision, v.created, v.updated, v.record, m), nil
}

func (v *version) message() (proto.Message, error) {
	var rec syncv1.Record
	err := proto.Unmarshal(v.record, &rec)
	if err == nil {
		var m proto.Message
		if m, err = record.Message(&rec); err == nil {
			return m, nil
		}
	}
	return nil, problem.Wrap(problem.Unavailable, fmt.Sprintf("%s cannot be read as it was at revision %d: this version of "+
		"keyward does not know its type", catalog.Ref(v.ref.Kind, v.ref.Name), v.revision), err)
}

// Difference is a resource that two sets do not have alike.
type Difference struct {
	Kind, Name string
	// Before and After are the resource, nil where there is none.
	Before, After *snapshot.Resource
}

// Diff returns what has to change to get from one set to the other, ordered by kind and name. A resource that was removed
// and made again is the same if it says the same.
func Diff(before, after *Set) ([]Difference, error) {
	type pair struct{ before, after *version }
	pairs := map[snapshot.Ref]*pair{}
	at := func(v *version) *pair {
		ref := snapshot.Ref{Kind: v.ref.Kind, Name: v.ref.Name}
		if pairs[ref] == nil {
			pairs[ref] = &pair{}
		}
		return pairs[ref]
	}
	for _, v := range before.versions() {
		at(v).before = v
	}
	for _, v := range after.versions() {
		at(v).after = v
	}
	var out []Difference
	for _, p := range pairs {
		if p.before == p.after {
			continue // no change touched it
		}
		d, differs, err := difference(p.before, p.after)
		if err != nil {
			return nil, err
		}
		if differs {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func difference(before, after *version) (d Difference, differs bool, err error) {
	if before != nil {
		d.Kind, d.Name = before.ref.Kind, before.ref.Name
		if d.Before, err = before.resource(); err != nil {
			return d, false, err
		}
	}
	if after != nil {
		d.Kind, d.Name = after.ref.Kind, after.ref.Name
		if d.After, err = after.resource(); err != nil {
			return d, false, err
		}
	}
	return d, !Same(d.Before, d.After), nil
}

// Same reports whether two resources say the same, whoever and whenever wrote them; an unreadable one is like no other.
func Same(a, b *snapshot.Resource) bool {
	switch {
	case a == nil || b == nil:
		return a == b
	case a.Message == nil || b.Message == nil:
		return false
	}
	return bytes.Equal(a.Record, b.Record) || proto.Equal(a.Message, b.Message)
}
