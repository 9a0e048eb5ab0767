package adminapi

import (
	"context"
	"encoding/hex"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/mtls"

	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/store"
)

// Gateways is the registry of the gateways of all groups, on all replicas.
type Gateways interface {
	List(ctx context.Context, group string) ([]registry.Gateway, error)
	Get(ctx context.Context, group, id string) (registry.Gateway, error)
	Revoke(ctx context.Context, group, id, actor, reason string) (registry.Gateway, error)
	// WaitForRevision answers when the revision is applied or refused, or when the timeout is over.
	WaitForRevision(ctx context.Context, group string, revision int64, least int, timeout time.Duration) (registry.Progress, error)
	// ConnectedIn counts the gateways of a group that have a stream to any replica.
	ConnectedIn(ctx context.Context, group string) (int, error)
}

// JoinTokens makes and keeps the tokens with which gateways enrol.
type JoinTokens interface {
	CreateJoinToken(ctx context.Context, n registry.NewToken) (store.JoinToken, string, error)
	JoinTokens(ctx context.Context, group string) ([]store.JoinToken, error)
	DeleteJoinToken(ctx context.Context, group, id, actor string) error
}

// BundleKeys keeps the keys of the groups' fallback bundles.
type BundleKeys interface {
	Show(ctx context.Context, group, actor string) (fallback.Material, error)
	Rotate(ctx context.Context, group, actor string) (version uint32, err error)
}

const (
	defaultJoinTTL, maxJoinTTL = time.Hour, 30 * 24 * time.Hour
	maxJoinUses                = 10000
	defaultWait, maxWait       = 30 * time.Second, 10 * time.Minute
	maxText                    = 1024
)

// gateways serves GatewayService.
type gateways struct {
	adminv1.UnimplementedGatewayServiceServer
	registry Gateways
	tokens   JoinTokens
	bundles  BundleKeys
	sets     Sets
	rollouts Rollouts
	// pin returns the hash of the root's public key, which join tokens carry to gateways.
	pin func() mtls.SPKI
}

// exists answers an error if there is no such group, so that an empty list always means an empty group.
func (s *gateways) exists(ctx context.Context, group string) error {
	_, err := s.sets.Group(ctx, group)
	return err
}

// ListGateways answers the gateways of a group.
func (s *gateways) ListGateways(ctx context.Context, req *adminv1.ListGatewaysRequest) (*adminv1.ListGatewaysResponse, error) {
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	list, err := s.registry.List(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.ListGatewaysResponse{Gateways: gatewaysOf(list)}, nil
}

// GetGateway answers one.
func (s *gateways) GetGateway(ctx context.Context, req *adminv1.GetGatewayRequest) (*adminv1.Gateway, error) {
	g, err := s.registry.Get(ctx, req.GetGroup(), req.GetId())
	if err != nil {
		return nil, failure(err)
	}
	return gatewayOf(&g), nil
}

// RevokeGateway refuses a gateway for good.
func (s *gateways) RevokeGateway(ctx context.Context, req *adminv1.RevokeGatewayRequest) (*adminv1.Gateway, error) {
	if len(req.GetReason()) > maxText {
		return nil, failure(violation("reason", "must have at most 1024 bytes"))
	}
	g, err := s.registry.Revoke(ctx, req.GetGroup(), req.GetId(), actor(ctx), req.GetReason())
	if err != nil {
		return nil, failure(err)
	}
	return gatewayOf(&g), nil
}

// CreateJoinToken makes a token with which gateways enrol.
func (s *gateways) CreateJoinToken(ctx context.Context, req *adminv1.CreateJoinTokenRequest) (*adminv1.CreateJoinTokenResponse, error) {
	uses, ttl := req.GetUses(), req.GetTtl().AsDuration()
	if uses == 0 {
		uses = 1
	}
	if ttl == 0 {
		ttl = defaultJoinTTL
	}
	switch {
	case uses < 1 || uses > maxJoinUses:
		return nil, failure(violation("uses", "must be 1 to 10000"))
	case ttl < time.Second || ttl > maxJoinTTL:
		return nil, failure(violation("ttl", "must be 1s to 720h (30 days)"))
	case len(req.GetDescription()) > maxText:
		return nil, failure(violation("description", "must have at most 1024 bytes"))
	}
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	token, secret, err := s.tokens.CreateJoinToken(ctx, registry.NewToken{
		Group: req.GetGroup(), Uses: uses, TTL: ttl, Description: req.GetDescription(), Actor: actor(ctx), Pin: s.pin(),
	})
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.CreateJoinTokenResponse{Token: joinTokenOf(&token), Secret: secret}, nil
}

// ListJoinTokens answers them without their secret.
func (s *gateways) ListJoinTokens(ctx context.Context, req *adminv1.ListJoinTokensRequest) (*adminv1.ListJoinTokensResponse, error) {
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	list, err := s.tokens.JoinTokens(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.ListJoinTokensResponse{}
	for i := range list {
		out.Tokens = append(out.Tokens, joinTokenOf(&list[i]))
	}
	return out, nil
}

// DeleteJoinToken makes a token useless.
func (s *gateways) DeleteJoinToken(ctx context.Context, req *adminv1.DeleteJoinTokenRequest) (*adminv1.DeleteJoinTokenResponse, error) {
	if err := s.tokens.DeleteJoinToken(ctx, req.GetGroup(), req.GetId(), actor(ctx)); err != nil {
		return nil, failure(err)
	}
	return &adminv1.DeleteJoinTokenResponse{}, nil
}

// ShowBundleKey answers what gateways need to start from the group's fallback bundle.
func (s *gateways) ShowBundleKey(ctx context.Context, req *adminv1.ShowBundleKeyRequest) (*adminv1.BundleKey, error) {
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	m, err := s.bundles.Show(ctx, req.GetGroup(), actor(ctx))
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.BundleKey{Group: req.GetGroup(), Version: int32(m.Version), Key: string(m.Key), Signer: string(m.Signer)}, nil
}

// RotateBundleKey makes a new key for the group's fallback bundles.
func (s *gateways) RotateBundleKey(ctx context.Context, req *adminv1.RotateBundleKeyRequest) (*adminv1.RotateBundleKeyResponse, error) {
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	version, err := s.bundles.Rotate(ctx, req.GetGroup(), actor(ctx))
	if err != nil {
		return nil, failure(err)
	}
	return &adminv1.RotateBundleKeyResponse{Version: int32(version)}, nil
}

// WaitForRevision answers when the revision is everywhere, or known not to be.
func (s *gateways) WaitForRevision(ctx context.Context, req *adminv1.WaitForRevisionRequest) (*adminv1.WaitForRevisionResponse, error) {
	timeout := req.GetTimeout().AsDuration()
	if timeout == 0 {
		timeout = defaultWait
	}
	switch {
	case timeout < 0 || timeout > maxWait:
		return nil, failure(violation("timeout", "must be 0s to 10m"))
	case req.GetRevision() < 0:
		return nil, failure(violation("revision", "must not be negative"))
	case req.GetMinGateways() < 0:
		return nil, failure(violation("min_gateways", "must not be negative"))
	}
	if err := s.exists(ctx, req.GetGroup()); err != nil {
		return nil, failure(err)
	}
	p, err := s.registry.WaitForRevision(ctx, req.GetGroup(), req.GetRevision(), int(req.GetMinGateways()), timeout)
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.WaitForRevisionResponse{
		Applied: p.Done, Connected: count(p.Connected), Pending: p.Pending, Rejecting: gatewaysOf(p.Rejecting), Held: count(p.Held),
	}
	status, err := s.rollouts.Status(ctx, req.GetGroup())
	if err != nil {
		return nil, failure(err)
	}
	if status.State != nil {
		out.Rollout = rolloutOf(req.GetGroup(), status)
	}
	return out, nil
}

func gatewaysOf(list []registry.Gateway) []*adminv1.Gateway {
	out := make([]*adminv1.Gateway, 0, len(list))
	for i := range list {
		out = append(out, gatewayOf(&list[i]))
	}
	return out
}

func gatewayOf(g *registry.Gateway) *adminv1.Gateway {
	out := &adminv1.Gateway{
		Id: g.ID, Group: g.Group, State: string(g.State), Version: g.Version, Labels: g.Labels, PolicyTypes: g.PolicyTypes,
		AppliedEpoch: g.AppliedEpoch, AppliedRevision: g.AppliedRevision, AppliedDigest: hex.EncodeToString(g.AppliedDigest),
		EnrolledAt: timestamp(g.EnrolledAt), LastSeen: timestamp(g.LastSeen), CertificateExpires: timestamp(g.NotAfter),
		Replica: g.Replica, RevokedAt: timestamp(g.RevokedAt), Attestor: g.Attestor, Lag: g.Lag, TargetRevision: g.Target,
	}
	for _, f := range g.Faults {
		out.Faults = append(out.Faults, &adminv1.GatewayFault{Kind: f.Kind, Name: f.Name, Reason: f.Reason})
	}
	return out
}

func joinTokenOf(t *store.JoinToken) *adminv1.JoinToken {
	return &adminv1.JoinToken{
		Id: t.ID, Group: t.Group, Uses: t.Uses, Used: t.Used, Expires: timestamp(t.ExpiresAt), CreatedAt: timestamp(t.CreatedAt),
		Description: t.Description,
	}
}

// timestamp leaves "never" out.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// count fits a number of gateways into its field.
func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }
