// Package adminapi serves the admin API, gRPC and REST on one port. Its services decode, call one of the interfaces
// declared here, and render; they contain no SQL and no cryptography and decide no rules of configuration. REST requests
// go to the same gRPC server over an in-memory connection, so that whoever calls meets the same interceptors. The
// wiring of the control plane makes one Server and hands its Handler to an HTTPS listener.
package adminapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/run"

	"keyward.dev/controlplane/internal/adminapi/operation"
	"keyward.dev/controlplane/internal/adminapi/rest"
	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/openapi"
)

const (
	revisionKey = "keyward-revision"

	// localBuffer is how much a pipe between REST and gRPC holds.
	localBuffer = 256 << 10
	// maxMessage bounds what the server receives: a resource (1 MiB) with room around it. maxLocalMessage bounds what REST
	// takes back: an answer that lists many changes.
	maxMessage, maxLocalMessage = 4 << 20, 128 << 20
	maxHeaderBytes              = 32 << 10

	maxStream = 15 * time.Minute
	// drainTime is for requests that are being answered when the process is told to end.
	drainTime = 5 * time.Second
)

// Config is what a Server needs.
type Config struct {
	Catalog   *catalog.Catalog
	Tokens    Tokens
	Auth      AuthSource
	Sets      Sets
	Writer    Writer
	History   History
	Past      Past
	Directory Directory
	Creator   GroupCreator
	Gateways  Gateways
	Joins     JoinTokens
	// BundleKeys are those of fallback bundles.
	BundleKeys BundleKeys
	Rollouts   Rollouts
	Keyrings   Keyrings
	Issuance   Issuance
	Trust      Trust
	Skills     Skills
	Uses       Uses
	// Newer answers what of a resource the first contract with gateways did not have, see package contract; nil: nothing has
	// been added yet.
	Newer func(proto.Message) map[string]uint32
	Audit AuditLog
	// Pin returns the hash of the root's public key, which join tokens carry.
	Pin     func() mtls.SPKI
	Version *adminv1.Version
	Log     *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// AuthSource finds the tokens callers present; *adminauth.Cache does.
type AuthSource interface {
	adminauth.TokenSource
	Refresher
}

// Server is the admin API.
type Server struct {
	grpc   *grpc.Server
	local  *bufconn.Listener
	conn   *grpc.ClientConn
	rest   *rest.Handler
	active inFlight
}

// New returns a server. It opens nothing and starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	permissions, err := adminauth.PermissionsOf(adminv1.File_keyward_admin_v1_admin_proto, adminv1.File_keyward_admin_v1_authority_proto, adminv1.File_keyward_admin_v1_keyring_proto, adminv1.File_keyward_admin_v1_resource_proto)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	guard := adminauth.NewGuard(cfg.Auth, permissions, cfg.Log)
	s := &Server{local: bufconn.Listen(localBuffer)}
	s.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(recoverUnary(cfg.Log), guard.Unary),
		grpc.ChainStreamInterceptor(recoverStream(cfg.Log), guard.Stream),
		grpc.MaxRecvMsgSize(maxMessage),
	)
	register(s.grpc, cfg)
	if err := s.connect(cfg); err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	return s, nil
}

func register(r grpc.ServiceRegistrar, cfg Config) {
	adminv1.RegisterSystemServiceServer(r, &system{version: cfg.Version})
	adminv1.RegisterResourceServiceServer(r, &resources{
		catalog: cfg.Catalog, sets: cfg.Sets, writer: cfg.Writer, history: cfg.History, past: cfg.Past, skills: cfg.Skills, newer: cfg.Newer, now: cfg.Now, issuance: cfg.Issuance, uses: cfg.Uses,
		applies: make(chan struct{}, maxApplies),
	})
	adminv1.RegisterGroupServiceServer(r, &groups{directory: cfg.Directory, creator: cfg.Creator, sets: cfg.Sets, gateways: cfg.Gateways})
	adminv1.RegisterGatewayServiceServer(r, &gateways{registry: cfg.Gateways, tokens: cfg.Joins, bundles: cfg.BundleKeys, sets: cfg.Sets, rollouts: cfg.Rollouts, pin: cfg.Pin})
	adminv1.RegisterRolloutServiceServer(r, &rollouts{desk: cfg.Rollouts, sets: cfg.Sets})
	adminv1.RegisterKeyringServiceServer(r, &keyrings{keeper: cfg.Keyrings})
	adminv1.RegisterAuthorityServiceServer(r, &authorities{trust: cfg.Trust})
	adminv1.RegisterTokenServiceServer(r, &tokens{store: cfg.Tokens, refresher: cfg.Auth, now: cfg.Now})
	adminv1.RegisterAuditServiceServer(r, &auditLog{log: cfg.Audit})
}

// connect makes the REST side.
func (s *Server) connect(cfg Config) error {
	ops, err := operation.List(cfg.Catalog.Kinds())
	if err != nil {
		return err
	}
	document, err := openapi.Document(cfg.Catalog, ops, cfg.Version.GetVersion())
	if err != nil {
		return err
	}
	s.conn, err = grpc.NewClient("passthrough:///local",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.local.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // it never leaves the process
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxLocalMessage)),
	)
	if err != nil {
		return fmt.Errorf("dial in memory: %w", err)
	}
	s.rest, err = rest.New(rest.Config{Conn: s.conn, Operations: ops, Catalog: cfg.Catalog, OpenAPI: document, Log: cfg.Log})
	return err
}

// Run serves the in-memory connection until ctx ends, and then for as long as requests that have begun need, within
// reason. Nothing works before it runs.
func (s *Server) Run(ctx context.Context) error {
	return run.Group(ctx,
		func(context.Context) error {
			if err := s.grpc.Serve(s.local); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve admin API: %w", err)
			}
			return nil
		},
		func(ctx context.Context) error {
			<-ctx.Done()
			s.active.drain(drainTime)
			s.grpc.Stop()
			if err := s.conn.Close(); err != nil {
				return fmt.Errorf("close in-memory connection: %w", err)
			}
			return nil
		},
	)
}

// Handler answers gRPC (by content type, on HTTP/2) and REST.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.active.begin()
		defer s.active.end()
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			limitStream(w)
			s.grpc.ServeHTTP(w, r)
			return
		}
		s.rest.ServeHTTP(w, r)
	})
}

// limitStream bounds how long a client can hold a gRPC stream: longer than the longest wait, not for ever.
func limitStream(w http.ResponseWriter) {
	rc, end := http.NewResponseController(w), time.Now().Add(maxStream)
	// An error only says that the server has no deadlines.
	_, _ = rc.SetReadDeadline(end), rc.SetWriteDeadline(end)
}

// HTTPServer returns the server to put the handler behind. How long a body may take is decided for each request, because
// waiting and streaming RPCs take as long as they take.
func (s *Server) HTTPServer(tlsConfig *tls.Config, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          httpLog(logger),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// httpLog hands on what net/http has to say, which is mostly about clients, at debug level.
func httpLog(logger *slog.Logger) *log.Logger { //nolint:forbidigo // net/http takes no other
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}

func recoverUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
		defer recovered(logger, info.FullMethod, &err)
		return next(ctx, req)
	}
}

func recoverStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer recovered(logger, info.FullMethod, &err)
		return next(srv, ss)
	}
}

// recovered turns a panic of a handler into an internal error of that one call. The panic's value is not logged: it may
// quote what was being handled.
func recovered(logger *slog.Logger, method string, err *error) {
	if p := recover(); p != nil {
		logger.Error("handler panicked", "method", method, "kind", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = failure(problem.Errorf(problem.Internal, "the request could not be handled"))
	}
}
