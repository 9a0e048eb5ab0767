// Package registrytest keeps gateways in memory for tests, for everything that a registry or a stream server asks of the
// database. Only tests use it.
package registrytest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
)

// Memory is a database.
type Memory struct {
	mu       sync.Mutex
	gateways map[string]store.Gateway
	reports  map[[2]string]store.ReplicaReport
	heads    map[string]store.Head
	tokens   map[string]store.JoinToken
	rollouts map[string]*rollout.State
	down     bool
	// saved counts the reports that were written.
	saved int
}

// New returns an empty database.
func New() *Memory {
	return &Memory{
		gateways: map[string]store.Gateway{}, reports: map[[2]string]store.ReplicaReport{},
		heads: map[string]store.Head{}, tokens: map[string]store.JoinToken{}, rollouts: map[string]*rollout.State{},
	}
}

var errDown = errors.New("down")

// SetDown takes the database away, or gives it back.
func (m *Memory) SetDown(down bool) { m.do(func() { m.down = down }) }

// SetHead says where a group stands.
func (m *Memory) SetHead(group string, epoch uint64, revision int64) {
	m.do(func() { m.heads[group] = store.Head{Group: group, Epoch: epoch, Revision: revision} })
}

// SetRollout says how far the gateways of a group may go.
func (m *Memory) SetRollout(group string, s *rollout.State) { m.do(func() { m.rollouts[group] = s }) }

// State answers that; nil: as far as they like.
func (m *Memory) State(_ context.Context, group string) (s *rollout.State, err error) {
	m.do(func() { s = m.rollouts[group] })
	return s, nil
}

// Saved returns how many reports were written.
func (m *Memory) Saved() (n int) {
	m.do(func() { n = m.saved })
	return n
}

// Put puts a gateway in.
func (m *Memory) Put(g store.Gateway) { m.do(func() { m.gateways[g.ID] = g }) }

func (m *Memory) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *Memory) try(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	return f()
}

// Gateways implements registry.Store.
func (m *Memory) Gateways(_ context.Context, group string) (out []store.Gateway, err error) {
	err = m.try(func() error {
		for _, id := range slices.Sorted(maps.Keys(m.gateways)) {
			if g := m.gateways[id]; g.Group == group {
				out = append(out, g)
			}
		}
		return nil
	})
	return out, err
}

// GatewaysWithout implements registry.Skills.
func (m *Memory) GatewaysWithout(ctx context.Context, group string, policyTypes []string) ([]store.Gateway, error) {
	all, err := m.Gateways(ctx, group)
	return slices.DeleteFunc(all, func(g store.Gateway) bool {
		knows := func(policyType string) bool { return slices.Contains(g.PolicyTypes, policyType) }
		lacks := slices.ContainsFunc(policyTypes, func(policyType string) bool { return !knows(policyType) })
		return !lacks || len(g.PolicyTypes) == 0 || !g.RevokedAt.IsZero()
	}), err
}

// Gateway implements registry.Store.
func (m *Memory) Gateway(_ context.Context, group, id string) (g store.Gateway, err error) {
	err = m.update(group, id, func(have *store.Gateway) { g = *have })
	return g, err
}

func (m *Memory) update(group, id string, f func(*store.Gateway)) error {
	return m.try(func() error {
		g, ok := m.gateways[id]
		if !ok || g.Group != group {
			return store.ErrNotFound
		}
		f(&g)
		m.gateways[id] = g
		return nil
	})
}

// Reports implements registry.Store.
func (m *Memory) Reports(_ context.Context, group string, since time.Time) (out []store.ReplicaReport, err error) {
	err = m.try(func() error {
		for k, r := range m.reports {
			if k[0] == group && !r.At.Before(since) {
				out = append(out, r)
			}
		}
		return nil
	})
	return out, err
}

// Head implements registry.Store.
func (m *Memory) Head(_ context.Context, group string) (h store.Head, err error) {
	err = m.try(func() error { h = m.heads[group]; return nil })
	return h, err
}

// JoinTokens implements registry.Store.
func (m *Memory) JoinTokens(_ context.Context, group string) (out []store.JoinToken, err error) {
	err = m.try(func() error {
		for _, t := range m.tokens {
			if t.Group == group {
				out = append(out, t)
			}
		}
		return nil
	})
	return out, err
}

// SaveReport implements registry.Notes.
func (m *Memory) SaveReport(_ context.Context, r store.ReplicaReport) error {
	return m.try(func() error {
		m.reports[[2]string{r.Group, r.Replica}] = r
		m.saved++
		return nil
	})
}

// DropReports implements registry.Notes.
func (m *Memory) DropReports(_ context.Context, replica string, before time.Time) error {
	return m.try(func() error {
		maps.DeleteFunc(m.reports, func(k [2]string, r store.ReplicaReport) bool { return k[1] == replica || r.At.Before(before) })
		return nil
	})
}

// SetGatewayHello implements registry.Notes.
func (m *Memory) SetGatewayHello(_ context.Context, group, id string, h store.Hello) error {
	return m.update(group, id, func(g *store.Gateway) {
		g.Version, g.Labels, g.PolicyTypes, g.LastSeen = h.Version, h.Labels, h.PolicyTypes, h.At
	})
}

// SetGatewayState implements registry.Notes.
func (m *Memory) SetGatewayState(_ context.Context, group, id string, s store.GatewayState) error {
	return m.update(group, id, func(g *store.Gateway) { g.GatewayState = s })
}

// Revoke implements registry.Changes.
func (m *Memory) Revoke(_ context.Context, group, id, actor, reason string) error {
	return m.update(group, id, func(g *store.Gateway) { g.RevokedAt, g.RevokedBy, g.RevokedReason = time.Now(), actor, reason })
}

// Adopt implements registry.Changes.
func (m *Memory) Adopt(_ context.Context, group, id string, c store.Certificate) error {
	return m.try(func() error {
		m.gateways[id] = store.Gateway{ID: id, Group: group, Attestor: "certificate", SPKIHash: c.SPKIHash, Serial: c.Serial, NotAfter: c.NotAfter}
		return nil
	})
}

// CreateJoinToken implements registry.Changes.
func (m *Memory) CreateJoinToken(_ context.Context, t store.JoinToken) (store.JoinToken, error) {
	return t, m.try(func() error { m.tokens[t.ID] = t; return nil })
}

// DeleteJoinToken implements registry.Changes.
func (m *Memory) DeleteJoinToken(_ context.Context, _, id, _ string) error {
	return m.try(func() error { delete(m.tokens, id); return nil })
}

// JoinToken implements attest.Tokens.
func (m *Memory) JoinToken(_ context.Context, id string) (t store.JoinToken, err error) {
	err = m.try(func() error {
		var ok bool
		if t, ok = m.tokens[id]; !ok {
			return store.ErrNotFound
		}
		return nil
	})
	return t, err
}

// VerifyJoinToken implements attest.Tokens.
func (m *Memory) VerifyJoinToken(context.Context, store.JoinToken) error { return nil }

// RevokedGateways answers the ids of revoked gateways.
func (m *Memory) RevokedGateways(context.Context) (ids []string, err error) {
	err = m.try(func() error {
		for id, g := range m.gateways {
			if !g.RevokedAt.IsZero() {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}

// Enrol enrols as registry.Ledger does, without counting uses.
func (m *Memory) Enrol(_ context.Context, c registry.Candidate) (out store.Gateway, err error) {
	err = m.try(func() error {
		for _, g := range m.gateways {
			if g.Group == c.Group && bytes.Equal(g.SPKIHash, c.KeyHash) {
				out = g
				return nil
			}
		}
		out = store.Gateway{ID: store.NewUID(), Group: c.Group, SPKIHash: c.KeyHash, Attestor: c.Attestor, Attestation: c.By, EnrolledAt: time.Now()}
		m.gateways[out.ID] = out
		return nil
	})
	return out, err
}

// SetGatewayCertificate notes a certificate as registry.Ledger does.
func (m *Memory) SetGatewayCertificate(_ context.Context, group, id string, c store.Certificate) error {
	revoked := false
	err := m.update(group, id, func(g *store.Gateway) {
		if revoked = !g.RevokedAt.IsZero(); !revoked {
			g.SPKIHash, g.Serial, g.NotAfter = c.SPKIHash, c.Serial, c.NotAfter
		}
	})
	if revoked {
		return registry.ErrRevoked
	}
	return err
}
