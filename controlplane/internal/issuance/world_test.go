package issuance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
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
	"keyward.dev/controlplane/internal/issuance"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/acmetest"
)

// world is a database with the group g, an authority, and one gateway, which answers what the database says.
type world struct {
	t         *testing.T
	db        *storetest.DB
	kek       *file.Key
	authority *acmetest.Server
	reader    *replica
	// fleet is what replicas hear of gateways.
	fleet *fleet

	mu  sync.Mutex
	now time.Time
	log bytes.Buffer // guarded by mu
}

// replica is one control plane.
type replica struct {
	*configsvc.Service
	issues *issuance.Service
	inbox  *inbox.Inbox
	groups *snapshot.Manager
}

// fleet are gateways that have everything at once, unless they wait for something.
type fleet struct {
	mu        sync.Mutex
	connected int           // guarded by mu
	wait      chan struct{} // guarded by mu; nil: nothing
	asked     chan struct{}
}

func (f *fleet) ConnectedIn(context.Context, string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connected, nil
}

func (f *fleet) WaitForRevision(ctx context.Context, _ string, _ int64, _ int, _ time.Duration) (registry.Progress, error) {
	f.mu.Lock()
	wait, connected := f.wait, f.connected
	f.mu.Unlock()
	if wait != nil {
		close(f.asked)
		select {
		case <-wait:
		case <-ctx.Done():
			return registry.Progress{}, context.Cause(ctx)
		}
	}
	return registry.Progress{Done: true, Connected: connected}, nil
}

// State says that nothing is staged.
func (f *fleet) State(context.Context, string) (*rollout.State, error) { return nil, nil }

func newWorld(t *testing.T, o acmetest.Options) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: storetest.New(t), kek: key, now: time.Now(), fleet: &fleet{connected: 1, asked: make(chan struct{})}}
	gateway := httptest.NewServer(http.HandlerFunc(w.answer))
	t.Cleanup(gateway.Close)
	_, o.HTTPPort, _ = net.SplitHostPort(gateway.Listener.Addr().String())
	w.authority = acmetest.Start(t, o)
	w.reader = w.replica("127.0.0.0/8")
	if _, err := sealer.New(w.db.Store, key).Init(t.Context(), "test", w.clock()); err != nil {
		t.Fatal(err)
	}
	if err := w.reader.CreateGroup(t.Context(), "test", "g", ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// answer is what a gateway does with the challenges that there are.
func (w *world) answer(out http.ResponseWriter, r *http.Request) {
	view, err := w.reader.groups.Fresh(r.Context(), "g")
	if err != nil {
		http.Error(out, err.Error(), http.StatusInternalServerError)
		return
	}
	host, _, _ := strings.Cut(r.Host, ":")
	for c := range view.All(certs.KindChallenge) {
		m, _ := c.Message.(*systemv1.AcmeChallenge)
		if m.GetHost() == host && r.URL.Path == "/.well-known/acme-challenge/"+m.GetToken() {
			_, _ = out.Write([]byte(m.GetKeyAuthorization())) // the authority would see that it is not whole
			return
		}
	}
	http.NotFound(out, r)
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

// replica may dial public addresses and those in networks.
func (w *world) replica(networks ...string) *replica {
	w.t.Helper()
	cat, err := catalog.New()
	if err != nil {
		w.t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		w.t.Fatal(err)
	}
	rules, err := egress.New(networks, egress.Interfaces)
	if err != nil {
		w.t.Fatal(err)
	}
	log, woken := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), inbox.New()
	seal := sealer.New(w.db.Store, w.kek)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(w.db.Store, unlock, log)
	svc := configsvc.New(configsvc.Config{
		Store: w.db.Store, Sealer: seal, Groups: groups, History: history.New(w.db.Store, unlock, cat.Kinds()), Admission: admit,
		Log: log, Ordering: woken.Wake, Now: w.clock,
	})
	return &replica{Service: svc, groups: groups, inbox: woken, issues: issuance.New(issuance.Config{
		Database: w.db.Store, Accounts: issuance.NewLedger(w.db.Store, seal.Group, w.clock), Groups: groups, Writer: svc,
		Gateways: w.fleet, Rollouts: w.fleet, Egress: rules, Woken: woken, Now: w.clock, Log: log,
	})}
}

// serve runs a replica until stop is called, or the test ends.
func (r *replica) serve(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.issues.Serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve() = %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// put writes the issuer, as change wants it, and a certificate for names.
func (w *world) put(r *replica, change func(*configv1.AcmeIssuer), names ...string) {
	w.t.Helper()
	issuer := &configv1.AcmeIssuer{
		Name: "authority", Directory: w.authority.Directory, Ca: []string{"authority"}, TermsAgreed: true, Challenges: []string{certs.ChallengeHTTP},
	}
	if change != nil {
		change(issuer)
	}
	changes := []admission.Change{
		{Kind: certs.KindCA, Name: "authority", Message: &configv1.CaCertificate{Name: "authority", Certificates: w.authority.CA}},
		{Kind: certs.KindIssuer, Name: "authority", Message: issuer},
		{Kind: certs.Kind, Name: "web", Message: &configv1.Certificate{Name: "web", Snis: names, Acme: &configv1.CertificateAcme{Issuer: "authority"}}},
	}
	if _, err := r.Write(w.t.Context(), configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: changes}); err != nil {
		w.t.Fatal(err)
	}
}

// state is the revision of the group, and what was issued for its one certificate; nil: nothing.
func (w *world) state() (int64, *systemv1.IssuedCertificate) {
	w.t.Helper()
	view, err := w.reader.groups.Fresh(w.t.Context(), "g")
	if err != nil {
		w.t.Fatal(err)
	}
	r, ok := view.Get(certs.KindIssued, "web")
	if !ok {
		return view.Revision, nil
	}
	m, _ := r.Message.(*systemv1.IssuedCertificate)
	return view.Revision, m
}

// await waits until what was issued is as wanted.
func (w *world) await(what string, ok func(m *systemv1.IssuedCertificate) bool) *systemv1.IssuedCertificate {
	w.t.Helper()
	var m *systemv1.IssuedCertificate
	testkit.Await(w.t, 30*time.Second, func() error {
		if _, m = w.state(); !ok(m) {
			return fmt.Errorf("not %s: issued %v, %s", what, m.GetCertificate() != nil, m.GetLastError())
		}
		return nil
	})
	return m
}

// left are the names of system records of a kind.
func (w *world) left(kind string) (names []string) {
	w.t.Helper()
	view, err := w.reader.groups.Fresh(w.t.Context(), "g")
	if err != nil {
		w.t.Fatal(err)
	}
	for r := range view.All(kind) {
		names = append(names, r.Name)
	}
	return names
}

func (w *world) accounts() int {
	w.t.Helper()
	rows, err := w.db.Store.AcmeAccounts(w.t.Context(), "g")
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}
