package adminapi

import (
	"context"
	"encoding/hex"
	"errors"
	"sync/atomic"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/store"
)

// Directory knows which groups there are and where they stand.
type Directory interface {
	Groups(ctx context.Context) ([]store.Group, error)
	Heads(ctx context.Context) ([]store.HeadStamp, error)
}

// GroupCreator makes groups, with keyring, pepper, head and audit row.
type GroupCreator interface {
	CreateGroup(ctx context.Context, actor, name, description string) error
}

// groups serves GroupService.
type groups struct {
	adminv1.UnimplementedGroupServiceServer
	directory Directory
	creator   GroupCreator
	sets      Sets
	gateways  Gateways
	// last is what the directory said when it last could: lists go on while the database is down.
	last atomic.Pointer[directory]
}

type directory struct {
	groups []store.Group
	heads  map[string]store.HeadStamp
}

func (s *groups) read(ctx context.Context) (*directory, error) {
	list, err := s.directory.Groups(ctx)
	if err == nil {
		var stamps []store.HeadStamp
		if stamps, err = s.directory.Heads(ctx); err == nil {
			d := &directory{groups: list, heads: make(map[string]store.HeadStamp, len(stamps))}
			for _, h := range stamps {
				d.heads[h.Group] = h
			}
			s.last.Store(d)
			return d, nil
		}
	}
	if d := s.last.Load(); d != nil && errors.Is(err, store.ErrUnavailable) {
		return d, nil
	}
	return nil, err
}

// CreateGroup makes a group.
func (s *groups) CreateGroup(ctx context.Context, req *adminv1.CreateGroupRequest) (*adminv1.Group, error) {
	switch {
	case !catalog.ValidName(req.GetName()):
		return nil, failure(violation("name", "is not a name: letters, digits and ._@- inside, at most 128 characters"))
	case req.GetName() == adminauth.System:
		return nil, failure(violation("name", "is reserved"))
	case len(req.GetDescription()) > 1024:
		return nil, failure(violation("description", "must have at most 1024 bytes"))
	}
	if err := s.creator.CreateGroup(ctx, actor(ctx), req.GetName(), req.GetDescription()); err != nil {
		return nil, failure(err)
	}
	return s.one(ctx, req.GetName())
}

// ListGroups answers the groups the caller has a role in.
func (s *groups) ListGroups(ctx context.Context, _ *adminv1.ListGroupsRequest) (*adminv1.ListGroupsResponse, error) {
	id := adminauth.FromContext(ctx)
	if id == nil {
		return nil, failure(errNoIdentity)
	}
	d, err := s.read(ctx)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListGroupsResponse{}
	for _, g := range d.groups {
		if id.RoleIn(g.Name) >= optionsv1.Role_ROLE_VIEWER {
			out.Groups = append(out.Groups, s.render(ctx, d, g))
		}
	}
	return out, nil
}

// GetGroup answers one group.
func (s *groups) GetGroup(ctx context.Context, req *adminv1.GetGroupRequest) (*adminv1.Group, error) {
	return s.one(ctx, req.GetGroup())
}

func (s *groups) one(ctx context.Context, name string) (*adminv1.Group, error) {
	d, err := s.read(ctx)
	if err != nil {
		return nil, failure(err)
	}
	for _, g := range d.groups {
		if g.Name != name {
			continue
		}
		out := s.render(ctx, d, g)
		set, err := s.sets.Group(ctx, name)
		if err != nil {
			return nil, failure(err)
		}
		view := set.View()
		out.Epoch, out.Revision, out.Digest = view.Epoch, view.Revision, hex.EncodeToString(view.Digest[:])
		setRevision(ctx, view.Revision)
		return out, nil
	}
	return nil, failure(problem.Errorf(problem.NotFound, "there is no group %s", name))
}

// render leaves the digest out: it needs the group opened.
func (s *groups) render(ctx context.Context, d *directory, g store.Group) *adminv1.Group {
	h := d.heads[g.Name]
	out := &adminv1.Group{
		Name: g.Name, Uid: g.UID, Description: g.Description, Epoch: h.Epoch, Revision: h.Revision, CreatedAt: timestamp(g.CreatedAt),
	}
	if n, err := s.gateways.ConnectedIn(ctx, g.Name); err == nil { // a number for people: not worth failing for
		out.ConnectedGateways = count(n)
	}
	return out
}
