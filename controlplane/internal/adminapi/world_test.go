package adminapi_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/digest"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/openapicheck"

	"keyward.dev/controlplane/internal/adminapi"
	"keyward.dev/controlplane/internal/adminauth"
	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/audit"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

// world stands in for everything behind the admin API: groups "a" and "b" in memory, a write path without rules, a
// registry with one gateway.
type world struct {
	t       *testing.T
	catalog *catalog.Catalog

	mu      sync.Mutex
	groups  map[string]*group
	tokens  map[string]adminauth.Token
	down    error               // what every store answers
	older   map[uint32][]string // who does not know a contract
	unable  map[string][]string // what gateways do not know, by policy type
	lost    error               // what asking for that answers
	violate error               // what admission says about every write
	writes  []configsvc.Request
	backs   []configsvc.RollbackRequest
}

// group is a set whose "ciphertext" is the record itself.
type group struct {
	head    store.Head
	digest  digest.Set
	rows    map[string]store.Row
	changes []store.Change
	set     *snapshot.Group
}

func newWorld(t *testing.T) *world {
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, catalog: cat, groups: map[string]*group{}, tokens: map[string]adminauth.Token{}}
	for _, name := range []string{"a", "b"} {
		w.add(name)
	}
	return w
}

func (w *world) add(name string) {
	g := &group{head: store.Head{Group: name, GroupUID: "uid-" + name, Epoch: 7}, rows: map[string]store.Row{}}
	g.head.Digest = g.digest.Sum()
	g.set = snapshot.NewGroup(name, g, slog.New(slog.DiscardHandler))
	if _, err := g.set.CatchUp(context.Background(), g); err != nil {
		w.t.Fatal(err)
	}
	w.groups[name] = g
}

func (g *group) Head(context.Context) (store.Head, error) { return g.head, nil }

func (g *group) ChangesSince(_ context.Context, revision int64, limit int) ([]store.Change, error) {
	var out []store.Change
	for _, c := range g.changes {
		if c.Revision > revision && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

func (g *group) Rows(_ context.Context, yield func(store.Row) error) error {
	for _, uid := range slices.Sorted(maps.Keys(g.rows)) {
		if err := yield(g.rows[uid]); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) Open(row store.Row) ([]byte, error)        { return row.Sealed, nil }
func (g *group) OpenChange(c store.Change) ([]byte, error) { return c.Sealed, nil }
func (g *group) VerifyHead(store.Head) error               { return nil }

// These groups drop nothing of their history.
func (g *group) Baseline(context.Context) (store.Baseline, error)          { return store.Baseline{}, nil }
func (g *group) BaselineRows(context.Context, func(store.Row) error) error { return nil }
func (g *group) OpenBaseline(b store.Baseline) ([]byte, error)             { return b.Sealed, nil }

func (g *group) OpenPastRecord(row store.Row) ([]byte, error) { return row.Sealed, nil }

// Group and Fresh are adminapi.Sets.
func (w *world) Group(_ context.Context, name string) (*snapshot.Group, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g, ok := w.groups[name]; ok {
		return g.set, nil
	}
	return nil, fmt.Errorf("open group: %w", store.ErrNotFound)
}

func (w *world) Fresh(ctx context.Context, name string) (*snapshot.View, error) {
	g, err := w.Group(ctx, name)
	if err != nil {
		return nil, err
	}
	if w.down != nil {
		return nil, w.down
	}
	return g.CatchUp(ctx, w.groups[name])
}

// Write is adminapi.Writer.
func (w *world) Write(ctx context.Context, req configsvc.Request) (configsvc.Result, error) {
	view, err := w.Fresh(ctx, req.Group)
	if err != nil {
		return configsvc.Result{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, req)
	if w.violate != nil || len(req.Faults) > 0 {
		all := slices.Concat(req.Faults, violationsOf(w.violate))
		return configsvc.Result{}, problem.Violated(problem.Sort(all))
	}
	g, res := w.groups[req.Group], configsvc.Result{Revision: view.Revision, View: view}
	body := &syncv1.ChangeBody{Epoch: g.head.Epoch, Revision: g.head.Revision + 1}
	next := *g
	next.rows = maps.Clone(g.rows)
	for _, c := range req.Changes {
		it, err := w.change(&next, view, body, c.Kind, c.Name, c.Message, c.IfMatch, c.IfNoneMatch)
		if err != nil {
			return configsvc.Result{}, err
		}
		if it == nil {
			res.Unchanged++
			continue
		}
		res.Items = append(res.Items, *it)
	}
	if res.Changed = len(res.Items) > 0; !res.Changed || req.DryRun {
		return res, nil
	}
	w.commit(g, &next, body, req.Actor)
	res.Revision = g.head.Revision
	res.View, err = g.set.CatchUp(ctx, g)
	return res, err
}

func violationsOf(err error) []problem.Violation {
	if err == nil {
		return nil
	}
	return problem.Of(err).Violations
}

// written counts the calls of Write.
func (w *world) written() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes)
}

func (w *world) change(g *group, view *snapshot.View, body *syncv1.ChangeBody, kind, name string, m proto.Message, ifMatch, ifNone string) (*configsvc.Item, error) {
	old, exists := view.Get(kind, name)
	switch {
	case ifNone == "*" && exists, ifMatch != "" && !exists, ifMatch != "" && ifMatch != "*" && catalog.ETag(old.Revision) != ifMatch:
		return nil, problem.Errorf(problem.PreconditionFailed, "the precondition does not hold")
	case m == nil && !exists:
		return nil, problem.Errorf(problem.NotFound, "there is no %s", name)
	}
	uid := "uid-" + kind + "-" + name
	it := &configsvc.Item{Kind: kind, Name: name, Before: old, Action: "update"}
	if m == nil {
		it.Action = "delete"
		g.digest.Remove(kind, uid, old.Record)
		delete(g.rows, uid)
		body.Removals = append(body.Removals, &syncv1.Removal{Kind: kind, Uid: uid, Name: name})
		return it, nil
	}
	m = proto.Clone(m)
	w.catalog.ClearOutput(m)
	if vs := w.catalog.Normalize(m); len(vs) > 0 {
		return nil, problem.Violated(vs)
	}
	keepSecret(m, old)
	record := w.record(kind, uid, name, m)
	if exists {
		if slices.Equal(record, old.Record) {
			return nil, nil
		}
		g.digest.Remove(kind, uid, old.Record)
	} else {
		it.Action = "create"
	}
	g.digest.Add(kind, uid, record)
	at := time.Unix(1_000_000, 0).UTC()
	labels := map[string]string{}
	if l, ok := m.(interface{ GetLabels() map[string]string }); ok {
		labels = l.GetLabels()
	}
	g.rows[uid] = store.Row{Kind: kind, UID: uid, Name: name, Labels: labels, Revision: body.Revision, Sealed: record, CreatedAt: at, UpdatedAt: at}
	body.Upserts = append(body.Upserts, &syncv1.Upsert{Record: record})
	it.After = &snapshot.Resource{Kind: kind, UID: uid, Name: name, Revision: body.Revision, Record: record, Message: m, CreatedAt: at, UpdatedAt: at}
	return it, nil
}

// keepSecret does with keys what the real write path does: a plaintext becomes a hash, `set` keeps the stored one.
func keepSecret(m proto.Message, old *snapshot.Resource) {
	c, ok := m.(*configv1.Credential)
	if !ok {
		return
	}
	var key credentialv1.KeyAuth
	if c.GetConfig().UnmarshalTo(&key) != nil {
		return
	}
	if key.GetKey().GetSet() && old != nil {
		c.Config = old.Message.(*configv1.Credential).GetConfig()
		return
	}
	hash := &configv1.KeyedHash{Term: 1, Hash: []byte("hash of " + key.GetKey().GetPlaintext())}
	key.Key = &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: hash}}
	c.Config, _ = anypb.New(&key)
}

func (w *world) record(kind, uid, name string, m proto.Message) []byte {
	packed, err := anypb.New(m)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&syncv1.Record{Kind: kind, Uid: uid, Name: name, Resource: packed})
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *world) commit(g, next *group, body *syncv1.ChangeBody, actor string) {
	sum := next.digest.Sum()
	body.Digest = sum[:]
	sealed, err := proto.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	g.rows, g.digest = next.rows, next.digest
	g.head.Revision, g.head.Digest, g.head.ResourceCount = body.GetRevision(), g.digest.Sum(), int64(len(g.rows))
	g.changes = append(g.changes, store.Change{
		Revision: body.GetRevision(), Epoch: g.head.Epoch, Sealed: sealed, At: time.Unix(1_000_000, 0).UTC(), Actor: actor, Summary: "1 created",
	})
}

// History is adminapi.History.
func (w *world) History(_ context.Context, name string, before int64, limit int) ([]store.Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, ok := w.groups[name]
	if !ok {
		return nil, store.ErrNotFound
	}
	var out []store.Change
	for _, c := range slices.Backward(g.changes) {
		if (before == 0 || c.Revision < before) && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, w.down
}

// Changes and At are adminapi.Past.
func (g *group) Changes(_ context.Context, yield func(store.Change) error) error {
	for _, c := range g.changes {
		if err := yield(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) At(ctx context.Context, name string, revisions ...int64) ([]*history.Set, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, ok := w.groups[name]
	if !ok || w.down != nil {
		return nil, cmp.Or(w.down, store.ErrNotFound)
	}
	return history.Read(ctx, g, g, w.catalog.Kinds(), revisions...)
}

// Rollback is adminapi.Writer's: it removes what a revision did not have and leaves the rest.
func (w *world) Rollback(ctx context.Context, req configsvc.RollbackRequest) (configsvc.RollbackResult, error) {
	sets, err := w.At(ctx, req.Group, req.To, history.Newest)
	if err != nil {
		return configsvc.RollbackResult{}, err
	}
	w.mu.Lock()
	w.backs = append(w.backs, req)
	w.mu.Unlock()
	newer, err := history.Diff(sets[0], sets[1])
	if err != nil {
		return configsvc.RollbackResult{}, err
	}
	write := configsvc.Request{Actor: req.Actor, Group: req.Group, DryRun: req.DryRun}
	for _, d := range newer {
		if d.Before == nil {
			write.Changes = append(write.Changes, admission.Change{Op: admission.OpDelete, Kind: d.Kind, Name: d.Name})
		}
	}
	res, err := w.Write(ctx, write)
	return configsvc.RollbackResult{Result: res, CredentialsLeft: 2}, err
}

// Groups and Heads are adminapi.Directory, CreateGroup is adminapi.GroupCreator.
func (w *world) Groups(context.Context) ([]store.Group, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []store.Group
	for _, name := range slices.Sorted(maps.Keys(w.groups)) {
		out = append(out, store.Group{Name: name, UID: "uid-" + name})
	}
	return out, w.down
}

func (w *world) Heads(context.Context) ([]store.HeadStamp, error) { return nil, w.down }

func (w *world) CreateGroup(_ context.Context, _, name, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.groups[name]; ok {
		return store.ErrConflict
	}
	w.add(name)
	return nil
}

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

// api is a running admin API and clients of both kinds.
type api struct {
	*world
	t       *testing.T
	url     string
	http    *http.Client // held against the OpenAPI document
	plain   *http.Client
	address string
	conn    *grpc.ClientConn
	checker *openapicheck.Checker
}

// serve starts the admin API over the world. Everything that goes over REST is held against the OpenAPI document.
func serve(t *testing.T) *api {
	t.Helper()
	return serveWith(t, trustDesk{})
}

func serveWith(t *testing.T, desk adminapi.Trust) *api {
	t.Helper()
	w := newWorld(t)
	server, err := adminapi.New(adminapi.Config{
		Catalog: w.catalog, Tokens: w, Auth: w, Sets: w, Writer: w, History: w, Past: w, Directory: w, Creator: w,
		Gateways: gateways{}, Joins: joins{}, BundleKeys: bundleKeys{}, Keyrings: &keyrings{}, Issuance: renewals{}, Trust: desk, Rollouts: &rollouts{}, Skills: w, Newer: newer, Pin: func() mtls.SPKI { return mtls.SPKI{} }, Audit: w, Version: &adminv1.Version{Version: "1.2.3"},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	listener := httptest.NewUnstartedServer(server.Handler())
	listener.EnableHTTP2 = true
	listener.StartTLS()
	a := &api{world: w, t: t, url: listener.URL, http: listener.Client(), plain: listener.Client(), address: listener.Listener.Addr().String()}
	if a.conn, err = a.dial(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.conn.Close()
		listener.CloseClientConnections()
		listener.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		for _, fault := range a.checker.Faults() {
			t.Errorf("OpenAPI: %v", fault)
		}
	})
	if a.checker, err = openapicheck.New(a.get("/openapi.json").body); err != nil {
		t.Fatal(err)
	}
	a.http = &http.Client{Transport: a.checker.Transport(a.plain.Transport)}
	return a
}

// dial connects a gRPC client, by its own dialer if it has one.
func (a *api) dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*grpc.ClientConn, error) {
	transport, _ := a.plain.Transport.(*http.Transport)
	opts := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com", MinVersion: tls.VersionTLS13}))}
	if dial != nil {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	}
	return grpc.NewClient(a.address, opts...)
}

// token makes a token with a role in a group and returns its text.
func (w *world) token(group string, role optionsv1.Role) string {
	w.t.Helper()
	var grants []adminauth.Grant
	if group != "" {
		grants = append(grants, adminauth.Grant{Group: group, Role: role})
	}
	token, text, err := adminauth.Issue("tester", grants)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens[token.ID] = token
	return text
}
