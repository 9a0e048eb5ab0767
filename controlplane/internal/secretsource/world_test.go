package secretsource_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// world is a database with the group g, a folder from which its references are read, and a clock.
type world struct {
	db   *storetest.DB
	kek  *file.Key
	root string

	mu  sync.Mutex
	now time.Time
	log bytes.Buffer // guarded by mu
}

// replica is one control plane.
type replica struct {
	*configsvc.Service
	*secretsource.Resolver
	groups *snapshot.Manager
}

func newWorld(t *testing.T) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: storetest.New(t), kek: key, root: t.TempDir(), now: time.Now()}
	r := w.replica(t)
	if _, err := sealer.New(w.db.Store, key).Init(t.Context(), "test", w.clock()); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"g", "other"} {
		if err := r.CreateGroup(t.Context(), "test", group, ""); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Write takes in what is logged.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) replica(t *testing.T) *replica {
	t.Helper()
	return w.replicaWith(t, "mounted=file:"+w.root+"?groups=g&refresh=1m&stale=2h")
}

func (w *world) replicaWith(t *testing.T, settings ...string) *replica {
	t.Helper()
	return w.replicaAllowing(t, []string{"127.0.0.0/8"}, settings...)
}

// replicaAllowing lets providers that tenants make be in some networks.
func (w *world) replicaAllowing(t *testing.T, networks []string, settings ...string) *replica {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	var roots []string
	settings = slices.DeleteFunc(slices.Clone(settings), func(text string) bool {
		if strings.HasPrefix(text, "/") {
			roots = append(roots, text)
		}
		return strings.HasPrefix(text, "/")
	})
	providers, err := secretsource.Open(settings, func(string) (string, bool) { return "", false })
	if err == nil {
		err = providers.AddRoots(roots)
	}
	if err != nil {
		t.Fatal(err)
	}
	rules, err := egress.New(networks, egress.Interfaces)
	if err != nil {
		t.Fatal(err)
	}
	log, woken := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), inbox.New()
	seal := sealer.New(w.db.Store, w.kek)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(w.db.Store, unlock, log)
	svc := configsvc.New(configsvc.Config{
		Store: w.db.Store, Sealer: seal, Groups: groups, History: history.New(w.db.Store, unlock, cat.Kinds()), Admission: admit,
		Log: log, Secrets: providers.For, Referring: woken.Wake, Now: w.clock,
	})
	return &replica{Service: svc, groups: groups, Resolver: secretsource.New(secretsource.Config{
		Providers: providers, Egress: rules, Patience: 6 * time.Second, Database: w.db.Store, Groups: groups, Writer: svc, Woken: woken, Now: w.clock, Log: log,
	})}
}

func (r *replica) put(t *testing.T, group string, m *configv1.Certificate) error {
	t.Helper()
	_, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: group,
		Changes: []admission.Change{{Kind: certs.Kind, Name: m.GetName(), Message: m}},
	})
	return err
}

// state is the revision of the group and what is read of its one reference.
func (w *world) state(t *testing.T) (int64, *systemv1.ResolvedSecret) {
	t.Helper()
	v, err := w.replica(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	var found *systemv1.ResolvedSecret
	for r := range v.All(certs.KindResolved) {
		if found != nil {
			t.Fatal("there are several records")
		}
		found = r.Message.(*systemv1.ResolvedSecret)
	}
	return v.Revision, found
}

func referring(name, path string) *configv1.Certificate {
	return &configv1.Certificate{Name: name, Snis: []string{"web.test"}, Current: &configv1.CertificateVersion{
		PrivateKey: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{file://mounted/" + path + "}"}},
	}}
}

// mount writes a new certificate for web.test and answers its id.
func (w *world) mount(t *testing.T, names ...string) (id, key string) {
	t.Helper()
	c := certtest.SelfSigned(t, "web", certtest.Names(append(names, "web.test")...))
	w.file(t, c.KeyPEM(t)+c.PEM())
	return c.ID(), c.KeyPEM(t)
}

func (w *world) file(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, "web.pem"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func id(r *systemv1.ResolvedSecret) string { return certs.VersionID(r.GetCertificate()) }
