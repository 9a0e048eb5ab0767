package localcert_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/localcert"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// world is a directory below which certificates may be, and a store that reads them.
type world struct {
	t        *testing.T
	root     string
	store    *localcert.Store
	registry *prometheus.Registry
	log      bytes.Buffer
	writes   int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), registry: prometheus.NewRegistry()}
	var err error
	if w.store, err = localcert.New([]string{w.root}, w.registry, slog.New(slog.NewTextHandler(&w.log, nil))); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) at(name string) string { return filepath.Join(w.root, name) }

// put writes a file, and has its time differ from that of every other.
func (w *world) put(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.at(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.writes++
	at := time.Date(2026, 1, 1, 0, 0, w.writes, 0, time.UTC)
	if err := os.Chtimes(w.at(name), at, at); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(at certs.Local) (id, reason string) {
	v, reason, _ := w.store.Read(at)
	return certs.VersionID(v), reason
}

// failing is what the metric says.
func (w *world) failing() float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "keyward_gateway_certificate_files_failing" {
		w.t.Fatalf("Gather() = %v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

func (w *world) told() bool {
	select {
	case <-w.store.Again():
		return true
	default:
		return false
	}
}

// TestAPairFollowsItsFiles goes through the life of a pair of files, second by second.
func TestAPairFollowsItsFiles(t *testing.T) {
	t.Parallel()
	first, second := certtest.SelfSigned(t, "web"), certtest.SelfSigned(t, "web")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.store.Run(ctx) }()
		pair := certs.Local{Chain: w.at("crt"), Key: w.at("key")}
		w.put("crt", first.PEM())
		for _, s := range []struct {
			name   string
			do     func()
			wait   time.Duration
			want   string // id; empty: closed
			told   bool
			failed float64
		}{
			{name: "one half is missing", failed: 1},
			{name: "it comes", do: func() { w.put("key", first.KeyPEM(t)) }, wait: 2 * time.Second, want: first.ID(), told: true},
			{name: "nothing happens", wait: time.Minute, want: first.ID()},
			{name: "written again as it was", do: func() { w.put("key", first.KeyPEM(t)) }, wait: 3 * time.Second, want: first.ID()},
			{name: "half of a new pair", do: func() { w.put("crt", second.PEM()) }, wait: 30 * time.Second, want: first.ID(), failed: 1},
			{name: "the other half", do: func() { w.put("key", second.KeyPEM(t)) }, wait: 3 * time.Second, want: second.ID(), told: true},
			{name: "damaged", do: func() { w.put("key", "junk") }, wait: localcert.Keep - time.Second, want: second.ID(), failed: 1},
			{name: "for too long", wait: 4 * time.Second, told: true, failed: 1},
			{name: "mended", do: func() { w.put("key", second.KeyPEM(t)) }, wait: 3 * time.Second, want: second.ID(), told: true},
			{name: "gone", do: func() { _ = os.Remove(w.at("crt")) }, wait: localcert.Keep + 4*time.Second, told: true, failed: 1},
		} {
			if s.do != nil {
				s.do()
			}
			<-time.After(s.wait)
			synctest.Wait()
			id, reason := w.read(pair)
			if id != s.want || (reason == "") != (s.want != "") {
				t.Fatalf("%s: %q is used (%s), want %q", s.name, id, reason, s.want)
			}
			if got := w.told(); got != s.told {
				t.Fatalf("%s: told = %v", s.name, got)
			}
			if got := w.failing(); got != s.failed {
				t.Fatalf("%s: %v fail, want %v", s.name, got, s.failed)
			}
		}
		if text := w.log.String(); strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("a key is in the log: %s", text)
		}
		cancel()
		<-done
	})
}

// TestWhatIsInFiles has the forms of files, and all that cannot be used.
func TestWhatIsInFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := certtest.CA(t, "ca")
	middle := ca.CA(t, "middle")
	c, other := middle.Issue(t, "web"), ca.Issue(t, "other")
	pkcs8, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"both": c.KeyPEM(t) + c.ChainPEM(), "chain": "remarks\n" + c.ChainPEM(), "key": c.KeyPEM(t), "pkcs8": certtest.Block("PRIVATE KEY", pkcs8),
		"other": other.KeyPEM(t), "two": c.KeyPEM(t) + other.KeyPEM(t), "encrypted": certtest.Block("ENCRYPTED PRIVATE KEY", []byte("x")),
		"damaged": certtest.Block("PRIVATE KEY", []byte("CANARY")), "reversed": middle.PEM() + c.PEM(), "empty": "",
		"legacy": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"DEK-Info": "DES-EDE3-CBC,0"}, Bytes: []byte("x")})),
		"huge":   strings.Repeat(" ", 1<<20) + c.KeyPEM(t),
	} {
		w.put(name, text)
	}
	outside := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(outside, []byte(c.KeyPEM(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"absolute": outside, "up": "..", "device": "/dev/zero", "inside": "key"} {
		if err := os.Symlink(to, w.at(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(w.at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		chain, key, want string // of the reason; empty: it is used
	}{
		{"", "both", ""},
		{"chain", "key", ""},
		{"both", "both", ""},
		{"chain", "pkcs8", ""},
		{"chain", "inside", ""},
		{"chain", "other", "does not belong"},
		{"reversed", "key", "did not issue"},
		{"empty", "key", "no certificate"},
		{"", "key", "no certificate"},
		{"chain", "two", "several"},
		{"chain", "encrypted", "encrypted"},
		{"chain", "legacy", "encrypted"},
		{"chain", "damaged", "cannot be read"},
		{"chain", "empty", "no private key"},
		{"chain", "absent", "cannot be read"},
		{"absent", "key", "cannot be read"},
		{"chain", "huge", "cannot be read"},
		{"chain", "absolute", "cannot be read"},
		{"chain", "up/" + filepath.Base(w.root) + "/key", "cannot be read"},
		{"chain", "device", "cannot be read"},
		{"chain", "pipe", "cannot be read"},
		{"chain", ".", "no --certificate-root"},
		{"chain", "../" + filepath.Base(filepath.Dir(outside)) + "/key", "no --certificate-root"},
		{"../x", "key", "no --certificate-root"},
	} {
		at := certs.Local{Key: w.root + "/" + tt.key}
		if tt.chain != "" {
			at.Chain = w.root + "/" + tt.chain
		}
		id, reason := w.read(at)
		if tt.want == "" && (id != c.ID() || reason != "") || tt.want != "" && (id != "" || !strings.Contains(reason, tt.want)) {
			t.Errorf("%q with %q: %q, %q; want %q", tt.chain, tt.key, id, reason, tt.want)
		}
		if strings.Contains(reason, "CANARY") {
			t.Errorf("%q with %q: repeats the file: %s", tt.chain, tt.key, reason)
		}
	}
	if id, reason := w.read(certs.Local{Given: c.ChainPEM(), Key: w.at("key")}); id != c.ID() || reason != "" {
		t.Errorf("with a chain that is given: %q, %q", id, reason)
	}
	none, err := localcert.New(nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if v, reason, _ := none.Read(certs.Local{Key: w.at("both")}); v != nil || !strings.Contains(reason, "no --certificate-root") {
		t.Errorf("without a directory: %q", reason)
	}
}

// TestWhatNobodyUsesIsForgotten holds that places do not pile up with what configuration names.
func TestWhatNobodyUsesIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := certtest.SelfSigned(t, "web")
	w.put("both", c.KeyPEM(t)+c.PEM())
	used, unused := certs.Local{Key: w.at("both")}, certs.Local{Key: w.at("absent")}
	w.read(used)
	w.read(unused)
	before := w.store.Generation(used)
	w.store.Keep(map[certs.Local]bool{used: true})
	if w.store.Generation(unused) != 0 || w.store.Generation(used) != before || before == 0 {
		t.Errorf("Generation() = %d and %d, was %d", w.store.Generation(used), w.store.Generation(unused), before)
	}
}
