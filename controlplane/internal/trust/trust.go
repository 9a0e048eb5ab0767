// Package trust rotates the certificate authorities for people: it knows who relies on which of them, and refuses a step that
// would lock somebody out unless that is wanted. It holds no key and issues nothing; package pki does. The admin API asks it.
package trust

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
)

// Authorities are the certificate authorities; *pki.CA does.
type Authorities interface {
	List(ctx context.Context) ([]pki.Authority, error)
	RotateIntermediate(ctx context.Context, by pki.Order) error
	PrepareRoot(ctx context.Context, by pki.Order) error
	ActivateRoot(ctx context.Context, by pki.Order) error
	RetireRoot(ctx context.Context, by pki.Order) error
}

// Gateways knows the connected ones; *registry.Registry does.
type Gateways interface {
	// Trusting answers the connected gateways of a group, and those that have not taken over the trust bundle.
	Trusting(ctx context.Context, group string, bundle [sha256.Size]byte) (connected, not []string, err error)
}

// Store is what is noted of certificates and tokens; *store.Store does.
type Store interface {
	Groups(ctx context.Context) ([]store.Group, error)
	BearersOfOthers(ctx context.Context, issuers []string, after time.Time) ([]store.Bearer, error)
	JoinTokensOfRoot(ctx context.Context, root string, now time.Time) (int, error)
}

// Config is what a Desk needs.
type Config struct {
	Authorities Authorities
	Gateways    Gateways
	Store       Store
	// Grace is how long after its end a certificate can be renewed.
	Grace time.Duration
	Now   func() time.Time
}

// Desk is where rotations are asked for.
type Desk struct{ cfg Config }

// NewDesk returns a desk.
func NewDesk(cfg Config) *Desk { return &Desk{cfg: cfg} }

// State is the authorities and who relies on them.
type State struct {
	Authorities []pki.Authority
	// Pin is of the current root.
	Pin mtls.SPKI
	// Bundle is the roots to trust, DER.
	Bundle [][]byte
	// Connected counts gateways; Unaware are those of them that have not taken over the bundle, as group/id.
	Connected int
	Unaware   []string
	// Former is nil if there is no root that was current before.
	Former *Former
}

// Former is what hangs on the root that was current before.
type Former struct {
	Root string
	// Holders have a good certificate under it, as group/id.
	Holders []string
	// Renewable counts those with one that has ended, and can be renewed.
	Renewable int
	// JoinTokens counts the usable ones that carry it.
	JoinTokens int
}

// State answers it.
func (d *Desk) State(ctx context.Context) (State, error) {
	all, err := d.cfg.Authorities.List(ctx)
	if err != nil {
		return State{}, err
	}
	s := State{Authorities: all}
	var former *pki.Authority
	var issuers []string
	for _, a := range all {
		switch {
		case a.IsRoot() && a.Signs():
			s.Pin = a.Pin()
		case a.IsRoot() && a.Former():
			former = &a
		}
		if a.IsRoot() && d.cfg.Now().Before(a.Certificate.NotAfter) {
			s.Bundle = append(s.Bundle, a.Certificate.Raw)
		}
	}
	if err := d.connected(ctx, &s); err != nil {
		return State{}, err
	}
	if former == nil {
		return s, nil
	}
	for _, a := range all {
		if !a.IsRoot() && a.Root != former.ID {
			issuers = append(issuers, a.ID)
		}
	}
	s.Former, err = d.former(ctx, former, issuers)
	return s, err
}

func (d *Desk) connected(ctx context.Context, s *State) error {
	groups, err := d.cfg.Store.Groups(ctx)
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	digest := mtls.BundleDigest(s.Bundle)
	for _, g := range groups {
		connected, not, err := d.cfg.Gateways.Trusting(ctx, g.Name, digest)
		if err != nil {
			return err
		}
		s.Connected += len(connected)
		for _, id := range not {
			s.Unaware = append(s.Unaware, g.Name+"/"+id)
		}
	}
	return nil
}

// former looks for what hangs on the root; the issuers are those that do not.
func (d *Desk) former(ctx context.Context, root *pki.Authority, issuers []string) (*Former, error) {
	now := d.cfg.Now()
	f := &Former{Root: root.ID}
	bearers, err := d.cfg.Store.BearersOfOthers(ctx, issuers, now.Add(-d.cfg.Grace))
	if err != nil {
		return nil, err
	}
	for _, b := range bearers {
		if b.NotAfter.After(now) {
			f.Holders = append(f.Holders, b.Group+"/"+b.ID)
		} else {
			f.Renewable++
		}
	}
	f.JoinTokens, err = d.cfg.Store.JoinTokensOfRoot(ctx, root.Pin().String(), now)
	return f, err
}
