// Package pki is the internal certificate authority: roots that gateways pin, a short-lived intermediate that signs, the
// certificates of gateways and of this replica, and the list of gateways that are refused. Private keys lie sealed in the
// store and are open only in memory. It decides nothing about who may have a certificate; the stream server asks it after
// attestation.
package pki

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

const (
	kindRoot         = "root"
	kindIntermediate = "intermediate"

	stateNext     = "next"
	stateCurrent  = "current"
	statePrevious = "previous"
	stateRetired  = "retired"
)

// Sealer seals under the system keyring; what it seals can be opened only for the same purpose and id.
type Sealer interface {
	SealBlob(purpose, id string, plaintext []byte) ([]byte, error)
	OpenBlob(purpose, id string, sealed []byte) ([]byte, error)
}

// Plan is a change of the authorities.
type Plan struct {
	// Order says who asked for it, and Action for what; empty: it had to be.
	Order
	Action string
	// States moves authorities on, by id; done before Create. There is never more than one current of a kind.
	States map[string]string
	Create []store.Authority
}

// Authorities keeps the authorities.
type Authorities interface {
	// Authorities lists those that are not retired.
	Authorities(ctx context.Context) ([]store.Authority, error)
	// UpdateAuthorities locks the authorities, hands them to plan, and carries out its answer, all or nothing.
	UpdateAuthorities(ctx context.Context, plan func([]store.Authority) (Plan, error)) error
}

// Config is what a CA needs.
type Config struct {
	Authorities Authorities
	Sealer      Sealer
	TrustDomain string
	// Replica names this process in its certificate.
	Replica string
	// Names are the DNS names and addresses in this replica's certificate, besides its URI.
	Names []string
	// GatewayTTL is how long gateway certificates live. 0: 24h.
	GatewayTTL time.Duration
	// IntermediateTTL is how long an intermediate lives; it is replaced when a third of that is left. 0: 30 days, or four times
	// GatewayTTL if that is more.
	IntermediateTTL time.Duration
	// RenewGrace is how long after its end a certificate can still be renewed. 0: 30 days.
	RenewGrace time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

const (
	rootTTL   = 10 * 365 * 24 * time.Hour
	serverTTL = 24 * time.Hour
	// skew is how much a peer's clock may be behind ours.
	skew = 5 * time.Minute
	// renewInterval is how often the authorities are looked at, whether or not somebody announced a change.
	renewInterval = time.Minute
)

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.GatewayTTL <= 0 {
		c.GatewayTTL = 24 * time.Hour
	}
	if c.RenewGrace <= 0 {
		c.RenewGrace = 30 * 24 * time.Hour
	}
	if c.IntermediateTTL <= 0 {
		c.IntermediateTTL = max(30*24*time.Hour, 4*c.GatewayTTL)
	}
	return c
}

// authority is an opened authority.
type authority struct {
	id    string
	state string
	cert  *x509.Certificate
	key   crypto.Signer
}

// Trust is what peers are verified against. It is immutable.
type Trust struct {
	// Pool holds the roots.
	Pool *x509.CertPool
	// Roots are the same, DER, oldest first.
	Roots [][]byte
	// Pin is the hash of the public key of the root under which certificates are issued now.
	Pin mtls.SPKI
	// Changed is closed when there is a newer trust bundle.
	Changed <-chan struct{}
}

// state is the authorities at one moment, immutable.
type state struct {
	trust        Trust
	changed      chan struct{}
	root         *authority
	intermediate *authority
	// previous are intermediates that no longer sign, newest last.
	previous []*x509.Certificate
	// before are the roots that were current before and are still trusted.
	before []*authority
	// bridges say under those roots that the intermediate's key is an intermediate's.
	bridges []*x509.Certificate
}

// CA issues certificates. Open makes one; Run keeps it fresh.
type CA struct {
	cfg   Config
	state atomic.Pointer[state]

	reload sync.Mutex // held while the state is replaced

	mu     sync.Mutex // guards server
	server *tls.Certificate
}

// Open loads the authorities, and makes the first ones in an empty installation.
func Open(ctx context.Context, cfg Config) (*CA, error) {
	c := &CA{cfg: cfg.withDefaults()}
	if _, err := mtls.ControlPlaneID(cfg.TrustDomain, cfg.Replica); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if err := c.renew(ctx, third); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	return c, nil
}

// Renew replaces the intermediate when no more than a third of its life is left; a background job calls it.
func (c *CA) Renew(ctx context.Context) error { return c.renew(ctx, third) }

// Run notices what other replicas did, also without news of it, until the context ends. It does not rely on background jobs:
// an intermediate that they have not replaced for long it replaces itself.
func (c *CA) Run(ctx context.Context) error {
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.renew(ctx, sixth); err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "certificate authorities could not be renewed", "err", err)
		}
	}
}

// Reload takes over what the store holds; called when another replica may have changed it.
func (c *CA) Reload(ctx context.Context) error {
	stored, err := c.cfg.Authorities.Authorities(ctx)
	if err != nil {
		return fmt.Errorf("load authorities: %w", err)
	}
	return c.adopt(stored)
}

// Parts of an authority's life: one in so many.
const (
	half  = 2
	third = 3
	sixth = 6
)

// renew reloads, and changes the authorities if one is missing or has no more than the given part of its life left.
func (c *CA) renew(ctx context.Context, left int) error {
	if err := c.Reload(ctx); err == nil && !c.due(c.state.Load(), left) {
		return nil
	} else if err != nil && !errors.Is(err, errNone) {
		return err
	}
	err := c.cfg.Authorities.UpdateAuthorities(ctx, func(stored []store.Authority) (Plan, error) {
		return c.plan(stored, left)
	})
	if err != nil {
		return fmt.Errorf("renew authorities: %w", err)
	}
	return c.Reload(ctx)
}

// errNone says that there is no current root or intermediate yet.
var errNone = errors.New("there is no current authority")

func (c *CA) due(s *state, left int) bool {
	return c.old(s.intermediate.cert, left) || s.intermediate.cert.CheckSignatureFrom(s.root.cert) != nil
}

// old says whether no more than one part in so many of a certificate's life is left.
func (c *CA) old(cert *x509.Certificate, left int) bool {
	part := cert.NotAfter.Sub(cert.NotBefore) / time.Duration(left)
	return c.cfg.Now().After(cert.NotAfter.Add(-part))
}

func (c *CA) adopt(stored []store.Authority) error {
	c.reload.Lock()
	defer c.reload.Unlock()
	next, err := c.open(stored)
	if err != nil {
		return err
	}
	prev := c.state.Load()
	if err := c.bridge(next, prev); err != nil {
		return err
	}
	if prev != nil && slices.EqualFunc(prev.trust.Roots, next.trust.Roots, slices.Equal[[]byte]) {
		next.changed, next.trust.Changed = prev.changed, prev.changed
	}
	c.state.Store(next)
	if prev != nil && prev.changed != next.changed {
		close(prev.changed)
	}
	return nil
}

// open builds the state from stored authorities, each of which must open.
func (c *CA) open(stored []store.Authority) (*state, error) {
	s := &state{changed: make(chan struct{}), trust: Trust{Pool: x509.NewCertPool()}}
	s.trust.Changed = s.changed
	for _, row := range stored {
		a, err := c.openAuthority(row)
		if err != nil {
			return nil, err
		}
		if row.Kind == kindRoot && c.cfg.Now().Before(a.cert.NotAfter) {
			s.trust.Pool.AddCert(a.cert)
			s.trust.Roots = append(s.trust.Roots, a.cert.Raw)
		}
		switch {
		case row.State == statePrevious && row.Kind == kindIntermediate:
			s.previous = append(s.previous, a.cert)
		case row.State == statePrevious && c.cfg.Now().Before(a.cert.NotAfter):
			s.before = append(s.before, a)
		case row.State != stateCurrent:
		case row.Kind == kindRoot:
			s.root, s.trust.Pin = a, mtls.SPKIOf(a.cert)
		case row.Kind == kindIntermediate:
			s.intermediate = a
		}
	}
	if s.root == nil || s.intermediate == nil {
		return nil, errNone
	}
	return s, nil
}

// Trust returns the current trust bundle.
func (c *CA) Trust() Trust { return c.state.Load().trust }

// Roots returns the current roots as a pool.
func (c *CA) Roots() *x509.CertPool { return c.state.Load().trust.Pool }
