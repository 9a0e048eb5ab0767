package pki

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/problem"
)

// Authority is an authority that is not retired.
type Authority struct {
	ID, Kind, State string
	// Root is the id of the root that signed it; its own of a root.
	Root        string
	Certificate *x509.Certificate
}

// Pin is the hash of its public key.
func (a Authority) Pin() mtls.SPKI { return mtls.SPKIOf(a.Certificate) }

// Signs says whether certificates are issued under it now.
func (a Authority) Signs() bool { return a.State == stateCurrent }

// IsRoot says whether it is a root.
func (a Authority) IsRoot() bool { return a.Kind == kindRoot }

// Prepared says whether it is the root that is to be activated.
func (a Authority) Prepared() bool { return a.State == stateNext }

// Former says whether it is a root that was current before, or an intermediate that was.
func (a Authority) Former() bool { return a.State == statePrevious }

// Order is who asked for a change.
type Order struct {
	Actor string
	// Detail is for the audit trail.
	Detail string
}

// List answers the authorities that are not retired, roots last, each kind oldest first.
func (c *CA) List(ctx context.Context) ([]Authority, error) {
	stored, err := c.cfg.Authorities.Authorities(ctx)
	if err != nil {
		return nil, fmt.Errorf("list authorities: %w", err)
	}
	var all []Authority
	for _, row := range stored {
		a, err := c.openAuthority(row)
		if err != nil {
			return nil, err
		}
		all = append(all, Authority{ID: a.id, Kind: row.Kind, State: a.state, Certificate: a.cert})
	}
	for i, a := range all {
		for _, root := range all {
			if root.IsRoot() && a.Certificate.CheckSignatureFrom(root.Certificate) == nil {
				all[i].Root = root.ID
			}
		}
	}
	return all, nil
}

// RotateIntermediate makes an intermediate under the current root, which signs from now on. The one before stays good until
// it ends.
func (c *CA) RotateIntermediate(ctx context.Context, by Order) error {
	return c.change(ctx, by, "rotate-intermediate", func(h *held, p *Plan) error {
		return c.follow(p, h.intermediate, h.root)
	})
}

// PrepareRoot makes the next root. It is in the trust bundle from now on, and signs nothing yet.
func (c *CA) PrepareRoot(ctx context.Context, by Order) error {
	return c.change(ctx, by, "prepare-root", func(h *held, p *Plan) error {
		switch {
		case h.next != nil:
			return problem.Errorf(problem.Conflict, "root %s is prepared already", h.next.id)
		case len(h.previous) > 0:
			return problem.Errorf(problem.Conflict, "root %s, which was current before, has to be retired first", h.previous[0].id)
		}
		_, row, err := c.makeRoot(stateNext)
		p.Create = append(p.Create, row)
		return err
	})
}

// ActivateRoot makes the prepared root the current one, with an intermediate of its own. The root before stays in the trust
// bundle, and vouches for the new intermediate where it is the only one that is known.
func (c *CA) ActivateRoot(ctx context.Context, by Order) error {
	return c.change(ctx, by, "activate-root", func(h *held, p *Plan) error {
		if h.next == nil {
			return problem.Errorf(problem.Conflict, "no root is prepared")
		}
		p.States[h.next.id], p.States[h.root.id] = stateCurrent, statePrevious
		return c.follow(p, h.intermediate, h.next)
	})
}

// RetireRoot takes the root that was current before out of the trust bundle: nothing that hangs on it is good any more.
func (c *CA) RetireRoot(ctx context.Context, by Order) error {
	return c.change(ctx, by, "retire-root", func(h *held, p *Plan) error {
		if len(h.previous) == 0 {
			return problem.Errorf(problem.Conflict, "there is no root that was current before")
		}
		for _, root := range h.previous {
			p.States[root.id] = stateRetired
			for _, a := range h.former {
				if a.cert.CheckSignatureFrom(root.cert) == nil {
					p.States[a.id] = stateRetired
				}
			}
		}
		return nil
	})
}

// change carries out what somebody asked for, and takes it over here; other replicas are woken.
func (c *CA) change(ctx context.Context, by Order, action string, do func(*held, *Plan) error) error {
	err := c.cfg.Authorities.UpdateAuthorities(ctx, func(stored []store.Authority) (Plan, error) {
		p := Plan{Order: by, Action: action, States: map[string]string{}}
		h, err := c.hold(stored)
		if err != nil {
			return p, err
		}
		if h.root == nil || h.intermediate == nil {
			return p, errNone
		}
		return p, do(h, &p)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if err := c.Reload(ctx); err != nil {
		// It is done, and will be taken over with the next look at the authorities.
		c.cfg.Log.WarnContext(ctx, "changed certificate authorities could not be loaded", "err", err)
	}
	return nil
}

// bridge has the intermediate certified by the roots that were current before. That is not a certificate of the new root: old
// roots allow only one authority between them and what it issues. Nothing of it is stored: each replica makes its own, and
// keeps it while neither side changes.
func (c *CA) bridge(s, prev *state) error {
	same := func(a, b *authority) bool { return bytes.Equal(a.cert.Raw, b.cert.Raw) }
	if prev != nil && same(prev.intermediate, s.intermediate) && slices.EqualFunc(prev.before, s.before, same) {
		s.bridges = prev.bridges
		return nil
	}
	for _, root := range s.before {
		cert, err := c.certify(s.intermediate.key.Public(), root, s.intermediate.cert.NotAfter)
		if err != nil {
			return fmt.Errorf("bridge from root %s: %w", root.id, err)
		}
		s.bridges = append(s.bridges, cert)
	}
	return nil
}

// above is what follows a replica's certificate in its chain.
func (s *state) above() [][]byte {
	chain := append([][]byte{s.intermediate.cert.Raw, s.root.cert.Raw}, raw(s.bridges)...)
	for _, root := range s.before {
		chain = append(chain, root.cert.Raw)
	}
	return chain
}

func raw(certs []*x509.Certificate) [][]byte {
	out := make([][]byte, len(certs))
	for i, c := range certs {
		out[i] = c.Raw
	}
	return out
}

// Grace is how long after its end a certificate can still be renewed.
func (c *CA) Grace() time.Duration { return c.cfg.RenewGrace }
