package syncserver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/store"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

const (
	maxLabels     = 64
	maxLabelBytes = 256
)

// Enrol implements EnrolmentService.
func (s *Server) Enrol(ctx context.Context, req *syncv1.EnrolRequest) (*syncv1.EnrolResponse, error) {
	release, err := s.enrolling.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	key, err := pki.ParseRequest(req.GetCsr())
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	if !fits(req.GetLabels(), req.GetVersion()) {
		return nil, status.Error(codes.InvalidArgument, "too many or too long labels")
	}
	proven, err := s.attest(ctx, req)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	g, err := s.cfg.Enrolments.Enrol(ctx, registry.Candidate{
		Group: proven.Group, KeyHash: key.KeyHash[:], Attestor: proven.Attestor, By: proven.By, JoinToken: proven.JoinToken,
		Labels: req.GetLabels(), Version: req.GetVersion(),
	})
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	id, err := mtls.GatewayID(s.cfg.TrustDomain, proven.Group, g.ID)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	issued, err := s.issue(ctx, id, key)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	s.cfg.Log.InfoContext(ctx, "gateway enrolled", "group", id.Group, "gateway", id.Gateway, "attestor", proven.Attestor, "by", proven.By)
	return &syncv1.EnrolResponse{Chain: issued.Chain, TrustBundle: s.cfg.CA.Trust().Roots}, nil
}

func (s *Server) attest(ctx context.Context, req *syncv1.EnrolRequest) (attest.Attested, error) {
	switch a := req.GetAttestation().(type) {
	case *syncv1.EnrolRequest_JoinToken:
		return s.cfg.JoinTokens.Attest(ctx, attest.Evidence{Token: a.JoinToken, Group: req.GetGroup()})
	case *syncv1.EnrolRequest_ServiceAccountJwt:
		if s.cfg.Kubernetes == nil {
			return attest.Attested{}, status.Error(codes.FailedPrecondition, "no cluster is trusted here")
		}
		return s.cfg.Kubernetes.Attest(ctx, attest.Evidence{Token: a.ServiceAccountJwt, Group: req.GetGroup()})
	}
	return attest.Attested{}, status.Error(codes.InvalidArgument, "the request holds no attestation")
}

// Renew implements EnrolmentService.
func (s *Server) Renew(ctx context.Context, req *syncv1.RenewRequest) (*syncv1.EnrolResponse, error) {
	release, err := s.enrolling.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	key, err := pki.ParseRequest(req.GetCsr())
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	id, err := s.cfg.CA.VerifyExpired(pki.Expired{
		Certificate: req.GetCertificate(), CSR: req.GetCsr(), Signature: req.GetSignature(), At: req.GetAt().AsTime(),
	})
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	if err := s.refused(id.Gateway); err != nil {
		return nil, err
	}
	issued, err := s.issue(ctx, id, key)
	if err != nil {
		return nil, s.answer(ctx, err)
	}
	s.cfg.Log.InfoContext(ctx, "gateway renewed its certificate after a pause", "group", id.Group, "gateway", id.Gateway)
	return &syncv1.EnrolResponse{Chain: issued.Chain, TrustBundle: s.cfg.CA.Trust().Roots}, nil
}

// issue signs and notes a certificate. The note comes first to the caller's ears: it is also where a gateway that was
// revoked this moment is found out.
func (s *Server) issue(ctx context.Context, id mtls.ID, key pki.Request) (pki.Issued, error) {
	issued, err := s.cfg.CA.IssueGateway(key, id)
	if err != nil {
		return issued, err
	}
	note := store.Certificate{SPKIHash: key.KeyHash[:], Serial: issued.Serial, Issuer: issued.Issuer, NotAfter: issued.NotAfter}
	return issued, s.cfg.Enrolments.SetGatewayCertificate(ctx, id.Group, id.Gateway, note)
}

func fits(labels map[string]string, version string) bool {
	if len(labels) > maxLabels || len(version) > maxLabelBytes {
		return false
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelBytes || len(v) > maxLabelBytes {
			return false
		}
	}
	return true
}

// answer turns an error into what a stranger may know. Everything else is logged.
func (s *Server) answer(ctx context.Context, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	for _, known := range []struct {
		is   error
		code codes.Code
	}{
		{attest.ErrRefused, codes.Unauthenticated},
		{pki.ErrRequest, codes.InvalidArgument},
		{pki.ErrNotRenewable, codes.FailedPrecondition},
	} {
		if errors.Is(err, known.is) {
			s.cfg.Log.WarnContext(ctx, "gateway refused", "err", err)
			return status.Error(known.code, err.Error())
		}
	}
	switch {
	case errors.Is(err, registry.ErrRevoked):
		return errRevoked()
	case errors.Is(err, registry.ErrUsedUp):
		return status.Error(codes.PermissionDenied, registry.ErrUsedUp.Error())
	case errors.Is(err, registry.ErrKeyInUse):
		return status.Error(codes.AlreadyExists, registry.ErrKeyInUse.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, attest.ErrUnavailable), errors.Is(err, store.ErrUnavailable):
		s.cfg.Log.WarnContext(ctx, "gateway cannot be served now", "err", err)
		return status.Error(codes.Unavailable, "try again later")
	}
	s.cfg.Log.ErrorContext(ctx, "gateway could not be served", "err", err)
	return status.Error(codes.Internal, "internal error")
}
