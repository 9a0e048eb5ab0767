package configsvc_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
)

// world is a database with the group "g" and as many replicas on it as a test asks for.
type world struct {
	db  *storetest.DB
	kek *file.Key
}

// replica is the write path of one process.
type replica struct {
	*configsvc.Service
	groups  *snapshot.Manager
	sealer  *sealer.Sealer
	store   *store.Store
	past    *history.Log
	catalog *catalog.Catalog
}

func newWorld(t testing.TB) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: storetest.New(t), kek: key}
	r := w.replica(t)
	if _, err := r.sealer.Init(t.Context(), "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.CreateGroup(t.Context(), "test", "g", ""); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) replica(t testing.TB) *replica {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	seal := sealer.New(w.db.Store, w.kek)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(w.db.Store, unlock, slog.New(slog.DiscardHandler))
	past := history.New(w.db.Store, unlock, cat.Kinds())
	return &replica{
		Service: configsvc.New(configsvc.Config{
			Store: w.db.Store, Sealer: seal, Groups: groups, History: past, Admission: admit, Log: slog.New(slog.DiscardHandler),
		}),
		groups: groups, sealer: seal, store: w.db.Store, past: past, catalog: cat,
	}
}

// write writes as a test.
func (r *replica) write(ctx context.Context, changes ...admission.Change) (configsvc.Result, error) {
	return r.Write(ctx, configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: changes})
}

func (r *replica) mustWrite(t testing.TB, changes ...admission.Change) configsvc.Result {
	t.Helper()
	res, err := r.write(t.Context(), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (r *replica) fresh(t *testing.T) *snapshot.View {
	t.Helper()
	v, err := r.groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func service(name string) admission.Change {
	return admission.Change{Kind: "services", Name: name, Message: &configv1.Service{Name: name, Url: "http://10.0.0.1:80"}}
}

func route(name, service string) admission.Change {
	return admission.Change{Kind: "routes", Name: name, Message: &configv1.Route{
		Name: name, Service: service, Hosts: []string{name + ".test"},
	}}
}

func remove(kind, name string) admission.Change {
	return admission.Change{Op: admission.OpDelete, Kind: kind, Name: name}
}

func consumer(name string) admission.Change {
	return admission.Change{Kind: "consumers", Name: name, Message: &configv1.Consumer{Name: name}}
}

func key(t *testing.T, consumer, name, plaintext string) admission.Change {
	t.Helper()
	cfg, err := anypb.New(&credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: plaintext}}})
	if err != nil {
		t.Fatal(err)
	}
	return admission.Change{Kind: "credentials", Name: consumer + "/" + name, Message: &configv1.Credential{
		Name: name, Consumer: consumer, Type: "key-auth", Config: cfg,
	}}
}

func strongKey(n int) string { return fmt.Sprintf("Zq7xV2mN9pL4tR8wB1cD5fG6hJ3k%06d", n) }
