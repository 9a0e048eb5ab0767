package adminapi

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/adminauth"
)

// Tokens keeps admin tokens, with an audit row for each change.
type Tokens interface {
	AdminTokens(ctx context.Context) ([]adminauth.Token, error)
	CreateAdminToken(ctx context.Context, actor string, t adminauth.Token) error
	DeleteAdminToken(ctx context.Context, actor, id string) error
}

// Refresher makes this replica know of a change to tokens at once; the others hear of it by wake-up.
type Refresher interface {
	Refresh(ctx context.Context) error
}

const (
	maxGrants   = 256
	maxTokenTTL = 10 * 365 * 24 * time.Hour
)

// tokens serves TokenService.
type tokens struct {
	adminv1.UnimplementedTokenServiceServer
	store     Tokens
	refresher Refresher
	now       func() time.Time
}

// CreateToken makes a token that has at most what its maker has.
func (s *tokens) CreateToken(ctx context.Context, req *adminv1.CreateTokenRequest) (*adminv1.CreateTokenResponse, error) {
	id := adminauth.FromContext(ctx)
	if id == nil {
		return nil, failure(errNoIdentity)
	}
	grants, err := grantsOf(req, id)
	if err != nil {
		return nil, failure(err)
	}
	t, text, err := adminauth.Issue(req.GetName(), grants)
	if err != nil {
		return nil, failure(err)
	}
	t.CreatedAt = s.now().UTC().Truncate(time.Microsecond) // what the database keeps
	if ttl := req.GetTtl().AsDuration(); ttl > 0 {
		t.Expires = t.CreatedAt.Add(ttl)
	}
	if err := s.store.CreateAdminToken(ctx, id.Name, t); err != nil {
		return nil, failure(err)
	}
	return &adminv1.CreateTokenResponse{Token: tokenOf(&t), Secret: text}, nil
}

// grantsOf reads the wanted grants, telling all that is wrong with the request.
func grantsOf(req *adminv1.CreateTokenRequest, id *adminauth.Identity) ([]adminauth.Grant, error) {
	var vs []problem.Violation
	fail := func(path, reason string) { vs = append(vs, problem.Violation{Path: path, Reason: reason}) }
	if !catalog.ValidName(req.GetName()) {
		fail("name", "is not a name: letters, digits and ._@- inside, at most 128 characters")
	}
	if ttl := req.GetTtl().AsDuration(); ttl < 0 || ttl > maxTokenTTL {
		fail("ttl", "must be 0s to 87600h (10 years)")
	}
	if n := len(req.GetGrants()); n == 0 || n > maxGrants {
		fail("grants", "must be 1 to 256")
	}
	var out []adminauth.Grant
	for i, g := range req.GetGrants() {
		at := problem.Index("grants", i)
		if g.GetGroup() != adminauth.Everywhere && !catalog.ValidName(g.GetGroup()) || g.GetGroup() == adminauth.System {
			fail(at+".group", "must be the name of a group, or *")
		}
		role, err := adminauth.ParseRole(g.GetRole())
		if err != nil {
			fail(at+".role", err.Error())
			continue
		}
		out = append(out, adminauth.Grant{Group: g.GetGroup(), Role: role})
	}
	if len(vs) > 0 {
		return nil, problem.Violated(vs)
	}
	for _, g := range out {
		if !id.Covers(g) {
			return nil, problem.Errorf(problem.Forbidden, "nobody can grant more than they have: %s on %s", adminauth.RoleWord(g.Role), g.Group)
		}
	}
	return out, nil
}

// ListTokens answers the tokens without their secret.
func (s *tokens) ListTokens(ctx context.Context, _ *adminv1.ListTokensRequest) (*adminv1.ListTokensResponse, error) {
	list, err := s.store.AdminTokens(ctx)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListTokensResponse{}
	for i := range list {
		out.Tokens = append(out.Tokens, tokenOf(&list[i]))
	}
	return out, nil
}

// DeleteToken makes a token useless, here before it answers.
func (s *tokens) DeleteToken(ctx context.Context, req *adminv1.DeleteTokenRequest) (*adminv1.DeleteTokenResponse, error) {
	if err := s.store.DeleteAdminToken(ctx, actor(ctx), req.GetId()); err != nil {
		return nil, failure(err)
	}
	if err := s.refresher.Refresh(ctx); err != nil {
		return nil, failure(problem.Wrap(problem.Unavailable, "the token is deleted, but this replica could not yet take note of it", fmt.Errorf("refresh tokens: %w", err)))
	}
	return &adminv1.DeleteTokenResponse{}, nil
}

func tokenOf(t *adminauth.Token) *adminv1.Token {
	out := &adminv1.Token{Id: t.ID, Name: t.Name, Grants: renderGrants(t.Grants), CreatedAt: timestamppb.New(t.CreatedAt)}
	if !t.Expires.IsZero() {
		out.Expires = timestamppb.New(t.Expires)
	}
	return out
}

func renderGrants(grants []adminauth.Grant) []*adminv1.Grant {
	out := make([]*adminv1.Grant, 0, len(grants))
	for _, g := range grants {
		out = append(out, &adminv1.Grant{Group: g.Group, Role: adminauth.RoleWord(g.Role)})
	}
	return out
}
