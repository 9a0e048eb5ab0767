// Package syncserver is the control plane's side towards gateways: it gives attested processes an identity, streams each
// gateway the configuration of its own group, and takes in what gateways report. The group comes from the certificate
// and from nowhere else. It stores nothing itself and opens no ciphertext; the app package serves it on the stream port.
package syncserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"keyward.dev/controlplane/internal/attest"
	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/store"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/mtls"
)

// CA issues certificates; *pki.CA does.
type CA interface {
	IssueGateway(r pki.Request, id mtls.ID) (pki.Issued, error)
	VerifyExpired(e pki.Expired) (mtls.ID, error)
	Trust() pki.Trust
}

// Revocations knows who is refused; *pki.Revocations does.
type Revocations interface {
	Revoked(id string) (bool, error)
	Watch(id string) (cut <-chan struct{}, stop func())
}

// Enrolments keeps gateways; *registry.Ledger does.
type Enrolments interface {
	Enrol(ctx context.Context, c registry.Candidate) (store.Gateway, error)
	SetGatewayCertificate(ctx context.Context, group, id string, c store.Certificate) error
}

// Groups gives the fan-out of a group; *fanout.Hub does.
type Groups interface {
	Acquire(ctx context.Context, group string) (g *fanout.Group, release func(), err error)
}

// Config is what a Server needs.
type Config struct {
	CA          CA
	Revocations Revocations
	Enrolments  Enrolments
	Groups      Groups
	Registry    *registry.Registry
	// JoinTokens attests by join token.
	JoinTokens attest.Attestor
	// Kubernetes attests by service account; nil if no cluster is trusted.
	Kubernetes  attest.Attestor
	TrustDomain string
	// StreamAge is how old a stream may get before its gateway is asked to reconnect, which spreads gateways over
	// replicas again; a fifth of it is random. 0: 1h.
	StreamAge time.Duration
	// FullSets is how many gateways are sent their whole set at once; others wait for their turn. 0: 128.
	FullSets int
	// DrainTime is how long gateways have to leave at shutdown. 0: 5s.
	DrainTime time.Duration
	// Propagated is told how long a change took from its commit until a gateway had applied it; may be nil.
	Propagated func(group string, took time.Duration)
	// Ahead is told of a gateway that was refused because it has a later revision than this replica; may be nil.
	Ahead func(group string)
	// Used is told which credentials the gateways of a group have accepted; may be nil.
	Used func(group string, uses []*syncv1.CredentialUse)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Server implements the services.
type Server struct {
	syncv1.UnimplementedEnrolmentServiceServer
	syncv1.UnimplementedSyncServiceServer

	cfg    Config
	leases leases
	// draining is closed when gateways have to leave.
	draining chan struct{}
	// enrolling bounds the enrolments under way; callers are strangers.
	enrolling *gate
	// fullSets bounds the whole sets that are being sent: hundreds at once, as when many gateways come back together, would
	// all end late.
	fullSets *gate
	// senders are the goroutines of streams that may outlive their handler by a moment.
	senders sync.WaitGroup
}

const (
	maxMessage = 1 << 20
	readBuffer = 4 << 10
	window     = 64 << 10
)

// New returns a server. Serve makes it work, once.
func New(cfg Config) *Server {
	if cfg.StreamAge <= 0 {
		cfg.StreamAge = time.Hour
	}
	if cfg.FullSets <= 0 {
		cfg.FullSets = defaultFullSets
	}
	if cfg.DrainTime <= 0 {
		cfg.DrainTime = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Propagated == nil {
		cfg.Propagated = func(string, time.Duration) {}
	}
	if cfg.Ahead == nil {
		cfg.Ahead = func(string) {}
	}
	if cfg.Used == nil {
		cfg.Used = func(string, []*syncv1.CredentialUse) {}
	}
	return &Server{
		cfg: cfg, leases: leases{until: map[string]time.Time{}}, draining: make(chan struct{}),
		enrolling: newGate(maxEnrolling, enrolWait), fullSets: newGate(cfg.FullSets, fullSetWait),
	}
}

// Serve answers on the listener until the context ends; gateways are then asked to leave, and have DrainTime to do so.
func (s *Server) Serve(ctx context.Context, l net.Listener, t *tls.Config) error {
	g := s.grpc(t)
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve gateways: %w", err)
	case <-ctx.Done():
	}
	close(s.draining)
	timer := time.AfterFunc(s.cfg.DrainTime, g.Stop)
	g.GracefulStop()
	timer.Stop()
	s.senders.Wait()
	<-failed //nolint:errcheck // it says that the server was stopped
	return nil
}

func (s *Server) grpc(t *tls.Config) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(t)),
		grpc.ForceServerCodecV2(fanout.NewCodec()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(16),
		// TLS has a buffer of its own; grpc's would be another 32 KiB for each stream.
		grpc.ReadBufferSize(readBuffer),
		// Gateways send little. Windows that grow by what is measured would cost a ping for every message.
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Minute, Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	)
	syncv1.RegisterEnrolmentServiceServer(g, s)
	syncv1.RegisterSyncServiceServer(g, s)
	return g
}
