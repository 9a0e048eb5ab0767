package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/internal/adminapi"
	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/certstatus"
	"keyward.dev/controlplane/internal/changefeed"
	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/credentialuse"
	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/issuance"
	"keyward.dev/controlplane/internal/jobs"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/rotation"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/syncserver"
	"keyward.dev/controlplane/internal/trust"
	"keyward.dev/shared/certfile"
	"keyward.dev/shared/contract"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/run"
	"keyward.dev/shared/run/rest"
	"keyward.dev/shared/telemetry"
)

// Serve runs a control-plane replica until ctx ends. What cannot be reached at the start, the database or the
// key-encryption key, is asked for again until it answers; until then the replica is alive and not ready.
func Serve(ctx context.Context, s Settings, log *slog.Logger) error {
	if err := s.Check(); err != nil {
		return err
	}
	log = log.With("replica", s.Replica)
	state := newStatus()
	keys, err := s.KEK.open()
	if err != nil {
		return err
	}
	s.Database.places = newPlaces(os.LookupEnv)
	defer s.Database.places.end(ctx, log)
	statusListener, err := net.Listen("tcp", s.StatusListen)
	if err != nil {
		return fmt.Errorf("listen for status: %w", err)
	}
	return run.Group(ctx,
		func(ctx context.Context) error { return serveStatus(ctx, statusListener, state) },
		func(ctx context.Context) error { return keys.run(ctx, log) },
		func(ctx context.Context) error {
			return s.Database.places.run(ctx, log, s.Database.URL, s.Database.User, s.Database.Password)
		},
		func(ctx context.Context) error {
			known, err := retry(ctx, log, func(ctx context.Context) (bool, error) {
				err := keys.ask(ctx)
				state.waitingFor(err)
				return err == nil, err
			})
			for known {
				err = serveOnce(ctx, s, keys.Keys, log, state)
				if !errors.Is(err, errReplaced) {
					return err
				}
				log.WarnContext(ctx, "a backup was restored into the database; beginning anew with what it holds now")
			}
			return err // nil if the end was asked for
		},
	)
}

// serveOnce runs a plane until ctx ends, or until it is good for nothing any more because its database was replaced.
func serveOnce(ctx context.Context, s Settings, keys kek.Keys, log *slog.Logger, state *replicaStatus) error {
	p, err := retry(ctx, log, func(ctx context.Context) (*plane, error) {
		p, err := newPlane(ctx, s, keys, log, state)
		state.waitingFor(err)
		return p, err
	})
	if p == nil || err != nil { // no plane and no error: the end was asked for
		return err
	}
	defer p.core.store.Close()
	defer state.ended()
	return p.run(ctx)
}

// plane is everything a replica is made of.
type plane struct {
	settings Settings
	log      *slog.Logger
	status   *replicaStatus

	core        *core
	keyrings    *keyrings
	listener    *store.Listener
	ca          *pki.CA
	revocations *pki.Revocations
	registry    *registry.Registry
	bundleKeys  *fallback.Keys
	keeper      *rotation.Keeper
	rollouts    *rollout.Ledger
	driver      *rollout.Driver
	uses        *credentialuse.Book
	hub         *fanout.Hub
	sync        *syncserver.Server
	tokens      *adminauth.Cache
	tokensWake  chan struct{}
	admin       *adminapi.Server
	feed        *changefeed.Feed
	jobs        *jobs.Runner
	secrets     *secretsource.Resolver
	stores      *credentialstore.Keeper
	replacement *replacement
	statuses    *certstatus.Keeper
	orders      *inbox.Inbox
	issuance    *issuance.Service
}

// newPlane builds the replica in the order in which its parts need each other. It starts nothing.
func newPlane(ctx context.Context, s Settings, keys kek.Keys, log *slog.Logger, state *replicaStatus) (*plane, error) {
	refs, err := s.references()
	if err != nil {
		return nil, err
	}
	if err := s.Bundles.settle(ctx, s.Database.places); err != nil {
		return nil, err
	}
	core, err := openCore(ctx, s.Database, keys, refs, log)
	if err != nil {
		return nil, err
	}
	p := &plane{settings: s, log: log, status: state, core: core, tokensWake: make(chan struct{}, 1)}
	p.secrets, p.orders = refs.resolver(core, log), refs.orders
	p.stores = refs.storeKeeper(core, p.secrets, log)
	p.keyrings = newKeyrings(core.sealer, log)
	p.replacement, err = newReplacement(ctx, core.store, keys, log) // before anything else is read
	if err == nil {
		err = p.build(ctx)
	}
	if err == nil {
		err = p.keyrings.look(ctx)
	}
	if err != nil {
		core.store.Close()
		return nil, err
	}
	return p, nil
}

func (p *plane) build(ctx context.Context) error {
	s, core, log := p.settings, p.core, p.log
	p.keeper = p.newKeeper()
	if err := p.keeper.Begin(ctx); err != nil {
		return err
	}
	ca, err := openCA(ctx, core, pki.Config{
		TrustDomain: s.TrustDomain, Replica: s.Replica, Names: append(s.adminNames(), s.SyncNames...),
		GatewayTTL: s.CertTTL, RenewGrace: s.RenewGrace, Log: log,
	})
	if err != nil {
		return err
	}
	p.ca = ca
	p.revocations = pki.NewRevocations(core.store.RevokedGateways)
	if err := p.revocations.Refresh(ctx); err != nil {
		return err
	}
	p.bundleKeys = fallback.NewKeys(core.store, core.sealer, time.Now)
	ledger := registry.NewLedger(core.store, core.sealer, p.bundleKeys, time.Now)
	p.rollouts = rollout.NewLedger(core.store, core.sealer, time.Now)
	p.registry = registry.New(registry.Config{
		Store: core.store, Notes: core.store, Changes: ledger, Revocations: p.revocations, Rollouts: p.rollouts,
		Skills: core.store, Replica: s.Replica, Log: log,
	})
	p.uses = credentialuse.New(core.store, time.Now, log)
	if p.issuance, err = p.newIssuance(p.orders); err != nil {
		return err
	}
	p.hub = fanout.NewHub(source{core.groups, core.history, p.rollouts}, fanout.Limits{}, log)
	p.driver = rollout.NewDriver(rollout.DriverConfig{
		Book: p.rollouts, Witness: p.registry, Follow: p.hub.Retarget, Now: time.Now, Log: log,
	})
	kubernetes, err := s.K8s.attestor()
	if err != nil {
		return err
	}
	p.sync = syncserver.New(syncserver.Config{
		CA: ca, Revocations: p.revocations, Enrolments: ledger, Groups: p.hub, Registry: p.registry,
		JoinTokens: joinTokenAttestor(ledger), Kubernetes: kubernetes, TrustDomain: s.TrustDomain,
		StreamAge: s.StreamMaxAge, FullSets: s.FullSets, Propagated: p.status.propagated, Ahead: p.status.gatewayAhead, Used: p.uses.Take, Log: log,
	})
	p.listener = core.store.NewListener()
	p.feed = changefeed.New(changefeed.Config{
		Database: core.store, Groups: core.groups, Hints: p.listener.Hints(), Wake: p.wake, Log: log,
	})
	if p.statuses, err = p.newStatusKeeper(); err != nil {
		return err
	}
	if p.jobs, err = p.background(); err != nil {
		return err
	}
	p.admin, err = p.adminServer()
	return err
}

func (p *plane) adminServer() (*adminapi.Server, error) {
	core := p.core
	tokens := &adminTokens{store: core.store, sealer: core.sealer, now: time.Now, log: p.log}
	p.tokens = adminauth.NewCache(tokens, p.log)
	return adminapi.New(adminapi.Config{
		Catalog: core.catalog, Tokens: tokens, Auth: p.tokens, Sets: core.groups, Writer: core.config, History: core.store,
		Past:      core.history,
		Directory: core.store, Creator: core.config, Gateways: p.registry, Joins: p.registry, BundleKeys: p.bundleKeys,
		Trust: trust.NewDesk(trust.Config{
			Authorities: p.ca, Gateways: p.registry, Store: core.store, Grace: p.ca.Grace(), Now: time.Now,
		}),
		Rollouts: rollout.NewDesk(p.rollouts, p.registry, time.Now), Keyrings: p.keeper, Issuance: p.issuance, Skills: p.registry, Uses: core.store, Newer: newer(),
		Audit: auditLog{core.store, core.sealer}, Pin: func() mtls.SPKI { return p.ca.Trust().Pin }, Log: p.log,
		Version: &adminv1.Version{
			Version: telemetry.Version(), GoVersion: runtime.Version(), MinGatewayVersion: minGatewayVersion,
		},
	})
}

// newer looks for what of a resource a gateway may not know, which costs nothing while nothing has been added.
func newer() func(proto.Message) map[string]uint32 {
	if contract.Current() == 0 {
		return nil
	}
	return contract.Newer
}

// minGatewayVersion is the oldest gateway that works with this control plane.
const minGatewayVersion = "v0.1.0"

// run starts what runs. The first part that fails ends all.
func (p *plane) run(ctx context.Context) error {
	adminTLS, watchFiles, err := p.adminTLS()
	if err != nil {
		return err
	}
	adminListener, err := net.Listen("tcp", p.settings.AdminListen)
	if err != nil {
		return fmt.Errorf("listen for the admin API: %w", err)
	}
	syncListener, err := net.Listen("tcp", p.settings.SyncListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for gateways: %w", err), adminListener.Close())
	}
	p.status.serving(p)
	p.log.InfoContext(ctx, "control plane serving", "admin", adminListener.Addr().String(), "sync", syncListener.Addr().String(), "version", telemetry.Version(), "fips140", telemetry.FIPS140())
	return run.Group(ctx,
		p.listener.Run,
		p.feed.Run,
		p.ca.Run,
		p.hub.Run,
		p.registry.Run,
		p.uses.Run,
		p.runOrder,
		rest.Collect,
		p.driver.Run,
		p.runKeeper,
		p.admin.Run,
		p.jobs.Run,
		p.keyrings.Run,
		p.secrets.Serve,
		p.stores.Serve,
		p.replacement.Run,
		p.issuance.Serve,
		watchFiles,
		func(ctx context.Context) error { return p.tokens.Run(ctx, p.tokensWake) },
		func(ctx context.Context) error { return p.sync.Serve(ctx, syncListener, p.syncTLS()) },
		func(ctx context.Context) error {
			return serveHTTP(ctx, p.admin.HTTPServer(adminTLS, p.log), tls.NewListener(adminListener, adminTLS))
		},
	)
}

func (p *plane) syncTLS() *tls.Config {
	return mtls.ServerTLS(mtls.Config{
		TrustDomain: p.settings.TrustDomain, Roots: p.ca.Roots, Certificate: p.ca.ServerCertificate,
	})
}

// adminTLS uses the operator's certificate, read again when its files change, or one of the internal CA. What it returns
// second has to run.
func (p *plane) adminTLS() (*tls.Config, run.Task, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if p.settings.AdminCert == "" {
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.ca.ServerCertificate() }
		return cfg, func(context.Context) error { return nil }, nil
	}
	files, err := certfile.Load(p.settings.AdminCert, p.settings.AdminKey, p.log)
	if err != nil {
		return nil, nil, fmt.Errorf("admin API: %w", err)
	}
	cfg.GetCertificate = files.Get
	return cfg, files.Run, nil
}

// wake passes on that state without revisions has changed.
func (p *plane) wake(ctx context.Context, topic string) {
	var err error
	switch topic {
	case store.TopicGroups:
		p.replacement.poke()
	case store.TopicGateways:
		err = p.revocations.Refresh(ctx)
	case store.TopicKeyrings:
		err = p.core.sealer.Refresh(ctx)
		p.keeper.Poke()
	case store.TopicRollouts:
		p.hub.Retarget(ctx)
	case store.TopicAuthorities:
		err = p.ca.Reload(ctx)
	case store.TopicAdminTokens:
		select {
		case p.tokensWake <- struct{}{}:
		default:
		}
	}
	if err != nil && ctx.Err() == nil {
		p.log.ErrorContext(ctx, "news of another replica could not be taken in", "topic", topic, "err", err)
	}
}

// shutdownTime is how long requests under way have to end.
const shutdownTime = 5 * time.Second

// serveHTTP serves until ctx ends, then lets what is under way finish.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		_ = server.Close()
	}
	<-failed //nolint:errcheck // it says that the server was shut down
	return nil
}

const (
	firstPause = 200 * time.Millisecond
	maxPause   = 5 * time.Second
)

// retry builds until it works, as long as what fails can recover by itself.
func retry[T any](ctx context.Context, log *slog.Logger, build func(context.Context) (T, error)) (T, error) {
	var none T
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		made, err := build(ctx)
		if err == nil || ctx.Err() != nil || !transient(err) {
			return made, err
		}
		log.WarnContext(ctx, "not ready yet; trying again", "err", err)
		select {
		case <-ctx.Done():
			return none, nil
		case <-time.After(pause):
		}
	}
}

// transient says whether waiting may help: a database, a key-encryption key or who keeps a secret that does not answer, a keyring of which the
// key is not here, a database that is yet to be migrated or bootstrapped by a job that runs beside this replica. A wrong
// setting or a keyring that does not open stays wrong.
func transient(err error) bool {
	for _, passing := range []error{store.ErrUnavailable, sealer.ErrUnavailable, kek.ErrUnavailable, store.ErrSchema, errNotBootstrapped} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return down(err)
}
