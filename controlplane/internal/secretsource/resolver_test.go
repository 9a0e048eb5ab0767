package secretsource_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

// TestWhatIsReadIsKeptThroughOutagesAndRestarts goes through the life of a reference. Each step is run by a replica of its own,
// which knows nothing but the database.
func TestWhatIsReadIsKeptThroughOutagesAndRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, key := w.mount(t)
	if err := w.replica(t).put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	path, want := filepath.Join(w.root, "web.pem"), first
	steps := []struct {
		name    string
		do      func()
		changes bool
		failing bool
		closed  bool
	}{
		{"read for the first time", func() {}, true, false, false},
		{"nothing new", func() {}, false, false, false},
		{"rotated", func() { want, _ = w.mount(t) }, true, false, false},
		{"gone", func() { os.Remove(path) }, true, true, false},
		{"still gone", func() { w.pass(time.Hour) }, false, true, false},
		{"something else", func() { w.file(t, "not what it was") }, false, true, false},
		{"for another name", func() { w.file(t, certtest.SelfSigned(t, "x", certtest.Names("x.test")).PEM()+key) }, false, true, false},
		{"back as it was rotated", func() { want, _ = w.mount(t) }, true, false, false},
		{"gone again", func() { os.Remove(path) }, true, true, false},
		{"too long", func() { w.pass(2 * time.Hour) }, true, true, true},
		{"longer", func() { w.pass(time.Hour) }, false, true, true},
		{"and back", func() { want, _ = w.mount(t) }, true, false, false},
	}
	for _, s := range steps {
		before, _ := w.state(t)
		s.do()
		if err := w.replica(t).Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		after, r := w.state(t)
		if (after != before) != s.changes || after > before+1 {
			t.Fatalf("%s: from revision %d to %d", s.name, before, after)
		}
		if (r.GetFailingSince() != nil) != s.failing || (r.GetCertificate() == nil) != s.closed || !s.closed && id(r) != want {
			t.Fatalf("%s: failing since %v, %q is kept, want %q (closed: %v)", s.name, r.GetFailingSince(), id(r), want, s.closed)
		}
	}
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 1)
	if err != nil || page[0].Actor != secretsource.Actor || !strings.Contains(page[0].Detail, "{file://mounted/web.pem} of certificates/web: read") {
		t.Errorf("the audit trail: %+v, %v", page, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if logged := w.log.String(); strings.Contains(logged, strings.Split(key, "\n")[1]) || strings.Contains(logged, "not what it was") || !strings.Contains(logged, "{file://mounted/web.pem}") {
		t.Errorf("the log has a value, or does not name the reference:\n%s", logged)
	}
}

// TestReplicasWhoseSettingsDifferCloseNothing has one without the provider run beside one with it.
func TestReplicasWhoseSettingsDifferCloseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want, _ := w.mount(t)
	with, without := w.replica(t), w.replicaWith(t)
	if err := with.put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*replica{with, without} {
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, r := w.state(t); id(r) != want {
		t.Errorf("%q is kept, want %q", id(r), want)
	}
	w.pass(secretsource.DefaultStale + time.Hour)
	if err := without.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, r := w.state(t); r == nil || r.GetCertificate() != nil {
		t.Errorf("long after the provider is gone %v is kept", r)
	}
}

// TestTheRecordGoesWithTheReference also holds that a reference which is changed finds nothing of the one before.
func TestTheRecordGoesWithTheReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _ = w.mount(t)
	r := w.replica(t)
	run := func() *systemv1.ResolvedSecret {
		t.Helper()
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, record := w.state(t)
		return record
	}
	if err := r.put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	if run() == nil {
		t.Fatal("nothing was read")
	}
	if err := r.put(t, "g", referring("web", "elsewhere.pem")); err != nil {
		t.Fatal(err)
	}
	if got := run(); got != nil {
		t.Errorf("of a reference to what is not there %v is kept", got.GetReference())
	}
	back, err := r.Rollback(t.Context(), configsvc.RollbackRequest{Actor: "test", Group: "g", To: 2})
	if err != nil || len(back.Items) != 1 {
		t.Fatalf("rollback: %v, %+v", err, back.Items)
	}
	r = w.replica(t)
	if run() == nil {
		t.Error("after a rollback nothing was read")
	}
}

// TestACommitWakesTheReader without the job.
func TestACommitWakesTheReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want, _ := w.mount(t)
	r := w.replica(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	group, err := r.groups.Group(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	_, cursor := group.Subscribe()
	if err := r.put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the certificate, and what was read
		if _, err := cursor.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, record := w.state(t); id(record) != want {
		t.Errorf("%q was read, want %q", id(record), want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestManyReplicasAtOnceMakeOneRevision lets them race for the same value.
func TestManyReplicasAtOnceMakeOneRevision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _ = w.mount(t)
	if err := w.replica(t).put(t, "g", referring("web", "web.pem")); err != nil {
		t.Fatal(err)
	}
	before, _ := w.state(t)
	var wg sync.WaitGroup
	for range 4 {
		r := w.replica(t)
		wg.Go(func() {
			if err := r.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if after, _ := w.state(t); after != before+1 {
		t.Errorf("from revision %d to %d", before, after)
	}
}

// TestReferencesThatTheGroupMustNotUseAreRefused by admission, whatever is there, and in the same words for what does not exist
// and what is for others.
func TestReferencesThatTheGroupMustNotUseAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replicaWith(t, "mounted=file:"+w.root+"?groups=g", "pod=env:WEB_?groups=g", "theirs=file:"+w.root+"?groups=other")
	unknown := "unknown provider: this group has no secret provider "
	for ref, want := range map[string]string{
		"{file://mounted/a/b.pem}":              "",
		"{file://mounted/..data/b.pem}":         "",
		"{env://pod/WEB_TLS}":                   "",
		"{file://theirs/a.pem}":                 unknown,
		"{file://nobodys/a.pem}":                unknown,
		"{vault://mounted/a#b}":                 unknown,
		"{env://mounted/WEB_TLS}":               unknown,
		"{file://mounted/../a.pem}":             "leads out",
		"{file://mounted/a/../../b.pem}":        "leads out",
		"{file://mounted/a/../b.pem}":           "leads out",
		"{file://mounted//etc/passwd}":          "leads out",
		"{file://mounted/a//b}":                 "leads out",
		"{file://mounted/./a}":                  "leads out",
		"{file://mounted/.}":                    "leads out",
		"{file://mounted/a/}":                   "leads out",
		`{file://mounted/..\a}`:                 "leads out",
		"{file://mounted/a#b}":                  "taken whole",
		"{env://pod/KEYWARD_KEK}":               "not a variable",
		"{env://pod/PATH}":                      "not a variable",
		"{env://pod/WEB_}":                      "not a variable",
		"{env://pod/xWEB_TLS}":                  "not a variable",
		"{env://pod/WEB_TLS=x}":                 "not a variable",
		"{env://pod/web_tls}":                   "not a variable",
		"{env://pod/WEB_TLS#x}":                 "taken whole",
		"{file://mounted}":                      "is not a reference",
		"file://mounted/a.pem":                  "is not a reference",
		"{file://169.254.169.254/latest/a.pem}": unknown,
	} {
		c := referring("web", "")
		c.Current.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}}
		err := r.put(t, "g", c)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", ref, err)
			}
			continue
		}
		vs := problem.Of(err).Violations
		if err == nil || len(vs) != 1 || vs[0].Path != "current.private_key" || !strings.Contains(vs[0].Reason, want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	with := func(change func(*configv1.Certificate)) *configv1.Certificate {
		c := proto.CloneOf(referring("web", "a.pem"))
		change(c)
		return c
	}
	passphrase := with(func(c *configv1.Certificate) {
		c.Current.Passphrase = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "x"}}
	})
	referred := with(func(c *configv1.Certificate) { c.Current.Passphrase = c.GetCurrent().GetPrivateKey() })
	twice := with(func(c *configv1.Certificate) { c.Next = proto.CloneOf(c.GetCurrent()) })
	for name, c := range map[string]*configv1.Certificate{"a passphrase": passphrase, "a passphrase elsewhere": referred, "one reference twice": twice} {
		if err := r.put(t, "g", c); err == nil || problem.Of(err).Code != problem.Invalid {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	if err := r.put(t, "other", referring("web", "a.pem")); err == nil {
		t.Error("another group may use what is not for it")
	}
	same := referring("api", "b.pem") // whatever kind its key will be of
	if err := r.put(t, "g", same); err == nil || problem.Of(err).Code != problem.Conflict {
		t.Errorf("two certificates for one name: %v", err)
	}
}

// TestLinksAreFollowedOnlyBelowTheRoot reads what is mounted as clusters mount it, and nothing outside.
func TestLinksAreFollowedOnlyBelowTheRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want, _ := w.mount(t)
	outside := t.TempDir()
	text, err := os.ReadFile(filepath.Join(w.root, "web.pem"))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(outside, "web.pem"), text, 0o600))
	must(os.Mkdir(filepath.Join(w.root, "..2026"), 0o700))
	must(os.WriteFile(filepath.Join(w.root, "..2026", "web.pem"), text, 0o600))
	must(os.Symlink("..2026", filepath.Join(w.root, "..data")))
	must(os.Symlink("..data/web.pem", filepath.Join(w.root, "mounted.pem")))
	must(os.Symlink(filepath.Join(outside, "web.pem"), filepath.Join(w.root, "absolute.pem")))
	must(os.Symlink("../"+filepath.Base(outside)+"/web.pem", filepath.Join(w.root, "relative.pem")))
	must(os.Symlink(outside, filepath.Join(w.root, "folder")))
	must(os.WriteFile(filepath.Join(w.root, "huge.pem"), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	for path, good := range map[string]bool{
		"web.pem": true, "mounted.pem": true, "absolute.pem": false, "relative.pem": false, "folder/web.pem": false,
		"folder": false, "..data": false, "huge.pem": false, "absent.pem": false,
	} {
		r := w.replica(t)
		must(r.put(t, "g", referring("web", path)))
		must(r.Run(t.Context()))
		if _, record := w.state(t); (record != nil) != good || good && id(record) != want {
			t.Errorf("%s: %q was read", path, id(record))
		}
	}
}

func TestSettingsOfProvidersAreJudgedWhole(t *testing.T) {
	t.Parallel()
	open := func(texts ...string) error {
		_, err := secretsource.Open(texts, func(name string) (string, bool) { return "token", name == "VAULT" })
		return err
	}
	for _, text := range []string{
		"a=file:/etc/tls?groups=g", "a=env:WEB_?groups=g,h&refresh=5s&stale=1h",
		"a=vault:https://vault.test:8200/kv?groups=g&auth=token&token-env=VAULT",
		"a=vault:https://vault.test:8200/team/kv?groups=g&token-file=/run/token&kv=1&prefix=web/tls",
	} {
		if err := open(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "a", "a=", "a=file", "=file:/etc?groups=g", "A b=file:/etc?groups=g", "a=consul:x?groups=g",
		"a=file:/etc/tls", "a=file:/etc/tls?groups=", "a=file:/etc/tls?groups=*", "a=file:/etc/tls?groups=g,",
		"a=file:etc?groups=g", "a=file:/?groups=g", "a=file:/etc/../root?groups=g", "a=file:/etc/?groups=g", "a=file:?groups=g",
		"a=file:/etc/tls?groups=g&refresh=1ms", "a=file:/etc/tls?groups=g&stale=1s", "a=file:/etc/tls?groups=g&x=y",
		"a=env:?groups=g", "a=env:WEB?groups=g", "a=env:_?groups=g", "a=env:KEYWARD_?groups=g", "a=env:keyward_x_?groups=g",
		"a=vault:https://vault.test/kv?groups=g", "a=vault:http://vault.test/kv?groups=g&token-env=VAULT",
		"a=vault:https://vault.test?groups=g&token-env=VAULT", "a=vault:https://vault.test/kv?groups=g&token-env=VAULT&kv=3",
		"a=vault:https://vault.test/kv?groups=g&token-env=VAULT&prefix=../x", "a=vault:https://vault.test/../sys?groups=g&token-env=VAULT",
	} {
		if err := open(text); err == nil {
			t.Errorf("%s: taken", text)
		}
	}
	if err := open("a=file:/etc/tls?groups=g", "a=file:/etc/ssl?groups=h"); err == nil {
		t.Error("one name twice: taken")
	}
	if err := fmt.Sprint(open("bad=env:KEYWARD_?groups=g", "worse=file:/?groups=g")); !strings.Contains(err, "bad") || !strings.Contains(err, "worse") {
		t.Errorf("of two faults it tells %s", err)
	}
}
