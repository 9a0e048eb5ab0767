package syncserver

import (
	"context"
	"crypto/x509"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

// caller is the gateway that makes a call.
type caller struct {
	mtls.ID
	// until is when its certificate ends.
	until time.Time
	// chain is what it showed when it connected; it may have been renewed since.
	chain []*x509.Certificate
}

type callerKey struct{}

// callerOf returns who calls. It panics outside a call that the interceptor let through, which is a programming error.
func callerOf(ctx context.Context) caller { return ctx.Value(callerKey{}).(caller) }

// authenticate finds the gateway in the connection's certificate.
func (s *Server) authenticate(ctx context.Context) (caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return caller{}, status.Error(codes.Unauthenticated, "not a TLS connection")
	}
	id, err := mtls.PeerGateway(info.State, s.cfg.CA.Trust().Pool, s.cfg.TrustDomain, s.cfg.Now())
	if err != nil {
		return caller{}, status.Error(codes.Unauthenticated, "a gateway certificate is required")
	}
	shown := info.State.PeerCertificates
	c := caller{ID: id, until: s.leases.end(id.Gateway, shown[0].NotAfter), chain: shown}
	if !s.cfg.Now().Before(c.until) {
		return caller{}, status.Error(codes.Unauthenticated, "the certificate has expired")
	}
	return c, s.refused(id.Gateway)
}

// trusted says whether what the gateway showed when it connected would be good enough today, were it not for its age.
func (s *Server) trusted(c caller, roots *x509.CertPool) bool {
	at := s.cfg.Now()
	if end := c.chain[0].NotAfter; at.After(end) {
		at = end
	}
	_, err := mtls.VerifyGateway(c.chain, roots, s.cfg.TrustDomain, at)
	return err == nil
}

// refused answers with an error for a revoked gateway.
func (s *Server) refused(id string) error {
	revoked, err := s.cfg.Revocations.Revoked(id)
	switch {
	case err != nil:
		return status.Error(codes.Unavailable, "revocations are not known yet")
	case revoked:
		return errRevoked()
	}
	return nil
}

func errRevoked() error { return status.Error(codes.PermissionDenied, "the gateway is revoked") }

func isEnrolment(method string) bool {
	return strings.HasPrefix(method, "/"+syncv1.EnrolmentService_ServiceDesc.ServiceName+"/")
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	defer s.recover(ctx, &err)
	if !isEnrolment(info.FullMethod) {
		c, err := s.authenticate(ctx)
		if err != nil {
			return nil, err
		}
		ctx = context.WithValue(ctx, callerKey{}, c)
	}
	return next(ctx, req)
}

func (s *Server) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recover(stream.Context(), &err)
	c, err := s.authenticate(stream.Context())
	if err != nil {
		return err
	}
	return next(srv, &authenticated{ServerStream: stream, ctx: context.WithValue(stream.Context(), callerKey{}, c)})
}

// recover keeps one call's bug from ending the process.
func (s *Server) recover(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		s.cfg.Log.ErrorContext(ctx, "panic in a call", "panic", p, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
}

type authenticated struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // the way grpc hands on a stream's context
}

func (a *authenticated) Context() context.Context { return a.ctx }

// leases remember certificates that were renewed on this replica: a connection lives on under the newer one, though its
// handshake showed the older.
type leases struct {
	mu    sync.Mutex // guards until
	until map[string]time.Time
}

func (l *leases) renew(id string, until, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other, end := range l.until {
		if end.Before(now) {
			delete(l.until, other)
		}
	}
	l.until[id] = until
}

// end returns the later of a certificate's end and its renewal's.
func (l *leases) end(id string, notAfter time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u := l.until[id]; u.After(notAfter) {
		return u
	}
	return notAfter
}
