package fallback_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/fallback"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/bundle"
	"keyward.dev/shared/sealedset"
)

var issued = time.UnixMilli(1_700_000_000_000)

// world is what a control plane left for group pay, and the files of a gateway.
type world struct {
	t      *testing.T
	dir    string
	key    bundle.Key
	signer bundle.Signer
	now    time.Time
	last   *fallback.Bundle
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: issued.Add(time.Minute)}
	var err error
	if w.key, err = bundle.NewKey("pay", 1); err != nil {
		t.Fatal(err)
	}
	if w.signer, err = bundle.NewSigner(); err != nil {
		t.Fatal(err)
	}
	public, err := bundle.MarshalSigner(w.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	w.write("key", w.key.MarshalPEM())
	w.write("signer", public)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func set(t *testing.T, epoch uint64, revision int) *state.Set {
	t.Helper()
	src := statetest.NewSource(epoch)
	f := state.NewFolder(state.Empty(), state.Limits{})
	for i := range revision {
		r := statetest.Record{Kind: "routes", UID: "u1", Name: "a", Resource: &configv1.Route{Name: "a", Description: strings.Repeat("x", i)}}
		src.Change([]statetest.Record{r}, nil)
	}
	return statetest.Fold(t, f, src.Reset())
}

func records(s *state.Set) iter.Seq[sealedset.Record] {
	return func(yield func(sealedset.Record) bool) {
		for r := range s.All("routes") {
			if !yield(sealedset.Record{Kind: r.Kind, UID: r.UID, Bytes: r.Bytes}) {
				return
			}
		}
	}
}

// bundle returns a bundle of the set.
func (w *world) bundle(s *state.Set, at time.Time, edit func(*bundle.Header)) []byte {
	w.t.Helper()
	h := bundle.Header{Epoch: s.Epoch, Revision: s.Revision, Digest: s.Digest, Issued: at, Expires: at.Add(time.Hour)}
	if edit != nil {
		edit(&h)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, h, w.key, w.signer, records(s)); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

// life starts the gateway anew and opens what lies there.
func (w *world) life(change func(*fallback.Config)) (*state.Set, error) {
	w.t.Helper()
	cfg := fallback.Config{
		Source: w.path("pay.bundle"), KeyFile: w.path("key"), SignerFile: w.path("signer"), Group: "pay", SeenFile: w.path("seen"),
		Now: func() time.Time { return w.now }, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	w.last = fallback.New(cfg)
	return w.last.Open(w.t.Context())
}

// end ends the gateway, which then writes what it has not yet.
func (w *world) end() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	if err := w.last.Run(ctx); err != nil {
		w.t.Error(err)
	}
}

func (w *world) refused(name string, err error, want sealedset.Reason) {
	w.t.Helper()
	refused, ok := errors.AsType[*sealedset.RefusedError](err)
	if !ok || refused.Reason != want || w.last.State().Refused != want {
		w.t.Errorf("%s: Open() = %v, want it refused for %s", name, err, want)
	}
}

func TestABundleOpensAsTheSetItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := set(t, 5, 3)
	w.write("pay.bundle", w.bundle(want, issued, nil))
	got, err := w.life(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest || got.Revision != 3 || got.Epoch != 5 || got.Len("routes") != 1 {
		t.Errorf("it opens as revision %d of epoch %d", got.Revision, got.Epoch)
	}
	if s := w.last.State(); !s.Issued.Equal(issued) || s.Refused != "" {
		t.Errorf("state = %+v", s)
	}
}

func TestWhatIsNotToBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := set(t, 5, 3)
	good := w.bundle(s, issued, nil)
	w.write("pay.bundle", good)
	shop, err := bundle.NewKey("pay", 2)
	if err != nil {
		t.Fatal(err)
	}
	w.write("other-key", shop.MarshalPEM())
	put := func(b []byte) func(*fallback.Config) {
		return func(*fallback.Config) { w.write("pay.bundle", b) }
	}
	for _, c := range []struct {
		name   string
		change func(*fallback.Config)
		want   sealedset.Reason
	}{
		{"no file", func(c *fallback.Config) { c.Source = w.path("none") }, sealedset.Unreadable},
		{"no key", func(c *fallback.Config) { c.KeyFile = w.path("none") }, sealedset.Unreadable},
		{"no signer", func(c *fallback.Config) { c.SignerFile = w.path("key") }, sealedset.Unreadable},
		{"rotated key", func(c *fallback.Config) { c.KeyFile = w.path("other-key") }, sealedset.OtherKey},
		{"other group", func(c *fallback.Config) { c.Group = "shop" }, sealedset.OtherGroup},
		{"expired", func(c *fallback.Config) { c.Now = func() time.Time { return issued.Add(2 * time.Hour) } }, sealedset.Expired},
		{"a bit", put(append(bytes.Clone(good[:len(good)-100]), append([]byte{good[len(good)-100] ^ 1}, good[len(good)-99:]...)...)), sealedset.Signature},
		{"another digest", put(w.bundle(s, issued, func(h *bundle.Header) { h.Digest[0] ^= 1 })), sealedset.Digest},
		{"no epoch", put(w.bundle(s, issued, func(h *bundle.Header) { h.Epoch = 0 })), sealedset.Damaged},
	} {
		_, err := w.life(c.change)
		w.refused(c.name, err, c.want)
	}
}

func TestNoneThatIsOlderThanWhatWasHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	older, newer := w.bundle(set(t, 5, 3), issued, nil), w.bundle(set(t, 5, 4), issued, nil)
	w.write("pay.bundle", newer)
	if _, err := w.life(nil); err != nil {
		t.Fatal(err)
	}
	w.end()
	w.write("pay.bundle", older)
	_, err := w.life(nil)
	w.refused("older than another bundle", err, sealedset.OlderThanSeen)
	w.write("pay.bundle", newer)
	if _, err := w.life(nil); err != nil {
		t.Errorf("the one that was opened before is refused: %v", err)
	}
	w.last.Seen(set(t, 5, 6))
	w.end()
	_, err = w.life(nil)
	w.refused("older than what the control plane sent", err, sealedset.OlderThanSeen)

	// History was rewound: revisions say nothing, times do.
	w.now = issued.Add(10 * time.Minute)
	w.last.Seen(set(t, 9, 1))
	w.end()
	w.write("pay.bundle", w.bundle(set(t, 5, 7), issued.Add(9*time.Minute), nil))
	_, err = w.life(nil)
	w.refused("of an epoch that was left behind", err, sealedset.OlderThanSeen)
	w.write("pay.bundle", w.bundle(set(t, 12, 1), issued.Add(11*time.Minute), nil))
	if _, err := w.life(nil); err != nil {
		t.Errorf("one of a later epoch is refused: %v", err)
	}
	w.end()

	w.write("seen", []byte("{"))
	_, err = w.life(nil)
	w.refused("what was seen is damaged", err, sealedset.SeenDamaged)
	w.last.Seen(set(t, 12, 1))
	w.end()
	if _, err := w.life(nil); err != nil {
		t.Errorf("after the control plane was heard: %v", err)
	}
}

func TestABundleComesOverHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.bundle(set(t, 5, 3), issued, nil)
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pay.bundle" {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(good)
	}))
	defer server.Close()
	over := func(path string) func(*fallback.Config) {
		return func(c *fallback.Config) {
			c.Source = server.URL + path
			c.Fetch = func(ctx context.Context, url string) ([]byte, error) {
				return fallback.FetchWith(ctx, server.Client(), url)
			}
		}
	}
	if _, err := w.life(over("/pay.bundle")); err != nil {
		t.Error(err)
	}
	_, err := w.life(over("/none?token=very-secret"))
	w.refused("not found", err, sealedset.Unreadable)
	if strings.Contains(err.Error(), "very-secret") {
		t.Errorf("the URL's query is in the error: %v", err)
	}
	_, err = w.life(func(c *fallback.Config) { c.Source = server.URL + "/pay.bundle?token=very-secret" })
	w.refused("a server that is not trusted", err, sealedset.Unreadable)
	if strings.Contains(err.Error(), "very-secret") {
		t.Errorf("the URL's query is in the error: %v", err)
	}
}
