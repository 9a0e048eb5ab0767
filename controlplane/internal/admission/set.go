package admission

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"keyward.dev/controlplane/internal/snapshot"
)

// set is the group as it would be: the view with the wanted changes over it.
type set struct {
	view View
	over map[id]*overlay
	// ids are those of the certificates that the request puts, worked out when first asked for: after they were brought into
	// stored form.
	ids map[string]bool
}

type id struct{ kind, name string }

// overlay is what a change makes of a resource.
type overlay struct {
	entry   *entry             // nil: removed
	removed *snapshot.Resource // what is removed
	path    string             // place of the change, for a removal
}

func newSet(view View) *set { return &set{view: view, over: map[id]*overlay{}} }

// member is a resource of the resulting set.
type member struct {
	kind, name string
	msg        proto.Message // nil if it is stored but unreadable
	entry      *entry        // nil if it is not part of the request
}

// path is the place in the document of a resource that is part of the request, else fallback.
func (m member) path(fallback string) string {
	if m.entry != nil {
		return m.entry.path
	}
	return fallback
}

func (s *set) get(kind, name string) (member, bool) {
	if o := s.over[id{kind, name}]; o != nil {
		if o.entry == nil {
			return member{}, false
		}
		return member{kind, name, o.entry.msg, o.entry}, true
	}
	if r, ok := s.view.Get(kind, name); ok {
		return member{kind, name, r.Message, nil}, true
	}
	return member{}, false
}

// all yields the resources of a kind in the resulting set: first those that are left alone, then those of the request.
func (s *set) all(kind string) iter.Seq[member] {
	return func(yield func(member) bool) {
		for r := range s.view.All(kind) {
			if s.over[id{kind, r.Name}] == nil && !yield(member{kind, r.Name, r.Message, nil}) {
				return
			}
		}
		for _, o := range s.sorted() {
			if e := o.entry; e != nil && e.kind.Name == kind && !yield(member{kind, e.name, e.msg, e}) {
				return
			}
		}
	}
}

// untouched yields the resources that use the one of a kind and name, or have that mark, and that the request leaves
// alone.
func (s *set) untouched(kind, name string) iter.Seq[member] {
	return func(yield func(member) bool) {
		for ref := range s.view.References(kind, name) {
			if s.over[id{ref.Kind, ref.Name}] != nil { // what the request puts was checked with what it refers to
				continue
			}
			if m, ok := s.get(ref.Kind, ref.Name); ok && !yield(m) {
				return
			}
		}
	}
}

// sorted lists the overlays by kind and name.
func (s *set) sorted() []*overlay {
	keys := slices.SortedFunc(maps.Keys(s.over), func(a, b id) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	out := make([]*overlay, len(keys))
	for i, k := range keys {
		out[i] = s.over[k]
	}
	return out
}

func (s *set) deletes() []snapshot.Ref {
	var refs []snapshot.Ref
	for _, o := range s.sorted() {
		if o.entry == nil {
			refs = append(refs, snapshot.Ref{Kind: o.removed.Kind, UID: o.removed.UID, Name: o.removed.Name})
		}
	}
	return refs
}
