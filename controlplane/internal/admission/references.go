package admission

import (
	"fmt"
	"slices"
	"strings"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// references checks that everything the request's resources refer to is in the resulting set.
func (j *judge) references() {
	for _, e := range j.entries {
		for r := range catalog.References(e.msg) {
			if r.Name == "" || j.set.known(r.Kind, r.Name) {
				continue
			}
			at := problem.Join(e.path, r.Path)
			if o := j.set.over[id{r.Kind, r.Name}]; o != nil && o.entry == nil {
				j.failWith(problem.Conflict, at, "%s is removed by the same request", catalog.Ref(r.Kind, r.Name))
				continue
			}
			if !j.unreadKind(r.Kind) {
				j.fail(at, "there is no %s", catalog.Ref(r.Kind, r.Name))
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
			j.droppedVersions(o.entry)
			continue
		}
		var users []string
		for _, name := range names(o.removed) {
			users = append(users, j.left(o.removed.Kind, name)...)
		}
		if len(users) > 0 {
			slices.Sort(users)
			users = slices.Compact(users)
			j.failWith(problem.Conflict, o.path, "%s is used by %s", catalog.Ref(o.removed.Kind, o.removed.Name), enumerate(users))
		}
	}
}

// left lists what the request leaves alone and what refers to something that is not there any more.
func (j *judge) left(kind, name string) []string {
	if j.set.known(kind, name) {
		return nil
	}
	var users []string
	for m := range j.set.untouched(kind, name) {
		users = append(users, catalog.Ref(m.kind, m.name))
	}
	slices.Sort(users)
	return users
}

// enumerate lists names, at most a handful.
func enumerate(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
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
