package fallback_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/bundle"
	"keyward.dev/shared/sealedset"

	"keyward.dev/controlplane/internal/fallback"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/controlplane/internal/store/storetest"
)

// world is an installation with the groups pay and shop, and a clock.
type world struct {
	db       *storetest.DB
	vaults   *sealer.Sealer
	keys     *fallback.Keys
	now      time.Time
	revision int64
	dir      string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{db: storetest.New(t), now: time.UnixMilli(1_700_000_000_000), revision: 1, dir: t.TempDir()}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	key, err := file.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	w.vaults = sealer.New(w.db.Store, key)
	if _, err := w.vaults.Init(t.Context(), "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pay", "shop"} {
		if _, err := w.vaults.CreateGroup(t.Context(), sealer.NewGroup{Name: name, Actor: "test", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	w.keys = fallback.NewKeys(w.db.Store, w.vaults, func() time.Time { return w.now })
	return w
}

// Stamps implements fallback.Sets.
func (w *world) Stamps(context.Context) ([]fallback.Stamp, error) {
	return []fallback.Stamp{{Group: "pay", Epoch: 1, Revision: w.revision}, {Group: "shop", Epoch: 2, Revision: w.revision}}, nil
}

// Set implements fallback.Sets; shop cannot be opened after its first revision.
func (w *world) Set(_ context.Context, group string) (fallback.Set, error) {
	if group == "shop" && w.revision > 1 {
		return fallback.Set{}, errors.New("shop does not open")
	}
	records := []sealedset.Record{{Kind: "routes", UID: "u-" + group, Bytes: []byte("record of " + group)}}
	return fallback.Set{Epoch: 1, Revision: w.revision, Records: slices.Values(records)}, nil
}

func (w *world) run(t *testing.T) error {
	t.Helper()
	return fallback.NewWriter(fallback.Config{
		Keys: w.keys, Sets: w, Place: fallback.Directory(w.dir), TTL: time.Hour,
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	}).Run(t.Context())
}

func (w *world) file(group string) string { return filepath.Join(w.dir, fallback.Name(group)) }

func (w *world) read(t *testing.T, group string) []byte {
	t.Helper()
	b, err := os.ReadFile(w.file(group))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show answers what an operator gives to the gateways of a group.
func (w *world) show(t *testing.T, group string) fallback.Material {
	t.Helper()
	m, err := w.keys.Show(t.Context(), group, "alice")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// open opens a group's bundle with what was shown.
func (w *world) open(t *testing.T, group string, m fallback.Material) (*bundle.Bundle, error) {
	t.Helper()
	signer, err := bundle.ParseSigner(m.Signer)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := bundle.ParseKeys(m.Key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Verify(w.read(t, group), signer)
	if err != nil {
		return nil, err
	}
	if err := b.Admit(group, w.now); err != nil {
		return nil, err
	}
	return b, b.Records(keys, func(f *syncv1.Frame) error {
		if f.GetUid() != "u-"+group {
			t.Errorf("the bundle of %s holds %s", group, f.GetUid())
		}
		return nil
	})
}

func TestBundlesAreWrittenWhenThereIsSomethingToSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.run(t); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"pay", "shop"} {
		if _, err := w.open(t, group, w.show(t, group)); err != nil {
			t.Errorf("the bundle of %s does not open: %v", group, err)
		}
	}
	steps := []struct {
		name    string
		do      func()
		rewrite bool
	}{
		{"nothing", func() {}, false},
		{"less than half of its time", func() { w.now = w.now.Add(29 * time.Minute) }, false},
		{"half of its time", func() { w.now = w.now.Add(2 * time.Minute) }, true},
		{"another revision", func() { w.revision++ }, true},
		{"another key", func() {
			if _, err := w.keys.Rotate(t.Context(), "pay", "alice"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"removed", func() {
			if err := os.Remove(w.file("pay")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"damaged", func() {
			if err := os.WriteFile(w.file("pay"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"another group's put in its place", func() {
			if err := os.WriteFile(w.file("pay"), w.read(t, "shop"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, s := range steps {
		before := w.read(t, "pay")
		s.do()
		// From the second revision on shop fails, and must keep pay from nothing.
		if err := w.run(t); (err != nil) != (w.revision > 1) {
			t.Fatalf("%s: Run() = %v", s.name, err)
		}
		if rewritten := !bytes.Equal(before, w.read(t, "pay")); rewritten != s.rewrite {
			t.Errorf("%s: written anew: %v, want %v", s.name, rewritten, s.rewrite)
		}
		if _, err := w.open(t, "pay", w.show(t, "pay")); err != nil {
			t.Errorf("%s: it does not open: %v", s.name, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(w.dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRevokingAGatewayLeavesItsKeyBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ledger := registry.NewLedger(w.db.Store, w.vaults, w.keys, time.Now)
	enrol := func(name string) string {
		g, err := ledger.Enrol(t.Context(), registry.Candidate{Group: "pay", KeyHash: bytes.Repeat([]byte(name), 32), Attestor: "test", By: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	if err := ledger.Revoke(t.Context(), "pay", enrol("a"), "alice", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.db.Store.BundleKey(t.Context(), "pay"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a group without bundles has a key after a revocation: %v", err)
	}
	stolen := w.show(t, "pay")
	if err := w.run(t); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Revoke(t.Context(), "pay", enrol("b"), "alice", "stolen"); err != nil {
		t.Fatal(err)
	}
	if err := w.run(t); err != nil {
		t.Fatal(err)
	}
	_, err := w.open(t, "pay", stolen)
	if refused, ok := errors.AsType[*sealedset.RefusedError](err); !ok || refused.Reason != sealedset.OtherKey {
		t.Errorf("the stolen key opens the next bundle: %v", err)
	}
	if _, err := w.open(t, "pay", w.show(t, "pay")); err != nil {
		t.Errorf("the key of now does not: %v", err)
	}
}

// TestNoBundleForAKeyThatWasLeftBehind: whoever takes the newest key out of the database does not get the next bundle sealed
// to the one before.
func TestNoBundleForAKeyThatWasLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.show(t, "pay")
	if _, err := w.keys.Rotate(t.Context(), "pay", "alice"); err != nil {
		t.Fatal(err)
	}
	if err := w.run(t); err != nil {
		t.Fatal(err)
	}
	w.db.Exec(t, `delete from bundle_keys where version = 2`)
	before := w.read(t, "pay")
	if err := w.run(t); err == nil || !strings.Contains(err.Error(), "rewound") || !bytes.Equal(before, w.read(t, "pay")) {
		t.Errorf("Run() = %v, want a refusal", err)
	}
	// The operator's way out; a key of the same version is another one.
	if _, err := w.keys.Rotate(t.Context(), "pay", "alice"); err != nil {
		t.Fatal(err)
	}
	if err := w.run(t); err != nil || bytes.Equal(before, w.read(t, "pay")) {
		t.Errorf("Run() = %v after a rotation, and no other bundle", err)
	}
	if _, err := w.open(t, "pay", w.show(t, "pay")); err != nil {
		t.Error(err)
	}
}

func TestKeysAreSealedAndAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.show(t, "pay")
	if again := w.show(t, "pay"); !bytes.Equal(first.Key, again.Key) || !bytes.Equal(first.Signer, w.show(t, "shop").Signer) {
		t.Error("the keys change without being asked to")
	}
	if bytes.Equal(first.Key, w.show(t, "shop").Key) {
		t.Error("two groups have one key")
	}
	if v, err := w.keys.Rotate(t.Context(), "pay", "bob"); err != nil || v != 2 {
		t.Fatalf("Rotate() = %d, %v", v, err)
	}
	row, err := w.db.Store.BundleKey(t.Context(), "pay")
	if err != nil || bytes.Contains(row.Sealed, []byte("BUNDLE KEY")) {
		t.Errorf("the row is not sealed: %v", err)
	}
	w.db.Exec(t, `update bundle_keys k set sealed = o.sealed from bundle_keys o where k.version = 2 and o.version = 1 and o.group_uid = k.group_uid`)
	if _, err := w.keys.Show(t.Context(), "pay", "alice"); err == nil {
		t.Error("an older key in the newest one's row is taken")
	}
	w.db.Exec(t, `update bundle_keys set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where group_uid = '`+store.SystemUID+`'`)
	for group, wrong := range map[string]bool{"pay": true, "shop": false, store.SystemGroup: true} {
		if err := w.keys.Verify(t.Context(), group); (err != nil) != wrong {
			t.Errorf("Verify(%s) = %v", group, err)
		}
	}
	for _, group := range []string{store.SystemGroup, "nobody"} {
		if _, err := w.keys.Show(t.Context(), group, "alice"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Show(%s) = %v, want not found", group, err)
		}
	}
}
