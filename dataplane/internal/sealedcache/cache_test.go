package sealedcache_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/sealedcache"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

const (
	configFile = "config.sealed"
	seenFile   = "config.seen"
)

// world is a directory and who uses it, at a time that the test sets.
type world struct {
	t   *testing.T
	dir string
	id  mtls.ID
	key *ecdsa.PrivateKey
	now time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, dir: filepath.Join(t.TempDir(), "cache"), key: newKey(t), now: time.Unix(1_700_000_000, 0),
		id: mtls.ID{TrustDomain: "kw.test", Group: "pay", Gateway: "g1"},
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// cache is the cache of a process that has just started.
func (w *world) cache() *sealedcache.Cache {
	return sealedcache.New(sealedcache.Config{
		Dir: w.dir, MaxAge: time.Hour, Now: func() time.Time { return w.now }, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.DiscardHandler),
	})
}

// keep writes a set as a process of its own would.
func (w *world) keep(set *state.Set) {
	w.t.Helper()
	c := w.cache()
	c.Keep(w.id, w.key, set)
	c.Write()
	if c.State().WriteFailed {
		w.t.Fatal("the write failed")
	}
}

func (w *world) open() (*state.Set, error) { return w.cache().Open(w.id, w.key) }

func (w *world) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) write(name string, b []byte) {
	w.t.Helper()
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// put writes a file with a seen file that names it.
func (w *world) put(file []byte, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := sealedcache.SeenOf(w.id, w.key, file, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(configFile, file)
	w.write(seenFile, seen)
}

func route(uid, name, text string) statetest.Record {
	return statetest.Record{Kind: "routes", UID: uid, Name: name, Resource: &configv1.Route{Name: name, Description: text}}
}

// someSet is a set with many small records, a large one and one that the control plane could not open.
func someSet(t testing.TB, revision int64) *state.Set {
	t.Helper()
	s := statetest.NewSource(7)
	records := []statetest.Record{route("big", "big", strings.Repeat("canary", 50_000)), {Kind: "services", UID: "lost", Name: "lost"}}
	for i := range 50 {
		records = append(records, route(fmt.Sprintf("u%d", i), fmt.Sprintf("n%d", i), "canary"))
	}
	for range revision {
		s.Change(records, nil)
		records = []statetest.Record{route("changed", "changed", fmt.Sprint(revision))}
	}
	return statetest.Fold(t, state.NewFolder(state.Empty(), state.Limits{}), s.Reset())
}

func sameSet(t *testing.T, got, want *state.Set) {
	t.Helper()
	if got.Epoch != want.Epoch || got.Revision != want.Revision || got.Digest != want.Digest {
		t.Errorf("got revision %d of epoch %d, want %d of %d", got.Revision, got.Epoch, want.Revision, want.Epoch)
	}
	for before, after := range got.Changed(want) {
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("a record differs:\n%s", diff)
		}
	}
	n, size := got.Size()
	if wantN, wantSize := want.Size(); n != wantN || size != wantSize {
		t.Errorf("%d records of %d bytes, want %d of %d", n, size, wantN, wantSize)
	}
}

func TestWhatIsKeptIsOpened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.open(); !errors.Is(err, sealedcache.ErrAbsent) {
		t.Errorf("Open() of nothing = %v", err)
	}
	want := someSet(t, 3)
	w.keep(want)
	c := w.cache()
	got, err := c.Open(w.id, w.key)
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, got, want)
	if s := c.State(); !s.Confirmed.Equal(w.now) || s.Refused != "" || s.Serving {
		t.Errorf("State() = %+v", s)
	}
	for _, name := range []string{configFile, seenFile} {
		if info, err := os.Stat(filepath.Join(w.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want mode 0600", name, info.Mode(), err)
		}
		if bytes.Contains(w.read(name), []byte("canary")) {
			t.Errorf("%s holds configuration in the clear", name)
		}
	}
}

func TestEveryFileIsSealedUnderItsOwnKey(t *testing.T) {
	t.Parallel()
	w, set := newWorld(t), someSet(t, 1)
	w.keep(set)
	first := w.read(configFile)
	w.keep(set)
	second := w.read(configFile)
	if len(first) != len(second) || bytes.Equal(first[len(first)-1000:], second[len(second)-1000:]) {
		t.Error("one set was sealed alike twice")
	}
}

// TestRefusals has every way in which a cache must not be used. Each begins with two files, of revision 1 and then 2.
func TestRefusals(t *testing.T) {
	t.Parallel()
	older, newer := someSet(t, 1), someSet(t, 2)
	tests := map[string]struct {
		do   func(w *world, old, oldSeen []byte)
		want sealedset.Reason
	}{
		"none of it":      {func(*world, []byte, []byte) {}, ""},
		"emptied":         {func(w *world, _, _ []byte) { w.write(configFile, nil) }, sealedset.Damaged},
		"cut in its head": {func(w *world, _, _ []byte) { w.write(configFile, w.read(configFile)[:100]) }, sealedset.Damaged},
		"cut at the end":  {func(w *world, _, _ []byte) { b := w.read(configFile); w.write(configFile, b[:len(b)-1]) }, sealedset.Damaged},
		"longer":          {func(w *world, _, _ []byte) { w.write(configFile, append(w.read(configFile), 0)) }, sealedset.Damaged},
		"of a later form": {func(w *world, _, _ []byte) { b := w.read(configFile); b[9]++; w.write(configFile, b) }, sealedset.Version},
		"a directory": {func(w *world, _, _ []byte) {
			_ = os.Remove(filepath.Join(w.dir, configFile))
			_ = os.Mkdir(filepath.Join(w.dir, configFile), 0o700)
		}, sealedset.Damaged},
		"another group":        {func(w *world, _, _ []byte) { w.id.Group = "other" }, sealedset.OtherGroup},
		"another gateway":      {func(w *world, _, _ []byte) { w.id.Gateway = "g2" }, sealedset.OtherGateway},
		"another domain":       {func(w *world, _, _ []byte) { w.id.TrustDomain = "kw2.test" }, sealedset.OtherGateway},
		"another key":          {func(w *world, _, _ []byte) { w.key = newKey(w.t) }, sealedset.OtherKey},
		"the older file":       {func(w *world, old, _ []byte) { w.write(configFile, old) }, sealedset.OlderThanSeen},
		"the older seen":       {func(w *world, _, oldSeen []byte) { w.write(seenFile, oldSeen) }, sealedset.OlderThanSeen},
		"seen is gone":         {func(w *world, _, _ []byte) { _ = os.Remove(filepath.Join(w.dir, seenFile)) }, sealedset.SeenMissing},
		"older, seen gone":     {func(w *world, old, _ []byte) { w.write(configFile, old); _ = os.Remove(filepath.Join(w.dir, seenFile)) }, sealedset.SeenMissing},
		"seen is altered":      {func(w *world, _, _ []byte) { b := w.read(seenFile); b[40] ^= 1; w.write(seenFile, b) }, sealedset.SeenDamaged},
		"seen is emptied":      {func(w *world, _, _ []byte) { w.write(seenFile, nil) }, sealedset.SeenDamaged},
		"too old":              {func(w *world, _, _ []byte) { w.now = w.now.Add(time.Hour + time.Second) }, sealedset.TooOld},
		"not too old":          {func(w *world, _, _ []byte) { w.now = w.now.Add(time.Hour) }, ""},
		"from the future":      {func(w *world, _, _ []byte) { w.now = w.now.Add(-6 * time.Minute) }, sealedset.Future},
		"the clock a bit back": {func(w *world, _, _ []byte) { w.now = w.now.Add(-4 * time.Minute) }, ""},
		"another digest": {func(w *world, _, _ []byte) {
			set := *newer
			set.Digest[0] ^= 1
			w.put(sealedcache.Seal(w.id, w.key, &set, w.now))
		}, sealedset.Digest},
		"forged with the public key": {func(w *world, _, _ []byte) { w.put(sealedcache.Forge(w.id, w.key, newer, w.now)) }, sealedset.Damaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.keep(older)
			old, oldSeen := w.read(configFile), w.read(seenFile)
			w.keep(newer)
			tt.do(w, old, oldSeen)
			c := w.cache()
			set, err := c.Open(w.id, w.key)
			if got := c.State().Refused; got != tt.want {
				t.Errorf("refused for %q (%v), want %q", got, err, tt.want)
			}
			if (err == nil) != (tt.want == "") || (err != nil && set != nil) {
				t.Errorf("Open() = %v, %v", set, err)
			}
		})
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keep(statetest.Set(t, route("u1", "a", "1"), route("u2", "b", "2")))
	for _, name := range []string{configFile, seenFile} {
		whole := w.read(name)
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			w.write(name, b)
			if _, err := w.open(); err == nil {
				t.Fatalf("%s opens with byte %d altered", name, i)
			}
			w.write(name, whole[:i])
			if _, err := w.open(); err == nil {
				t.Fatalf("%s opens cut after %d bytes", name, i)
			}
		}
		w.write(name, whole)
	}
	if _, err := w.open(); err != nil {
		t.Fatal(err)
	}
}

// TestChunksCannotBeMovedOrLeftOut works on whole chunks, whose seals are intact.
func TestChunksCannotBeMovedOrLeftOut(t *testing.T) {
	t.Parallel()
	const chunk = 64<<10 + 16
	w := newWorld(t)
	w.keep(someSet(t, 1))
	whole := w.read(configFile)
	if len(whole) < 4*chunk {
		t.Fatalf("only %d bytes", len(whole))
	}
	header := 12 + int(whole[10])<<8 + int(whole[11])
	body := whole[header:]
	first, second, rest := body[:chunk], body[chunk:2*chunk], body[2*chunk:]
	for name, parts := range map[string][][]byte{
		"exchanged": {second, first, rest}, "left out": {first, rest}, "repeated": {first, first, second, rest},
		"the end left out": {first, second}, "nothing left": {},
	} {
		w.write(configFile, append(bytes.Clone(whole[:header]), bytes.Join(parts, nil)...))
		if _, err := w.open(); err == nil {
			t.Errorf("opens with chunks %s", name)
		}
	}
}

func TestKeysThatCannotSealAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := w.cache()
	if _, err := c.Open(w.id, key); err == nil || errors.Is(err, sealedcache.ErrAbsent) {
		t.Errorf("Open() = %v", err)
	}
	c.Keep(w.id, key, someSet(t, 1))
	c.Write()
	if !c.State().WriteFailed {
		t.Error("the write did not fail")
	}
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	t.Parallel()
	s := sealedcache.Secret()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%x %d %#v %+v", s, s, s, s), string(b), log.String()} {
		if !strings.Contains(text, "[secret]") || strings.Contains(text, "010203") || strings.Contains(text, "1 2 3") {
			t.Errorf("a key prints as %s", text)
		}
	}
}
