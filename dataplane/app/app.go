// Package app wires a gateway: what it is made of, who knows whom, and in which order it ends. Everything else is in the
// packages it puts together. Called by the command.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/fallback"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/lastuse"
	"keyward.dev/dataplane/internal/localcert"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sealedcache"
	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/sockets"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/status"
	"keyward.dev/dataplane/internal/syncclient"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/certfile"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/contract"
	"keyward.dev/shared/run"
	"keyward.dev/shared/settings"
	"keyward.dev/shared/telemetry"
)

// Source gives the gateway its configuration: it runs until its context ends and calls apply for every verified set.
type Source interface {
	Run(ctx context.Context) error
	Status() syncclient.Status
}

// NewSource makes the source. The real one is the sync client.
type NewSource func(d SourceDeps) (Source, error)

// SourceDeps is what a source is given.
type SourceDeps struct {
	Apply       func(ctx context.Context, set *state.Set) []syncclient.Fault
	Responses   func() map[string]uint64
	Uses        func() []lastuse.Use
	Cache       syncclient.Cache    // nil: none
	Fallback    syncclient.Fallback // nil: none
	PolicyTypes []string
	Again       <-chan struct{} // asks for the newest set to be applied again
	Log         *slog.Logger
}

// Gateway is a gateway that is bound to its addresses and ready to run.
type Gateway struct {
	settings   Settings
	log        *slog.Logger
	registry   *prometheus.Registry
	runtime    *runtime.Holder
	upstreams  *upstream.Manager
	access     *accesslog.Log
	accessTo   accessSink
	status     *status.Status
	certs      *certfile.Certificate
	responders *revocation.Cache
	services   *hostsvc.Services
	files      *localcert.Store
	server     *server.Server
	sweeper    *conn.Sweeper
	statusLn   net.Listener
	source     Source
	cache      *sealedcache.Cache // nil: none
	fallback   *fallback.Bundle   // nil: none
	loaded     <-chan struct{}    // closed when the first configuration is in force
}

// Run runs a gateway until ctx ends and it has drained.
func Run(ctx context.Context, s Settings, stdout io.Writer, log *slog.Logger) error {
	g, err := New(ctx, s, stdout, log, func(d SourceDeps) (Source, error) { return syncSource(s, d) })
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// New makes a gateway and binds its addresses, so that a wrong setting is told at once. Requests that come before the
// first configuration are answered 503.
func New(ctx context.Context, s Settings, stdout io.Writer, log *slog.Logger, source NewSource) (*Gateway, error) {
	g := &Gateway{
		settings: s, log: log, registry: telemetry.NewRegistry("dataplane"), runtime: &runtime.Holder{}, sweeper: conn.NewSweeper(),
	}
	g.upstreams = upstream.NewManager(upstream.Config{
		Sweeper: g.sweeper, Log: log, Registry: g.registry, FileRoots: s.FileRoots, Engine: s.HTTPEngine,
	})
	var err error
	if g.accessTo, err = openAccessSink(s.AccessLog, stdout); err != nil {
		return nil, err
	}
	g.access = accesslog.New(g.accessTo.out, log)
	if s.SealedCache != "" {
		g.cache = sealedcache.New(sealedcache.Config{
			Dir: s.SealedCache, MaxAge: s.MaxCacheAge, Now: time.Now, Registry: g.registry, Log: log,
		})
	}
	g.fallback = fallbackBundle(s, g.registry, log)
	services := hostsvc.New(hostsvc.Config{Log: log})
	g.services = services
	g.responders = revocation.NewCache(askResponder)
	g.status = status.New(status.Config{
		Registry: g.registry, Runtime: g.runtime, Version: telemetry.Version(), Engine: s.HTTPEngine, Dropped: g.access.Dropped, Log: log,
		Draining:          func() bool { return g.server != nil && g.server.Draining() },
		InFlight:          func() int64 { return g.server.Active() },
		Connections:       func() int64 { return g.server.Stats().Open },
		Handshakes:        func() int64 { return g.server.Stats().Handshakes },
		Refused:           func() uint64 { return g.server.Stats().Refused },
		BodyBytes:         func() int64 { return g.server.Stats().BodyBytes },
		Ambiguous:         services.Ambiguous.Load,
		AmbiguousLogins:   services.AmbiguousLogins.Load,
		Logins:            policies.Authentication(),
		Authentication:    services.Stats,
		Stores:            sharedStores(services),
		HandshakeFailures: func() map[string]uint64 { return g.server.HandshakeFailures() },
		Responders:        g.responders,
		File:              g.certificateFile(),
		Cache:             g.cacheState(),
		Fallback:          g.fallbackState(),
		ControlPlane: func() status.ControlPlane {
			s := g.source.Status()
			return status.ControlPlane{Connected: s.Connected, Lost: s.Lost, Refused: s.Rewound, Epochs: s.Epochs, Distrusted: s.Distrusted}
		},
	})
	if g.files, err = localcert.New(s.CertificateRoots, g.registry, log); err != nil {
		return nil, err
	}
	compiler := compile.New(compile.Deps{
		Factories: policies.All(), Host: services, Responders: g.responders, Files: g.files, Monitor: g.status, Log: log, Group: s.Group,
	})
	loaded := make(chan struct{})
	g.loaded = loaded
	apply := &applier{compiler: compiler, runtime: g.runtime, status: g.status, log: log, egress: &services.Egress, adopt: g.adopt, loaded: loaded}
	deps := SourceDeps{Apply: apply.Apply, Responses: g.status.Responses, Uses: g.uses(), PolicyTypes: compiler.Types(), Again: g.files.Again(), Log: log}
	if g.cache != nil {
		deps.Cache = g.cache
	}
	if g.fallback != nil {
		deps.Fallback = g.fallback
	}
	g.source, err = source(deps)
	if err != nil {
		return nil, fmt.Errorf("prepare sync: %w", err)
	}
	if err := g.listen(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Gateway) listen(ctx context.Context) error {
	s := g.settings
	listeners, err := s.listeners()
	if err != nil {
		return fmt.Errorf("read listeners: %w", err)
	}
	if s.TLSCert != "" {
		if g.certs, err = certfile.Load(s.TLSCert, s.TLSKey, g.log); err != nil {
			return err
		}
	}
	handed, err := sockets.Inherit()
	if err != nil {
		return err
	}
	defer func() { _ = handed.Close() }()
	observers := []server.Observer{g.status}
	if g.accessTo.out != nil {
		observers = append(observers, g.access)
	}
	g.server, err = server.Listen(ctx, server.Config{
		Listeners: listeners, Sockets: handed, Loaded: g.loaded, Certificates: g.certs, Runtime: g.runtime, Upstreams: g.upstreams, Sweeper: g.sweeper,
		Observers: observers, DrainTimeout: s.DrainTimeout, Timeouts: s.ClientTimeouts, Engine: server.Engine(s.HTTPEngine), MaxConns: cmp.Or(s.MaxConnections, connectionLimit()), BodyMemory: s.bodyMemory(), Log: g.log,
	})
	if err != nil {
		return err
	}
	if g.statusLn, err = handed.Listen(ctx, s.StatusListen); err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	return handed.Unused()
}

// adopt has all that outlives runtimes follow the one in force.
func (g *Gateway) adopt(rt *runtime.Runtime) {
	g.upstreams.Adopt(rt)
	used := make(map[certs.Local]bool, len(rt.Files))
	for _, f := range rt.Files {
		used[f.At] = true
	}
	g.files.Keep(used)
}

// uses answers what is to be reported of the credentials of the runtime in force.
func (g *Gateway) uses() func() []lastuse.Use {
	walk := lastuse.NewWalk()
	return func() []lastuse.Use {
		rt := g.runtime.Load()
		if rt == nil || rt.Directory == nil {
			return nil
		}
		return walk.Take(rt.Directory)
	}
}

// certificateFile says what the certificate of the process's own is; nil if there is none.
func (g *Gateway) certificateFile() func() status.FileCertificate {
	if g.settings.TLSCert == "" {
		return nil
	}
	return func() status.FileCertificate {
		leaf := g.certs.Leaf()
		return status.FileCertificate{ID: certs.ID(leaf.Raw), NotAfter: leaf.NotAfter}
	}
}

// askResponder asks a responder of the configuration, as a call of the gateway's own.
func askResponder(ctx context.Context, egress *hostsvc.EgressRules, url string, question []byte) ([]byte, error) {
	return hostsvc.AskResponder(ctx, egress, url, question, known.MaxAnswer)
}

// Addresses returns the bound addresses by listener name, and that of the status port as "status".
func (g *Gateway) Addresses() map[string]string {
	out := g.server.Addresses()
	out["status"] = g.statusLn.Addr().String()
	return out
}

// Run serves until ctx ends. Then the server drains, and only when it has ended does everything it leans on end too.
func (g *Gateway) Run(ctx context.Context) error {
	around, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	tasks := []run.Task{
		g.keepMemory, g.tellReady, g.sweeper.Run, g.source.Run, g.upstreams.Run, g.responders.Run, g.files.Run, g.fetchKeys, g.access.Run, g.rotate, g.status.Run, g.serveStatus,
		func(inner context.Context) error {
			defer end()
			serving, stop := context.WithCancel(inner)
			defer stop()
			defer context.AfterFunc(ctx, stop)()
			defer context.AfterFunc(ctx, func() { g.heard(sockets.TellStopping()) })()
			return g.server.Run(serving)
		},
	}
	if g.cache != nil {
		tasks = append(tasks, g.cache.Run)
	}
	if g.fallback != nil {
		tasks = append(tasks, g.fallback.Run)
	}
	if g.certs != nil {
		tasks = append(tasks, g.certs.Run)
	}
	err := run.Group(around, tasks...)
	return errors.Join(err, g.accessTo.close())
}

// tellReady tells the service manager that there is something to serve with.
func (g *Gateway) tellReady(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-g.loaded:
		g.heard(sockets.TellReady())
	}
	return nil
}

// fetchKeys fetches keys of issuers once a configuration is in force: while the first is compiled, which asks for them, nothing
// says yet which addresses may be dialled, and tokens would be answered 503 until the next try.
func (g *Gateway) fetchKeys(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.loaded:
		return g.services.KeySets.Run(ctx)
	}
}

// heard notes that the service manager could not be told: it may end what it takes for hanging.
func (g *Gateway) heard(err error) {
	if err != nil {
		g.log.Warn("the service manager does not listen", "err", err)
	}
}

// serveStatus serves the status port until ctx ends.
func (g *Gateway) serveStatus(ctx context.Context) error {
	mux := telemetry.StatusHandler(g.registry, nil, g.status.Ready)
	mux.Handle("GET /status", g.status.Handler())
	return status.Serve(ctx, g.statusLn, mux)
}

func syncSource(s Settings, d SourceDeps) (Source, error) {
	pin, err := s.pin()
	if err != nil {
		return nil, err
	}
	labels, err := settings.Pairs(s.Labels)
	if err != nil {
		return nil, err
	}
	return syncclient.New(syncclient.Config{
		Addresses: s.ControlPlane, TrustDomain: s.TrustDomain, JoinToken: s.JoinToken.Reveal(),
		ServiceAccountTokenFile: s.ServiceAccountTokenFile, RootPin: pin, Group: s.Group, IdentityDir: s.IdentityDir,
		Labels: labels, Version: telemetry.Version(), PolicyTypes: d.PolicyTypes, Contract: contract.Current(),
		Apply: d.Apply, Again: d.Again, Responses: d.Responses, Uses: d.Uses, Cache: d.Cache, Fallback: d.Fallback, Log: d.Log,
	})
}
