package adminapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// Sets gives the opened sets of groups.
type Sets interface {
	// Group answers from memory once the group is open.
	Group(ctx context.Context, name string) (*snapshot.Group, error)
	// Fresh catches up with the database first.
	Fresh(ctx context.Context, name string) (*snapshot.View, error)
}

// History reads committed changes, newest first, from before a revision (0: from the newest).
type History interface {
	History(ctx context.Context, group string, before int64, limit int) ([]store.Change, error)
}

// Past answers what a group held at past revisions; *history.Log does.
type Past interface {
	At(ctx context.Context, group string, revisions ...int64) ([]*history.Set, error)
}

// resources serves ResourceService.
type resources struct {
	adminv1.UnimplementedResourceServiceServer
	catalog *catalog.Catalog
	sets    Sets
	writer  Writer
	history History
	past    Past
	skills  Skills
	newer   func(proto.Message) map[string]uint32
	now     func() time.Time
	// issuance has certificates issued.
	issuance Issuance
	uses     Uses
	// applies bounds how many documents are held in memory at once.
	applies chan struct{}
}

// kind finds a kind users write.
func (s *resources) kind(name string) (*catalog.Kind, error) {
	k, ok := s.catalog.Kind(name)
	if !ok {
		return nil, problem.Errorf(problem.NotFound, "there is no kind %q", name)
	}
	return k, nil
}

// place checks that the parts of a name fit the kind and returns the stored name.
func place(k *catalog.Kind, parent, name string) (string, error) {
	switch {
	case k.Singleton && (name != "" && name != k.Name || parent != ""):
		return "", problem.Errorf(problem.NotFound, "a group has one %s, without a name", k.Singular)
	case !k.Singleton && !catalog.ValidName(name):
		return "", malformed("name", "is not a name")
	case k.Parent != "" && !catalog.ValidName(parent):
		return "", malformed("parent", "is not a name")
	case k.Parent == "" && parent != "":
		return "", malformed("parent", fmt.Sprintf("%s belong to nobody", k.Name))
	}
	return k.StoredName(parent, name), nil
}

// view returns the set of a group at a revision not below the one asked for, waiting for it if this replica has yet to
// hear of it.
func (s *resources) view(ctx context.Context, group string, atLeast int64) (*snapshot.View, error) {
	g, err := s.sets.Group(ctx, group)
	if err != nil {
		return nil, err
	}
	view := g.View()
	if view.Revision < atLeast {
		if view, err = s.sets.Fresh(ctx, group); err != nil {
			return nil, err
		}
	}
	if view.Revision < atLeast {
		if view, err = await(ctx, g, atLeast); err != nil {
			return nil, err
		}
	}
	setRevision(ctx, view.Revision)
	return view, nil
}

// revisionWait bounds waiting for a revision that may never come.
const revisionWait = 10 * time.Second

// await follows the group's changes until the revision is there.
func await(ctx context.Context, g *snapshot.Group, atLeast int64) (*snapshot.View, error) {
	ctx, cancel := context.WithTimeout(ctx, revisionWait)
	defer cancel()
	for {
		view, cursor := g.Subscribe()
		if view.Revision >= atLeast {
			return view, nil
		}
		_, err := cursor.Next(ctx)
		if err != nil && !errors.Is(err, snapshot.ErrTooOld) {
			return nil, problem.Wrap(problem.Unavailable, fmt.Sprintf("the group is at revision %d, not yet at %d", view.Revision, atLeast), err)
		}
	}
}

// setRevision tells the caller the revision an answer was made at.
func setRevision(ctx context.Context, revision int64) {
	// It fails only where there is no stream to set it on, which is a direct call in a test.
	_ = grpc.SetHeader(ctx, metadata.Pairs(revisionKey, strconv.FormatInt(revision, 10)))
}

// Get answers one resource.
func (s *resources) Get(ctx context.Context, req *adminv1.GetRequest) (*adminv1.Resource, error) {
	k, err := s.kind(req.GetKind())
	if err != nil {
		return nil, failure(err)
	}
	name, err := place(k, req.GetParent(), req.GetName())
	if err != nil {
		return nil, failure(err)
	}
	view, err := s.view(ctx, req.GetGroup(), req.GetMinRevision())
	if err != nil {
		return nil, failure(err)
	}
	r, err := find(view, k, name)
	if err != nil {
		return nil, failure(err)
	}
	out, err := render(r, view)
	if err != nil {
		return nil, failure(err)
	}
	if err := s.tellUses(ctx, k.Name, out); err != nil {
		return nil, failure(err)
	}
	return &adminv1.Resource{Kind: k.Name, Resource: out, AtRevision: view.Revision}, nil
}

// find answers a resource by its name; a certificate also by the id of one of its versions.
func find(view *snapshot.View, k *catalog.Kind, name string) (*snapshot.Resource, error) {
	r, ok := view.Get(k.Name, name)
	if !ok && k.Name == certs.Kind && certs.IsID(name) {
		if holder, held := view.Claimant(claims.Certificate(name)); held {
			r, ok = view.Get(holder.Kind, holder.Name)
		}
	}
	if !ok {
		return nil, problem.Errorf(problem.NotFound, "there is no %s %s", k.Singular, name)
	}
	return r, nil
}

// List answers a page of resources of one kind.
func (s *resources) List(ctx context.Context, req *adminv1.ListRequest) (*adminv1.ListResponse, error) {
	k, err := s.kind(req.GetKind())
	if err != nil {
		return nil, failure(err)
	}
	if k.Parent != "" && !catalog.ValidName(req.GetParent()) || k.Parent == "" && req.GetParent() != "" {
		return nil, failure(malformed("parent", "does not fit the kind"))
	}
	view, err := s.view(ctx, req.GetGroup(), req.GetMinRevision())
	if err != nil {
		return nil, failure(err)
	}
	if owner, ok := s.catalog.Kind(k.Parent); ok {
		if _, err := find(view, owner, req.GetParent()); err != nil {
			return nil, failure(err)
		}
	}
	pick, err := s.picker(view, k, req)
	if err != nil {
		return nil, failure(err)
	}
	if len(req.GetNames()) > 0 {
		out, err := several(view, k, req)
		return out, failure(err)
	}
	out, err := page(view, k, req, pick)
	if err == nil {
		err = s.tellUses(ctx, k.Name, out.Resources...)
	}
	return out, failure(err)
}

// picker answers which resources a list is about beside what its selector says; nil: all.
func (s *resources) picker(view *snapshot.View, k *catalog.Kind, req *adminv1.ListRequest) (func(proto.Message) bool, error) {
	if len(req.GetNames()) > 0 && (k.Name != certs.Kind || req.GetSelector() != "" || req.GetPageToken() != "" || req.GetExpiringWithin() != nil) {
		return nil, malformed("names", "goes with certificates, and with nothing else")
	}
	within := req.GetExpiringWithin()
	switch {
	case within == nil:
		return nil, nil
	case k.Name != certs.Kind && k.Name != certs.KindCA:
		return nil, malformed("expiring_within", fmt.Sprintf("does not go with %s", k.Name))
	case within.CheckValid() != nil || within.AsDuration() < 0:
		return nil, malformed("expiring_within", "must not be negative")
	}
	before := s.now().Add(within.AsDuration())
	return func(m proto.Message) bool { return expires(view.Resolved(m), before) }, nil
}

// several answers the resources that the request names, in its order.
func several(view *snapshot.View, k *catalog.Kind, req *adminv1.ListRequest) (*adminv1.ListResponse, error) {
	if len(req.GetNames()) > maxNames {
		return nil, malformed("names", fmt.Sprintf("are more than %d", maxNames))
	}
	out, bytes := &adminv1.ListResponse{AtRevision: view.Revision}, 0
	for _, name := range req.GetNames() {
		r, err := find(view, k, name)
		if err != nil {
			return nil, err
		}
		resource, err := render(r, view)
		if err != nil {
			return nil, err
		}
		if bytes += proto.Size(resource); bytes > maxPageBytes {
			return nil, malformed("names", "are too many for one answer")
		}
		out.Resources = append(out.Resources, resource)
	}
	return out, nil
}

// maxNames bounds the resources that a list names.
const maxNames = 100

// page collects the resources of one page. Those that cannot be read are left out of lists; a Get names them.
func page(view *snapshot.View, k *catalog.Kind, req *adminv1.ListRequest, pick func(proto.Message) bool) (*adminv1.ListResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	sel, err := parseSelector(req.GetSelector())
	if err != nil {
		return nil, err
	}
	list := strings.Join([]string{req.GetGroup(), k.Name, req.GetParent(), req.GetSelector(), req.GetExpiringWithin().AsDuration().String()}, "\x01")
	last, err := afterToken(list, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	prefix, start, bytes := "", last+"\x01", 0 // no name has a character as low as \x01
	if k.Parent != "" {
		prefix = req.GetParent() + "/"
	}
	if last == "" {
		start = prefix
	}
	out := &adminv1.ListResponse{AtRevision: view.Revision}
	for r := range view.From(k.Name, start) {
		if !strings.HasPrefix(r.Name, prefix) {
			break
		}
		if r.Message == nil || !sel.matches(r.Labels) || pick != nil && !pick(r.Message) {
			continue
		}
		if len(out.Resources) > 0 && (len(out.Resources) == size || bytes+len(r.Record) > maxPageBytes) {
			out.NextPageToken = pageToken(list, last)
			break
		}
		resource, err := render(r, view)
		if err != nil {
			return nil, err
		}
		out.Resources = append(out.Resources, resource)
		bytes, last = bytes+proto.Size(resource), r.Name
	}
	return out, nil
}
