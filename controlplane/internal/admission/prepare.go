package admission

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyward.dev/controlplane/internal/snapshot"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// take lays the wanted changes over the view.
func (j *judge) take() {
	for _, c := range j.req.Changes {
		k, ok := j.catalog.Kind(c.Kind)
		if !ok {
			j.failWith(problem.NotFound, c.Path, "unknown kind %q", c.Kind)
			continue
		}
		if c.Op == OpDelete {
			j.takeDelete(k, c)
			continue
		}
		j.takeUpsert(k, c)
	}
}

func (j *judge) takeUpsert(k *catalog.Kind, c Change) {
	if c.Message == nil || c.Message.ProtoReflect().Descriptor() != k.Type.Descriptor() {
		j.fail(c.Path, "is not a %s", k.Singular)
		return
	}
	e := &entry{change: c, kind: k, path: c.Path, msg: proto.Clone(c.Message), name: k.NameOf(c.Message)}
	if c.Name != "" && c.Name != e.name {
		j.fail(problem.Join(c.Path, "name"), "does not agree with the place where it is written, %q", c.Name)
	}
	if stored, ok := j.set.view.Get(k.Name, e.name); ok {
		e.stored = stored
	}
	j.precondition(k, c, e.name, e.stored)
	j.entries = append(j.entries, e)
	if strings.HasSuffix("/"+e.name, "/") {
		return // without a name it is nobody's neighbour; the schema tells that it needs one
	}
	if other := j.set.over[id{k.Name, e.name}]; other != nil {
		j.fail(problem.Join(c.Path, "name"), "%q is named twice in one request", e.name)
		return
	}
	j.set.over[id{k.Name, e.name}] = &overlay{entry: e}
}

func (j *judge) takeDelete(k *catalog.Kind, c Change) {
	stored, ok := j.set.view.Get(k.Name, c.Name)
	switch {
	case k.Singleton:
		j.failWith(problem.Conflict, c.Path, "%s cannot be deleted: every group has them", k.Name)
	case !ok:
		j.failWith(problem.NotFound, c.Path, "there is no %s %q", k.Singular, c.Name)
	case j.set.over[id{k.Name, c.Name}] != nil:
		j.fail(c.Path, "%q is named twice in one request", c.Name)
	default:
		j.precondition(k, c, c.Name, stored)
		j.set.over[id{k.Name, c.Name}] = &overlay{removed: stored, path: c.Path}
	}
}

// prune removes what the request does not put.
func (j *judge) prune() {
	kinds := map[string]bool{}
	for _, name := range j.req.PruneKinds {
		kinds[name] = true
	}
	for _, k := range j.catalog.Kinds() {
		if k.Singleton || len(kinds) > 0 && !kinds[k.Name] {
			continue
		}
		for r := range j.set.view.All(k.Name) {
			if key := (id{k.Name, r.Name}); j.set.over[key] == nil {
				j.set.over[key] = &overlay{removed: r}
			}
		}
	}
}

// precondition checks the entity tags that the request demands (RFC 9110 section 13.1).
func (j *judge) precondition(k *catalog.Kind, c Change, name string, stored *snapshot.Resource) {
	match := strings.Trim(strings.TrimPrefix(c.IfMatch, "W/"), `"`)
	switch {
	case c.IfMatch != "" && stored == nil:
		j.failWith(problem.PreconditionFailed, c.Path, "there is no %s %q", k.Singular, name)
	case match != "" && match != "*" && match != catalog.ETag(stored.Revision):
		j.failWith(problem.PreconditionFailed, c.Path, "%s %q was changed: its entity tag is %s", k.Singular, name, catalog.ETag(stored.Revision))
	case c.IfNoneMatch == "*" && stored != nil:
		j.failWith(problem.PreconditionFailed, c.Path, "%s %q exists", k.Singular, name)
	case c.IfNoneMatch != "" && c.IfNoneMatch != "*":
		j.fail(c.Path, "If-None-Match can only be *")
	}
}

// prepare brings one resource into stored form and checks everything that it alone can break.
func (j *judge) prepare(e *entry) error {
	j.outputOnly(e)
	vs := j.catalog.Normalize(e.msg)
	j.certificate(e)
	if len(vs) == 0 || onlyBelow(vs) {
		vs = append(vs, fresh(check.Resource(e.msg), vs)...)
	}
	vs = append(vs, j.validate(e.msg, vs)...)
	broken := len(vs) > 0
	j.violations = append(j.violations, problem.Under(e.path, vs)...)
	if err := j.secrets(e, broken); err != nil {
		return fmt.Errorf("%s: %w", catalog.Ref(e.kind.Name, e.name), err)
	}
	if !broken {
		j.provider(e)
		j.sharedStore(e)
		j.certificatePaths(e)
		j.signingKey(e)
		j.directories(e)
	}
	if size := proto.Size(e.msg); size > j.limits.ResourceBytes {
		j.failWith(problem.TooLarge, e.path, "has %d bytes; a resource has at most %d", size, j.limits.ResourceBytes)
	}
	return nil
}

// onlyBelow reports whether all violations are inside the resource, so that the rest of it can be checked.
func onlyBelow(vs []problem.Violation) bool {
	for _, v := range vs {
		if v.Path == "" {
			return false
		}
	}
	return true
}

// fresh leaves out violations of places of which something else was told already: they would only say it again.
func fresh(vs, told []problem.Violation) []problem.Violation {
	return slices.DeleteFunc(vs, func(v problem.Violation) bool {
		return slices.ContainsFunc(told, func(t problem.Violation) bool { return within(v.Path, t.Path) })
	})
}

// within reports whether a path is equal to another or inside it. A broken `type` takes the `config` beside it along,
// whose meaning depends on it.
func within(path, whole string) bool {
	if len(path) >= len(whole) && problem.Overlap(path, whole) {
		return whole != "" || path == ""
	}
	beside, ok := strings.CutSuffix(whole, "type")
	return ok && len(path) >= len(beside+"config") && problem.Overlap(path, beside+"config")
}

// outputOnly lets fields that the server sets pass if they repeat its answer, and removes them.
func (j *judge) outputOnly(e *entry) {
	j.certificateInfo(e)
	if c, ok := e.msg.(*configv1.Credential); ok {
		c.LastUsed = nil // moves by itself: nobody can repeat it
	}
	written := j.catalog.OutputFields(e.msg)
	if len(written) == 0 {
		return
	}
	truth := e.kind.Type.New()
	if e.stored != nil {
		catalog.SetOutput(truth.Interface(), catalog.Output{
			UID: e.stored.UID, Revision: e.stored.Revision, CreatedAt: e.stored.CreatedAt, UpdatedAt: e.stored.UpdatedAt,
		})
		Output(truth.Interface(), j.set.view, e.stored)
	}
	for _, fd := range written {
		if !sameField(e.msg.ProtoReflect(), truth, fd) {
			j.fail(problem.Join(e.path, string(fd.Name())), "is set by the server; leave it out, or write what the server answered")
		}
	}
	j.catalog.ClearOutput(e.msg)
}

func sameField(a, b protoreflect.Message, fd protoreflect.FieldDescriptor) bool {
	return b.Has(fd) && a.Get(fd).Equal(b.Get(fd))
}
