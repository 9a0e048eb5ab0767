package credentialstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/egress"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/inbox"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/tokenpair"
)

// world is a database with the group g, and a clock.
type world struct {
	db  *storetest.DB
	kek *file.Key

	mu  sync.Mutex
	now time.Time
	log bytes.Buffer // guarded by mu
}

// replica is one control plane.
type replica struct {
	*configsvc.Service
	*credentialstore.Keeper
	groups *snapshot.Manager
	woken  *inbox.Inbox
}

func newWorld(t *testing.T) *world {
	t.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: storetest.New(t), kek: key, now: time.Now()}
	r := w.replica(t, nil)
	if _, err := sealer.New(w.db.Store, key).Init(t.Context(), "test", w.clock()); err != nil {
		t.Fatal(err)
	}
	if err := r.CreateGroup(t.Context(), "test", "g", ""); err != nil {
		t.Fatal(err)
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

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// replica reads from places, or if there are none from the providers of the settings and those of the group.
func (w *world) replica(t *testing.T, places credentialstore.Places, settings ...string) *replica {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	settings = append(settings, "corp=vault:http://127.0.0.1:1/kv?groups=g&token-file=/dev/null")
	providers, err := secretsource.Open(settings, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	rules, err := egress.New([]string{"127.0.0.0/8"}, egress.Interfaces)
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
	if places == nil {
		places = credentialstore.Of(secretsource.New(secretsource.Config{
			Providers: providers, Egress: rules, Database: w.db.Store, Groups: groups, Writer: svc, Woken: inbox.New(), Now: w.clock, Log: log,
		}))
	}
	return &replica{Service: svc, groups: groups, woken: woken, Keeper: credentialstore.New(credentialstore.Config{
		Database: w.db.Store, Groups: groups, Places: places, Writer: svc, Woken: woken, Now: w.clock, Log: log,
	})}
}

func (r *replica) apply(t *testing.T, ms ...proto.Message) {
	t.Helper()
	req := configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g"}
	for _, m := range ms {
		kind := tokenpair.KindStore
		switch m.(type) {
		case *configv1.Consumer:
			kind = "consumers"
		case *configv1.SecretProvider:
			kind = secretplace.Kind
		case *configv1.CaCertificate:
			kind = certs.KindCA
		}
		req.Changes = append(req.Changes, admission.Change{Kind: kind, Name: m.(interface{ GetName() string }).GetName(), Message: m})
	}
	if _, err := r.Write(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) remove(t *testing.T, name string) {
	t.Helper()
	if _, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.delete", Group: "g", Changes: []admission.Change{{Kind: tokenpair.KindStore, Name: name, Op: admission.OpDelete}},
	}); err != nil {
		t.Fatal(err)
	}
}

// run lets the time pass after which everything is read again, and reads it.
func (r *replica) run(t *testing.T, w *world) {
	t.Helper()
	w.pass(10 * time.Second)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) view(t *testing.T) *snapshot.View {
	t.Helper()
	v, err := r.groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// counts tells for whom a pair of a store counts now, as a gateway would: empty for nobody, and whether the store is known.
func (r *replica) counts(t *testing.T, w *world, store, access, secret string) (consumer string, known bool) {
	t.Helper()
	v := r.view(t)
	if s, ok := v.Get(tokenpair.KindState, store); ok {
		known = s.Message.(*systemv1.CredentialStoreState).GetKnown()
	}
	hash, err := configsvc.Hasher(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hash(tokenpair.Append(nil, store, []byte(access), []byte(secret))) {
		for e := range v.All(tokenpair.KindEntry) {
			m := e.Message.(*systemv1.StoredCredential)
			if proto.Equal(m.GetPair(), h) && (m.GetExpires() == nil || w.clock().Before(m.GetExpires().AsTime())) {
				consumer = m.GetConsumer()
			}
		}
	}
	return consumer, known
}

func (r *replica) entries(t *testing.T) (n int) {
	t.Helper()
	for range r.view(t).All(tokenpair.KindEntry) {
		n++
	}
	return n
}

// store is a credential store with the defaults of the API.
func store(name string, change ...func(*configv1.CredentialStore)) *configv1.CredentialStore {
	s := &configv1.CredentialStore{
		Name: name, Provider: "corp", Path: "pairs", ConsumerBy: configv1.StoredConsumer_STORED_CONSUMER_NAME,
		Refresh: durationpb.New(10 * time.Second), StaleBound: durationpb.New(time.Hour),
	}
	for _, c := range change {
		c(s)
	}
	return s
}

// shelf is a folder in memory, which counts.
type shelf struct {
	mu      sync.Mutex // guards all
	entries map[string]map[string]any
	denied  map[string]bool
	down    error
	listed  int
	read    map[string]int
}

func newShelf() *shelf {
	return &shelf{entries: map[string]map[string]any{}, denied: map[string]bool{}, read: map[string]int{}}
}

// Folder implements credentialstore.Places: it is the same whatever is asked for, but for what is not there.
func (s *shelf) Folder(_ *snapshot.View, provider, path string) (credentialstore.Folder, error) {
	if path == "absent" {
		return nil, errors.New("there is no provider " + provider)
	}
	return s, nil
}

// List implements credentialstore.Folder.
func (s *shelf) List(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed++
	if s.down != nil {
		return nil, s.down
	}
	var names []string
	for name := range s.entries {
		names = append(names, name)
	}
	return names, nil
}

// Read implements credentialstore.Folder.
func (s *shelf) Read(_ context.Context, name string) (secretsource.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read[name]++
	switch e, ok := s.entries[name]; {
	case s.down != nil:
		return secretsource.Entry{}, s.down
	case s.denied[name]:
		return secretsource.Entry{}, errors.New("vault forbids it")
	case !ok || e == nil:
		return secretsource.Entry{}, secretsource.ErrNothing
	default:
		return secretsource.Entry{Data: e}, nil
	}
}

func (s *shelf) put(name string, fields map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[name] = fields
}

func (s *shelf) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, name)
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// reads answers how many readings there were since it was asked last.
func (s *shelf) reads() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.read {
		n += k
	}
	clear(s.read)
	return n
}

// token is one that is long enough.
func token(kind string, n int) string {
	return fmt.Sprintf("%s%04dXk29dJq71ZmPw0sLt5vRb8nYc3", kind, n)
}

// entry is pair n, of a consumer.
func entry(n int, consumer any, more ...any) map[string]any {
	e := map[string]any{"access_token": token("A", n), "secret_token": token("S", n), "consumer": consumer}
	for i := 0; i+1 < len(more); i += 2 {
		e[more[i].(string)] = more[i+1]
	}
	return e
}

// check compares for whom pairs of the store corp count: each `number=consumer`, or `number=` for nobody.
func (r *replica) check(t *testing.T, w *world, step string, known bool, want ...string) {
	t.Helper()
	for _, one := range want {
		number, consumer, _ := strings.Cut(one, "=")
		n := 0
		if _, err := fmt.Sscan(number, &n); err != nil {
			t.Fatal(err)
		}
		got, isKnown := r.counts(t, w, "corp", token("A", n), token("S", n))
		if got != consumer || isKnown != known {
			t.Errorf("%s: pair %d is of %q, want %q; known: %v, want %v", step, n, got, consumer, isKnown, known)
		}
	}
}

// noTokens fails if a token of the tests stands in a text.
func noTokens(t *testing.T, where, text string) {
	t.Helper()
	for n := range 100 {
		if i := slices.IndexFunc([]string{token("A", n), token("S", n)}, func(s string) bool { return strings.Contains(text, s) }); i >= 0 {
			t.Errorf("%s holds token %d", where, n)
		}
	}
}
