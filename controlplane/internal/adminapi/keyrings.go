package adminapi

import (
	"context"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/rotation"
)

// Keyrings looks after the keyrings; *rotation.Keeper does.
type Keyrings interface {
	List(ctx context.Context, may func(group string) bool) ([]rotation.Keyring, error)
	Get(ctx context.Context, group string) (rotation.Keyring, error)
	Rotate(ctx context.Context, group, actor string) (rotation.Keyring, error)
	Rewrap(ctx context.Context, group, actor string) (rotation.Keyring, error)
	Remove(ctx context.Context, group string, term uint32, actor string) (rotation.Keyring, error)
}

// keyrings serves KeyringService.
type keyrings struct {
	adminv1.UnimplementedKeyringServiceServer
	keeper Keyrings
}

// ListKeyrings answers the keyrings the caller may see.
func (s *keyrings) ListKeyrings(ctx context.Context, _ *adminv1.ListKeyringsRequest) (*adminv1.ListKeyringsResponse, error) {
	id := adminauth.FromContext(ctx)
	if id == nil {
		return nil, failure(errNoIdentity)
	}
	list, err := s.keeper.List(ctx, func(group string) bool { return id.RoleIn(group) >= optionsv1.Role_ROLE_VIEWER })
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListKeyringsResponse{}
	for _, k := range list {
		out.Keyrings = append(out.Keyrings, keyringOf(k))
	}
	return out, nil
}

// GetKeyring answers one.
func (s *keyrings) GetKeyring(ctx context.Context, req *adminv1.GetKeyringRequest) (*adminv1.Keyring, error) {
	return answerKeyring(s.keeper.Get(ctx, req.GetGroup()))
}

// RotateKeyring adds a term.
func (s *keyrings) RotateKeyring(ctx context.Context, req *adminv1.RotateKeyringRequest) (*adminv1.Keyring, error) {
	return answerKeyring(s.keeper.Rotate(ctx, req.GetGroup(), actor(ctx)))
}

// RewrapKeyring looks for what is not under the newest term.
func (s *keyrings) RewrapKeyring(ctx context.Context, req *adminv1.RewrapKeyringRequest) (*adminv1.Keyring, error) {
	return answerKeyring(s.keeper.Rewrap(ctx, req.GetGroup(), actor(ctx)))
}

// RemoveKeyringTerm removes a term.
func (s *keyrings) RemoveKeyringTerm(ctx context.Context, req *adminv1.RemoveKeyringTermRequest) (*adminv1.Keyring, error) {
	if req.GetTerm() == 0 {
		return nil, failure(violation("term", "is needed"))
	}
	return answerKeyring(s.keeper.Remove(ctx, req.GetGroup(), req.GetTerm(), actor(ctx)))
}

func answerKeyring(k rotation.Keyring, err error) (*adminv1.Keyring, error) {
	if err != nil {
		return nil, failure(err)
	}
	return keyringOf(k), nil
}

func keyringOf(k rotation.Keyring) *adminv1.Keyring {
	out := &adminv1.Keyring{
		Group: k.Group, Version: k.Version, KekId: k.KEKID, UpdatedAt: timestamp(k.UpdatedAt), Remaining: k.Remaining,
		Fault: k.Fault,
	}
	for _, t := range k.Terms {
		out.Terms = append(out.Terms, &adminv1.KeyringTerm{
			Number: t.Number, State: t.State, CreatedAt: timestamp(t.CreatedAt), Seals: t.Seals, Rows: t.Rows,
		})
	}
	if n := k.Next; n != nil {
		out.Next = &adminv1.KeyringChange{
			Action: n.Action, Term: n.Term, Actor: n.Actor, PreparedAt: timestamp(n.PreparedAt), Waiting: k.Waiting,
		}
	}
	return out
}
