package configsvc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// credentials is the kind that a rollback leaves alone unless it is told otherwise.
const credentials = "credentials"

// Past answers what a group held at past revisions; *history.Log does.
type Past interface {
	At(ctx context.Context, group string, revisions ...int64) ([]*history.Set, error)
}

// RollbackRequest asks for the resources of an earlier revision.
type RollbackRequest struct {
	// Actor is who asks, for the audit trail.
	Actor string
	Group string
	// To is the revision whose resources shall hold again.
	To int64
	// IfRevision is where the group must be; 0: wherever it is.
	IfRevision int64
	// Credentials brings the credentials back as well. Otherwise they stay as they are, because a credential that was
	// deleted or replaced since may have been so for a reason; only those whose consumer goes, go with it.
	Credentials bool
	// DryRun does everything but store.
	DryRun bool
}

// RollbackResult is what a rollback did, or with DryRun would do.
type RollbackResult struct {
	Result
	// CredentialsLeft is how many credentials differ from those of the revision and were left alone.
	CredentialsLeft int
}

// Rollback makes the resources of a group what they were at a revision, in one new revision that is admitted like any
// other change. Secrets come back as they were stored then and are never opened for it.
func (s *Service) Rollback(ctx context.Context, req RollbackRequest) (RollbackResult, error) {
	if req.To < 1 {
		return RollbackResult{}, problem.Violated([]problem.Violation{{Path: "to", Reason: "say which revision; the first is 1"}})
	}
	// Before any lock: what a revision holds never changes, and reading a long history takes its time.
	sets, err := s.cfg.History.At(ctx, req.Group, req.To)
	if err != nil {
		return RollbackResult{}, err
	}
	then, err := sets[0].Resources()
	if err != nil {
		return RollbackResult{}, err
	}
	var b *rollback
	write := Request{
		Actor: req.Actor, Action: "resources.rollback", Group: req.Group, DryRun: req.DryRun, Note: note(req), Immediate: true,
	}
	res, err := s.commit(ctx, req.Group, req.DryRun, func(view *snapshot.View) (*plan, error) {
		if err := current(view, req, sets[0].Epoch); err != nil {
			return nil, err
		}
		b = &rollback{req: req, view: view, then: then, kinds: sets[0].Kinds()}
		return s.admit(view, write, b.wanted())
	})
	if err != nil {
		return RollbackResult{}, err
	}
	res.Warnings = append(res.Warnings, b.warnings(res.Items)...)
	return RollbackResult{Result: res, CredentialsLeft: b.left}, nil
}

func note(req RollbackRequest) string {
	if req.Credentials {
		return fmt.Sprintf("rollback to %d with credentials", req.To)
	}
	return fmt.Sprintf("rollback to %d", req.To)
}

// current checks that the head is still the one that the caller, and the history, speak of.
func current(view *snapshot.View, req RollbackRequest, epoch uint64) error {
	switch {
	case view.Epoch != epoch:
		return problem.Errorf(problem.Unavailable, "the database was rewound meanwhile; nothing was stored, try again")
	case req.IfRevision != 0 && req.IfRevision != view.Revision:
		return problem.Errorf(problem.PreconditionFailed, "group %s is at revision %d, not %d: somebody changed it meanwhile; nothing was stored",
			req.Group, view.Revision, req.IfRevision)
	}
	return nil
}

// rollback works out what a rollback wants of the view.
type rollback struct {
	req  RollbackRequest
	view *snapshot.View
	then []*snapshot.Resource
	// kinds are all that users write.
	kinds []string
	left  int
}

// wanted is every resource of then, and that nothing else of its kinds stays.
func (b *rollback) wanted() admission.Request {
	out := admission.Request{Prune: true, PruneKinds: b.kinds}
	consumers, keys := map[string]bool{}, map[string]*snapshot.Resource{}
	for _, r := range b.then {
		switch r.Kind {
		case "consumers":
			consumers[r.Name] = true
		case credentials:
			keys[r.Name] = r
		}
		if r.Kind != credentials || b.req.Credentials {
			out.Changes = append(out.Changes, admission.Change{
				Kind: r.Kind, Name: r.Name, Path: catalog.Ref(r.Kind, r.Name), Message: r.Message, Restored: true,
			})
		}
	}
	if !b.req.Credentials {
		out.PruneKinds = slices.DeleteFunc(b.kinds, func(kind string) bool { return kind == credentials })
		out.Changes = append(out.Changes, b.orphans(consumers)...)
		b.left = b.differing(keys, consumers)
	}
	return out
}

// orphans removes the credentials whose consumers go.
func (b *rollback) orphans(consumers map[string]bool) []admission.Change {
	var out []admission.Change
	for r := range b.view.All(credentials) {
		if !consumers[owner(r.Name)] {
			out = append(out, admission.Change{Op: admission.OpDelete, Kind: credentials, Name: r.Name, Path: catalog.Ref(r.Kind, r.Name)})
		}
	}
	return out
}

// differing counts the credentials that are left as they are although they were not so then.
func (b *rollback) differing(then map[string]*snapshot.Resource, consumers map[string]bool) int {
	n, seen := 0, 0
	for r := range b.view.All(credentials) {
		old := then[r.Name]
		if old != nil {
			seen++
		}
		if consumers[owner(r.Name)] && !history.Same(old, r) {
			n++
		}
	}
	return n + len(then) - seen
}

// owner is the consumer in the stored name of a credential.
func owner(name string) string {
	consumer, _, _ := strings.Cut(name, "/")
	return consumer
}

// warnings say what a rollback means for who can call.
func (b *rollback) warnings(items []Item) []problem.Violation {
	var out []problem.Violation
	warn := func(n int, one, many string) {
		switch {
		case n == 1:
			out = append(out, problem.Violation{Reason: "1 credential " + one})
		case n > 1:
			out = append(out, problem.Violation{Reason: fmt.Sprintf("%d credentials %s", n, many)})
		}
	}
	count := map[string]int{}
	for _, it := range items {
		if it.Kind == credentials {
			count[it.Action]++
		}
	}
	then := fmt.Sprintf(" at revision %d", b.req.To)
	warn(b.left, "differs from what it was"+then+" and is left as it is", "differ from what they were"+then+" and are left as they are")
	warn(count["create"], "that was deleted since is valid again", "that were deleted since are valid again")
	warn(count["update"], "is again what it was"+then, "are again what they were"+then)
	warn(count["delete"], "that was not there"+then+" is removed", "that were not there"+then+" are removed")
	return out
}
