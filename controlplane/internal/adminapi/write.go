package adminapi

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/snapshot"
)

// Put creates or replaces one resource.
func (s *resources) Put(ctx context.Context, req *adminv1.PutRequest) (*adminv1.WriteResponse, error) {
	k, err := s.kind(req.GetKind())
	if err != nil {
		return nil, failure(err)
	}
	name, err := place(k, req.GetParent(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	m, err := unwrap(k, req.GetResource())
	if err != nil {
		return nil, failure(err)
	}
	if err := agree(k, m, req.GetParent(), req.GetName()); err != nil {
		return nil, failure(err)
	}
	out, err := s.writeOne(ctx, one("resources.put", req), admission.Change{
		Kind: k.Name, Name: name, Message: m, Clears: req.GetClear(),
		IfMatch: req.GetIfMatch(), IfNoneMatch: req.GetIfNoneMatch(),
	})
	return out, failure(err)
}

// unwrap takes the resource out of the request. It must be of the kind the place says.
func unwrap(k *catalog.Kind, packed *anypb.Any) (proto.Message, error) {
	if packed == nil {
		return nil, malformed("resource", "must be given")
	}
	m := k.Type.New().Interface()
	if packed.MessageName() != m.ProtoReflect().Descriptor().FullName() {
		return nil, malformed("resource", "is no "+k.Singular)
	}
	if err := packed.UnmarshalTo(m); err != nil {
		return nil, malformed("resource", "cannot be read")
	}
	return m, nil
}

// agree fills in what the place of a resource says about it; a resource that says otherwise is wrong.
func agree(k *catalog.Kind, m proto.Message, parent, name string) error {
	var vs []problem.Violation
	for field, want := range map[string]string{"name": name, k.ParentField: parent} {
		fd := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field))
		if fd == nil || k.Singleton {
			continue
		}
		if got := m.ProtoReflect().Get(fd).String(); got != "" && got != want {
			vs = append(vs, problem.Violation{Path: field, Reason: "does not agree with the place the resource is written to"})
		}
		m.ProtoReflect().Set(fd, protoreflect.ValueOfString(want))
	}
	return problem.Violated(problem.Sort(vs))
}

// patchAttempts bounds how often a patch without a precondition is tried on a resource that others change meanwhile.
const patchAttempts = 5

// Patch changes one resource. The patch is applied to the newest version and stored on the condition that it still is.
func (s *resources) Patch(ctx context.Context, req *adminv1.PatchRequest) (*adminv1.WriteResponse, error) {
	k, err := s.kind(req.GetKind())
	if err != nil {
		return nil, failure(err)
	}
	name, err := place(k, req.GetParent(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	for attempt := 1; ; attempt++ {
		out, err := s.patchOnce(ctx, req, k, name)
		lost := err != nil && problem.Of(err).Code == problem.PreconditionFailed
		if !lost || req.GetIfMatch() != "" || attempt == patchAttempts {
			return out, failure(err)
		}
	}
}

func (s *resources) patchOnce(ctx context.Context, req *adminv1.PatchRequest, k *catalog.Kind, name string) (*adminv1.WriteResponse, error) {
	view, err := s.sets.Fresh(ctx, req.GetGroup())
	if err != nil {
		return nil, err
	}
	r, err := find(view, k, name)
	if err != nil {
		return nil, err
	}
	etag := catalog.ETag(r.Revision)
	if m := req.GetIfMatch(); m != "" && m != "*" && m != etag {
		return nil, problem.Errorf(problem.PreconditionFailed, "the %s has the entity tag %q", k.Singular, etag)
	}
	base, err := visible(r, nil)
	if err != nil {
		return nil, err
	}
	item, violations := s.catalog.Patch(base, req.GetMergePatch(), catalog.Place{Parent: req.GetParent(), Name: req.GetName()})
	if err := problem.Violated(violations); err != nil {
		return nil, err
	}
	return s.writeOne(ctx, one("resources.patch", req), admission.Change{
		Kind: k.Name, Name: name, Message: item.Message, Clears: item.Clears, IfMatch: etag,
	})
}

// Delete removes one resource.
func (s *resources) Delete(ctx context.Context, req *adminv1.DeleteRequest) (*adminv1.WriteResponse, error) {
	k, err := s.kind(req.GetKind())
	if err != nil {
		return nil, failure(err)
	}
	name, err := place(k, req.GetParent(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	if k.Singleton {
		return nil, failure(problem.Errorf(problem.Conflict, "a group always has %s; put the defaults instead", k.Singular))
	}
	change := admission.Change{Op: admission.OpDelete, Kind: k.Name, Name: name, IfMatch: req.GetIfMatch()}
	if k.Name == certs.Kind && certs.IsID(name) {
		if change, err = s.deletionByID(ctx, req, k, name); err != nil {
			return nil, failure(err)
		}
	}
	out, err := s.writeOne(ctx, one("resources.delete", req), change)
	if out != nil {
		out.Resource = nil
	}
	return out, failure(err)
}

// one is the request to write one resource, as the caller wants it.
func one(action string, req interface {
	GetGroup() string
	GetDryRun() bool
	GetImmediate() bool
},
) configsvc.Request {
	return configsvc.Request{Action: action, Group: req.GetGroup(), DryRun: req.GetDryRun(), Immediate: req.GetImmediate()}
}

// writeOne writes one resource and answers what became of it.
func (s *resources) writeOne(ctx context.Context, req configsvc.Request, c admission.Change) (*adminv1.WriteResponse, error) {
	req.Changes = []admission.Change{c}
	res, err := s.write(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &adminv1.WriteResponse{Revision: res.Revision, Changed: res.Changed, Warnings: notices(res.Warnings)}
	var stored *snapshot.Resource
	if res.View != nil && c.Message != nil {
		stored, _ = res.View.Get(c.Kind, c.Name)
	}
	for _, it := range res.Items {
		if it.Kind == c.Kind && it.Name == c.Name {
			out.Created = it.Before == nil && it.After != nil
			stored = it.After
		}
	}
	if out.Resource, err = render(stored, viewOf(res)); err != nil {
		return nil, err
	}
	return out, nil
}

// viewOf is where to look for what uses a resource that was written; a dry run leaves none of it.
func viewOf(res configsvc.Result) admission.View {
	if res.View == nil {
		return nil
	}
	return res.View
}

func notices(vs []problem.Violation) []*adminv1.Notice {
	out := make([]*adminv1.Notice, 0, len(vs))
	for _, v := range vs {
		out = append(out, &adminv1.Notice{Path: v.Path, Message: v.Reason})
	}
	return out
}

// actor is what the audit trail calls the caller.
func actor(ctx context.Context) string {
	if id := adminauth.FromContext(ctx); id != nil {
		return id.Name
	}
	return ""
}

// errNoIdentity guards against a server that was wired without interceptors.
var errNoIdentity = errors.New("the caller is not known")
