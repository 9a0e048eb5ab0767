package adminapi_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/store"
)

// AdminTokens and the rest are adminapi.Tokens; the world is its own cache of them.
func (w *world) AdminTokens(context.Context) ([]adminauth.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.tokens)), w.down
}

func (w *world) CreateAdminToken(_ context.Context, _ string, t adminauth.Token) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[t.ID] = t
	return w.down
}

func (w *world) DeleteAdminToken(_ context.Context, _, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.tokens[id]; !ok {
		return store.ErrNotFound
	}
	delete(w.tokens, id)
	return nil
}

func (w *world) Token(_ context.Context, id string) (adminauth.Token, bool, error) {
	t, ok := w.Known(id)
	return t, ok, nil
}

func (w *world) Known(id string) (adminauth.Token, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.tokens[id]
	return t, ok
}

func (w *world) Refresh(context.Context) error { return nil }

// AuditPage and VerifyAudit are adminapi.AuditLog.
func (w *world) AuditPage(_ context.Context, _ string, before int64, limit int) ([]store.AuditRow, error) {
	var out []store.AuditRow
	for seq := int64(5); seq > 0; seq-- {
		if (before == 0 || seq < before) && len(out) < limit {
			out = append(out, store.AuditRow{Seq: seq, Actor: "x", Action: "resources.put", Subjects: []string{"routes/r"}})
		}
	}
	return out, nil
}

func (w *world) VerifyAudit(context.Context, string) (audit.Report, error) {
	return audit.Report{Intact: true, Events: 5}, nil
}

// gateways is adminapi.Gateways, joins is adminapi.JoinTokens.
type gateways struct{}

func (gateways) List(_ context.Context, group string) ([]registry.Gateway, error) {
	row := store.Gateway{ID: "gw1", Group: group, Labels: map[string]string{"zone": "1"}}
	row.Faults = []store.Fault{{Kind: "routes", Name: "r", Reason: "does not compile"}}
	return []registry.Gateway{{Gateway: row, State: registry.Rejecting}}, nil
}

func (r gateways) Get(ctx context.Context, group, id string) (registry.Gateway, error) {
	if id != "gw1" {
		return registry.Gateway{}, store.ErrNotFound
	}
	all, err := r.List(ctx, group)
	return all[0], err
}

func (r gateways) Revoke(ctx context.Context, group, id, _, _ string) (registry.Gateway, error) {
	return r.Get(ctx, group, id)
}

func (r gateways) WaitForRevision(ctx context.Context, group string, _ int64, _ int, _ time.Duration) (registry.Progress, error) {
	all, err := r.List(ctx, group)
	return registry.Progress{Connected: 1, Pending: []string{"gw2"}, Rejecting: all}, err
}

func (gateways) ConnectedIn(context.Context, string) (int, error) { return 1, nil }

// Older is adminapi.Skills.
func (w *world) Older(_ context.Context, _ string, contract uint32) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.older[contract], w.lost
}

// newer takes it that contracts 2 and 3 brought what a service with a description has.
func newer(m proto.Message) map[string]uint32 {
	if s, ok := m.(*configv1.Service); ok && s.GetDescription() != "" {
		return map[string]uint32{"Service.description": 2, "Service.extra": 2, "Service.more": 3}
	}
	return nil
}

// Unable is adminapi.Skills.
func (w *world) Unable(_ context.Context, _ string, policyTypes []string) (map[string][]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string][]string{}
	for _, policyType := range policyTypes {
		if ids := w.unable[policyType]; len(ids) > 0 {
			out[policyType] = ids
		}
	}
	return out, w.lost
}

type joins struct{}

func (joins) CreateJoinToken(_ context.Context, n registry.NewToken) (store.JoinToken, string, error) {
	return store.JoinToken{ID: "j1", Group: n.Group, Uses: n.Uses}, "kwj_x", nil
}

func (joins) JoinTokens(_ context.Context, group string) ([]store.JoinToken, error) {
	return []store.JoinToken{{ID: "j1", Group: group}}, nil
}

func (joins) DeleteJoinToken(_ context.Context, _, id, _ string) error {
	if id != "j1" {
		return store.ErrNotFound
	}
	return nil
}

// bundleKeys has one key of group a.
type bundleKeys struct{}

func (bundleKeys) Show(_ context.Context, group, actor string) (fallback.Material, error) {
	return fallback.Material{Version: 2, Key: []byte("key of " + group + " for " + actor), Signer: []byte("signer")}, nil
}

func (bundleKeys) Rotate(context.Context, string, string) (uint32, error) { return 3, nil }
