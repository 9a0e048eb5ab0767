package adminapi

import (
	"context"
	"encoding/pem"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/trust"
)

// Trust looks after the certificate authorities; *trust.Desk does.
type Trust interface {
	State(ctx context.Context) (trust.State, error)
	RotateIntermediate(ctx context.Context, actor string) (trust.State, error)
	PrepareRoot(ctx context.Context, actor string) (trust.State, error)
	ActivateRoot(ctx context.Context, actor string, force bool) (trust.State, error)
	RetireRoot(ctx context.Context, actor string, force bool) (trust.State, error)
}

// authorities serves AuthorityService.
type authorities struct {
	adminv1.UnimplementedAuthorityServiceServer
	trust Trust
}

// ListAuthorities answers the authorities and who relies on them.
func (s *authorities) ListAuthorities(ctx context.Context, _ *adminv1.ListAuthoritiesRequest) (*adminv1.Trust, error) {
	return answerTrust(s.trust.State(ctx))
}

// RotateIntermediate makes an intermediate.
func (s *authorities) RotateIntermediate(ctx context.Context, _ *adminv1.RotateIntermediateRequest) (*adminv1.Trust, error) {
	return answerTrust(s.trust.RotateIntermediate(ctx, actor(ctx)))
}

// PrepareRoot makes the next root.
func (s *authorities) PrepareRoot(ctx context.Context, _ *adminv1.PrepareRootRequest) (*adminv1.Trust, error) {
	return answerTrust(s.trust.PrepareRoot(ctx, actor(ctx)))
}

// ActivateRoot makes it the current one.
func (s *authorities) ActivateRoot(ctx context.Context, req *adminv1.ActivateRootRequest) (*adminv1.Trust, error) {
	return answerTrust(s.trust.ActivateRoot(ctx, actor(ctx), req.GetForce()))
}

// RetireRoot ends the trust in the one before.
func (s *authorities) RetireRoot(ctx context.Context, req *adminv1.RetireRootRequest) (*adminv1.Trust, error) {
	return answerTrust(s.trust.RetireRoot(ctx, actor(ctx), req.GetForce()))
}

func answerTrust(s trust.State, err error) (*adminv1.Trust, error) {
	if err != nil {
		return nil, failure(err)
	}
	out := &adminv1.Trust{Pin: s.Pin.String(), Connected: int32(s.Connected), Unaware: s.Unaware}
	for _, der := range s.Bundle {
		out.TrustBundle += certificatePEM(der)
	}
	for _, a := range s.Authorities {
		out.Authorities = append(out.Authorities, authorityOf(a))
	}
	if f := s.Former; f != nil {
		out.Former = &adminv1.FormerRoot{Id: f.Root, Holders: f.Holders, Renewable: int32(f.Renewable), JoinTokens: int32(f.JoinTokens)}
	}
	return out, nil
}

func authorityOf(a pki.Authority) *adminv1.Authority {
	c := a.Certificate
	return &adminv1.Authority{
		Id: a.ID, Kind: a.Kind, State: a.State, Subject: c.Subject.String(), Pin: a.Pin().String(), Root: a.Root,
		NotBefore: timestamppb.New(c.NotBefore), NotAfter: timestamppb.New(c.NotAfter), Certificate: certificatePEM(c.Raw),
	}
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
