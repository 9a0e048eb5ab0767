package adminapi

import (
	"context"

	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/adminauth"
)

// system serves SystemService.
type system struct {
	adminv1.UnimplementedSystemServiceServer
	version *adminv1.Version
}

// GetVersion answers the version of this replica.
func (s *system) GetVersion(context.Context, *adminv1.GetVersionRequest) (*adminv1.Version, error) {
	return proto.CloneOf(s.version), nil
}

// WhoAmI answers who the token belongs to.
func (s *system) WhoAmI(ctx context.Context, _ *adminv1.WhoAmIRequest) (*adminv1.Identity, error) {
	id := adminauth.FromContext(ctx)
	if id == nil {
		return nil, failure(errNoIdentity)
	}
	return &adminv1.Identity{Name: id.Name, Grants: renderGrants(id.Grants)}, nil
}
