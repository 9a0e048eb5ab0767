package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// reference is a field that names a resource.
type reference struct {
	path, kind, name string
}

// references checks that everything the request's resources refer to is in the resulting set.
func (j *judge) references() {
	for _, e := range j.entries {
		for _, r := range referencesOf(e.msg) {
			if _, ok := j.set.get(r.kind, r.name); ok || r.name == "" {
				continue
			}
			at := problem.Join(e.path, r.path)
			if o := j.set.over[id{r.kind, r.name}]; o != nil {
				j.failWith(problem.Conflict, at, "%s is removed by the same request", catalog.Ref(r.kind, r.name))
				continue
			}
			if !j.unreadKind(r.kind) {
				j.fail(at, "there is no %s", catalog.Ref(r.kind, r.name))
			}
		}
	}
}

// unreadKind reports whether the document has resources, perhaps of the kind, whose name could not be read: a broken
// name or element, or a key that is no kind. Then nobody can say which names are missing.
func (j *judge) unreadKind(kind string) bool {
	return slices.ContainsFunc(j.req.Faults, func(v problem.Violation) bool {
		top, rest := v.Path, ""
		if i := strings.IndexAny(v.Path, ".["); i >= 0 {
			top, rest = v.Path[:i], v.Path[i:]
		}
		if _, known := j.catalog.Kind(top); !known && rest == "" && top != "" {
			return true
		}
		_, field, _ := strings.Cut(rest, "]")
		return top == kind && (field == "" || field == ".name")
	})
}

// removals refuses to remove what the rest of the group uses.
func (j *judge) removals() {
	for _, o := range j.set.sorted() {
		if o.entry != nil {
			continue
		}
		var users []string
		for ref := range j.set.view.References(o.removed.Kind, o.removed.Name) {
			if j.set.over[id{ref.Kind, ref.Name}] == nil { // what the request puts was checked with what it refers to
				users = append(users, catalog.Ref(ref.Kind, ref.Name))
			}
		}
		if len(users) > 0 {
			slices.Sort(users)
			users = slices.Compact(users)
			j.failWith(problem.Conflict, o.path, "%s is used by %s", catalog.Ref(o.removed.Kind, o.removed.Name), enumerate(users))
		}
	}
}

// enumerate lists names, at most a handful.
func enumerate(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// referencesOf lists everything a message refers to, also from configurations, ordered by path.
func referencesOf(m proto.Message) []reference {
	w := &referenceWalk{}
	w.message(m.ProtoReflect(), "")
	slices.SortFunc(w.found, func(a, b reference) int {
		return cmp.Or(problem.ComparePaths(a.path, b.path), cmp.Compare(a.name, b.name))
	})
	return w.found
}

type referenceWalk struct{ found []reference }

func (w *referenceWalk) message(m protoreflect.Message, path string) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := packed.UnmarshalNew(); err == nil {
			w.message(inner.ProtoReflect(), path)
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := problem.Key(path, string(fd.Name()))
		switch {
		case fd.IsMap(): // no kind has references in maps
		case fd.IsList():
			for i := range v.List().Len() {
				w.value(fd, v.List().Get(i), problem.Index(at, i))
			}
		default:
			w.value(fd, v, at)
		}
		return true
	})
}

func (w *referenceWalk) value(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
	o, _ := proto.GetExtension(fd.Options(), optionsv1.E_Field).(*optionsv1.FieldOptions)
	switch {
	case o.GetReference() != "":
		w.found = append(w.found, reference{path, o.GetReference(), v.String()})
	case fd.Message() != nil:
		w.message(v.Message(), path)
	}
}

// quota bounds what the group holds.
func (j *judge) quota() {
	created := 0
	for _, o := range j.set.over {
		switch {
		case o.entry == nil:
			created--
		case o.entry.stored == nil:
			created++
		}
	}
	if total := j.set.view.Len() + created; created > 0 && total > j.limits.Resources {
		j.fail("", "the group would have %d resources; it may have %d", total, j.limits.Resources)
	}
}
