package adminapi_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
)

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
