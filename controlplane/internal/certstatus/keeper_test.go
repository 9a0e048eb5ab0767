package certstatus_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/certstatus"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/history"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// world is a database with the groups g and other, what can be fetched, and a clock. It is the fetcher, too.
type world struct {
	db  *storetest.DB
	kek *file.Key

	opened atomic.Int64 // how many stored resources were opened

	mu  sync.Mutex
	now time.Time         // guarded by mu
	web map[string][]byte // guarded by mu: what is where
	ask int               // guarded by mu: how often somebody came
}

type replica struct {
	*configsvc.Service
	*certstatus.Keeper
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
	w := &world{db: storetest.New(t), kek: key, now: time.Now(), web: map[string][]byte{}}
	if _, err := sealer.New(w.db.Store, key).Init(t.Context(), "test", w.clock()); err != nil {
		t.Fatal(err)
	}
	r := w.replica(t)
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

// serve puts something where it can be fetched; nil: nothing is there.
func (w *world) serve(url string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.web[url] = text
}

func (w *world) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ask
}

// Get implements certstatus.Fetcher.
func (w *world) Get(_ context.Context, url string, _ int64) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ask++
	if w.web[url] == nil {
		return nil, errors.New("nothing is there")
	}
	return w.web[url], nil
}

// Post implements certstatus.Fetcher.
func (w *world) Post(ctx context.Context, url, _ string, _ []byte, limit int64) ([]byte, error) {
	return w.Get(ctx, url, limit)
}

func (w *world) replica(t *testing.T) *replica {
	t.Helper()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	admit, err := admission.New(cat, admission.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	log, seal := slog.New(slog.DiscardHandler), sealer.New(w.db.Store, w.kek)
	unlock := func(ctx context.Context, group string) (snapshot.Vault, error) { return seal.Group(ctx, group) }
	groups := snapshot.NewManager(w.db.Store, unlock, log)
	svc := configsvc.New(configsvc.Config{
		Store: w.db.Store, Sealer: seal, Groups: groups, History: history.New(w.db.Store, unlock, cat.Kinds()), Admission: admit, Log: log, Now: w.clock,
	})
	return &replica{svc, certstatus.New(certstatus.Config{
		Database: w.db.Store, Unlock: func(ctx context.Context, group string) (certstatus.Vault, error) {
			v, err := seal.Group(ctx, group)
			return counting{v, &w.opened}, err
		},
		Groups: groups, Writer: svc, Fetcher: w, Now: w.clock, Log: log,
	}), groups}
}

// counting counts what is opened.
type counting struct {
	certstatus.Vault
	opened *atomic.Int64
}

// Open implements certstatus.Vault.
func (c counting) Open(row store.Row) ([]byte, error) {
	c.opened.Add(1)
	return c.Vault.Open(row)
}

func (r *replica) put(t *testing.T, kind string, m interface {
	proto.Message
	GetName() string
},
) {
	t.Helper()
	_, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{{Kind: kind, Name: m.GetName(), Message: m}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list is the revision of the group and what is kept of its one list, nil if nothing is.
func (w *world) list(t *testing.T) (int64, *systemv1.RevocationList) {
	t.Helper()
	v, err := w.replica(t).groups.Fresh(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	var found *systemv1.RevocationList
	for r := range v.All(revocation.Kind) {
		if found != nil {
			t.Fatal("there are several records")
		}
		found, _ = r.Message.(*systemv1.RevocationList)
	}
	return v.Revision, found
}

const url = "http://crl.test/ca.crl"

func authority(ca *certtest.Cert, urls ...string) *configv1.CaCertificate {
	return &configv1.CaCertificate{Name: "partners", Certificates: ca.PEM(), Revocation: &configv1.Revocation{CrlUrls: urls, Refresh: durationpb.New(10 * time.Minute)}}
}

// TestListsAreFetchedAndKept goes through the life of a list. Each step is run by a replica of its own, which knows nothing but
// the database.
func TestListsAreFetchedAndKept(t *testing.T) {
	t.Parallel()
	w, ca, other := newWorld(t), certtest.CA(t, "ca"), certtest.CA(t, "other")
	leaf := ca.Issue(t, "leaf").Cert
	w.replica(t).put(t, certs.KindCA, authority(ca, url))
	crl := func(number int64, revoked ...*x509.Certificate) []byte {
		return ca.CRL(t, number, func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = w.clock().Add(-time.Second), w.clock().Add(24*time.Hour)
		}, revoked...)
	}
	one, late := crl(10), crl(9, leaf)
	for _, s := range []struct {
		name    string
		do      func()
		changes bool
		number  int64 // of the list that is kept; 0: none is
		failing bool
	}{
		{"nothing is there", func() {}, false, 0, false},
		{"something else is", func() { w.serve(url, []byte("<html>")) }, false, 0, false},
		{"of another authority", func() { w.serve(url, other.CRL(t, 1, nil)) }, false, 0, false},
		{"out of date", func() {
			w.serve(url, ca.CRL(t, 1, func(l *x509.RevocationList) {
				l.ThisUpdate, l.NextUpdate = w.clock().Add(-2*time.Hour), w.clock().Add(-time.Hour)
			}))
		}, false, 0, false},
		{"fetched for the first time", func() { w.serve(url, one) }, true, 10, false},
		{"nothing new", func() {}, false, 10, false},
		{"it says the same", func() { w.serve(url, crl(11)) }, false, 10, false},
		{"an older one", func() { w.serve(url, late) }, true, 10, true},
		{"still", func() {}, false, 10, true},
		{"back", func() { w.serve(url, crl(11)) }, true, 10, false},
		{"revoked", func() { w.serve(url, []byte(certtest.Block("X509 CRL", crl(12, leaf)))) }, true, 12, false},
		{"and forgotten", func() { w.serve(url, one) }, true, 12, true},
		{"gone", func() { w.serve(url, nil) }, false, 12, true},
		{"after half of its life", func() { w.pass(13 * time.Hour); w.serve(url, crl(13, leaf)) }, true, 13, false},
		{"not asked for any more", func() { w.replica(t).put(t, certs.KindCA, authority(ca, "http://crl.test/none")) }, true, 0, false},
	} {
		s.do()
		before, _ := w.list(t)
		if err := w.replica(t).Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		after, kept := w.list(t)
		if (after != before) != s.changes || after > before+1 {
			t.Fatalf("%s: from revision %d to %d", s.name, before, after)
		}
		if (kept != nil) != (s.number > 0) || (kept.GetFailingSince() != nil) != s.failing {
			t.Fatalf("%s: kept %v, failing since %v", s.name, kept != nil, kept.GetFailingSince())
		}
		if kept == nil {
			continue
		}
		l, err := revocation.Parse(kept.GetList(), []*x509.Certificate{ca.Cert})
		if err != nil || l.Number.Int64() != s.number {
			t.Fatalf("%s: number %v is kept, want %d; %v", s.name, l.Number, s.number, err)
		}
	}
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 3)
	if err != nil || page[0].Actor != certstatus.Actor || !strings.Contains(page[2].Detail, url+" of ca-certificates/partners: fetched") {
		t.Errorf("the audit trail: %+v, %v", page, err)
	}
}

// TestWhatIsFetchedIsNobodysResource looks for it where users look.
func TestWhatIsFetchedIsNobodysResource(t *testing.T) {
	t.Parallel()
	cat, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range cat.Kinds() {
		if k.Name == revocation.Kind {
			t.Error("documents can name it")
		}
	}
}

// TestOnlyWhatIsDueIsFetched has one replica run often.
func TestOnlyWhatIsDueIsFetched(t *testing.T) {
	t.Parallel()
	w, ca := newWorld(t), certtest.CA(t, "ca")
	r := w.replica(t)
	run := func(want int, when string) {
		t.Helper()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.asked(); got != want {
			t.Errorf("%s: asked %d times, want %d", when, got, want)
		}
	}
	run(0, "nothing is wanted")
	w.serve(url, ca.CRL(t, 1, nil))
	r.put(t, certs.KindCA, authority(ca, url))
	run(1, "it is wanted")
	run(1, "again")
	w.pass(8 * time.Minute)
	run(1, "before its time")
	w.pass(2 * time.Minute)
	run(2, "at its time")
	w.serve(url, nil)
	w.pass(10 * time.Minute)
	run(3, "it is gone")
	w.pass(30 * time.Second)
	run(3, "just after")
	w.pass(30 * time.Second)
	run(4, "a minute later")
	r.put(t, certs.KindCA, &configv1.CaCertificate{Name: "partners", Certificates: ca.PEM()})
	w.pass(time.Hour)
	run(4, "it is wanted no more")
	if _, kept := w.list(t); kept != nil {
		t.Error("it is kept all the same")
	}
}

// TestAChangeCostsWhatChanged has a group with certificates that want nothing: each is opened once, and again when it changes, as are
// the settings of two groups. What they say is about all certificates, and whoever wants something later is found.
func TestAChangeCostsWhatChanged(t *testing.T) {
	t.Parallel()
	const many = 50
	w := newWorld(t)
	r, ca := w.replica(t), certtest.CA(t, "root").CA(t, "ca")
	answered := func(name string) *configv1.Certificate {
		return holding(t, name, ca.Issue(t, "leaf", named(name+".test", false)...), name+".test")
	}
	for i := range many {
		name := fmt.Sprintf("c%d.test", i)
		r.put(t, certs.Kind, holding(t, fmt.Sprintf("c%d", i), ca.Issue(t, "leaf", certtest.Names(name)), name))
	}
	for _, s := range []struct {
		name   string
		do     func()
		opened int64
		asked  int
	}{
		{"for the first time", func() {}, many + 2, 0},
		{"again", func() {}, 0, 0},
		{"one has changed", func() { r.put(t, certs.Kind, answered("c7")) }, 1, 0},
		{"another kind has", func() { r.put(t, "consumers", &configv1.Consumer{Name: "alice"}) }, 0, 0},
		{"the settings have", func() { r.stapling(t, configv1.OcspStapling_OCSP_STAPLING_ON) }, 2 + many, 1},
		{"what is wanted is due", func() { w.pass(2 * time.Minute) }, 0, 2},
		{"what is wanted is not yet due", func() { r.put(t, "consumers", &configv1.Consumer{Name: "bob"}) }, 0, 2},
		{"nothing is wanted any more", func() { r.stapling(t, configv1.OcspStapling_OCSP_STAPLING_OFF) }, 0, 2},
		{"and another one has changed", func() { r.put(t, certs.Kind, answered("c8")) }, 1, 2},
		{"an authority names a list", func() { r.put(t, certs.KindCA, authority(ca, url)) }, 1, 3},
	} {
		s.do()
		before := w.opened.Load()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if opened := w.opened.Load() - before; opened != s.opened || w.asked() != s.asked {
			t.Errorf("%s: %d were opened, want %d; %d questions were asked, want %d", s.name, opened, s.opened, w.asked(), s.asked)
		}
	}
}
