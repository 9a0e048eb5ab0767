package secretsource_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

// inFiles is a certificate whose version names files, as people write it; an empty key is left out.
func inFiles(chain, key string) *configv1.Certificate {
	v := &configv1.CertificateVersion{Chain: chain}
	if key != "" {
		v.PrivateKey = plain(key)
	}
	return &configv1.Certificate{Name: "web", Snis: []string{"web.test"}, Current: v}
}

func (w *world) at(name string) string { return filepath.Join(w.root, name) }

func (w *world) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(w.at(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read has a replica that reads files below the root read what is due, and answers the id of what is kept.
func (w *world) read(t *testing.T, c *configv1.Certificate) string {
	t.Helper()
	r := w.replicaWith(t, w.root+"?groups=g&refresh=1m&stale=2h")
	if c != nil {
		if err := r.put(t, "g", c); err != nil {
			t.Fatal(err)
		}
	}
	w.pass(time.Minute)
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, record := w.state(t)
	return id(record)
}

// TestCertificatesInFilesOfTheControlPlane are read in one file, in two, and with certificates that are given; and anew when the
// files change. Half of a pair changes nothing.
func TestCertificatesInFilesOfTheControlPlane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := certtest.SelfSigned(t, "web", certtest.Names("web.test")), certtest.SelfSigned(t, "web", certtest.Names("web.test"))
	w.put(t, "both.pem", first.KeyPEM(t)+first.PEM())
	w.put(t, "crt.pem", first.PEM())
	w.put(t, "key.pem", first.KeyPEM(t))
	for name, c := range map[string]*configv1.Certificate{
		"one file": inFiles(w.at("both.pem"), ""), "one file, named as key": inFiles("", w.at("both.pem")), "one file, named twice": inFiles(w.at("both.pem"), w.at("both.pem")),
		"two files": inFiles(w.at("crt.pem"), w.at("key.pem")),
	} {
		if got := w.read(t, c); got != first.ID() {
			t.Errorf("%s: %q was read", name, got)
		}
	}
	_ = w.read(t, inFiles(w.at("crt.pem"), w.at("key.pem")))
	w.put(t, "crt.pem", second.PEM())
	if got := w.read(t, nil); got != first.ID() {
		t.Errorf("half of a pair: %q is used", got)
	}
	w.put(t, "key.pem", second.KeyPEM(t))
	if got := w.read(t, nil); got != second.ID() {
		t.Errorf("the new pair: %q is used", got)
	}
	if got := w.read(t, inFiles(second.PEM(), w.at("key.pem"))); got != second.ID() {
		t.Errorf("with the certificate given: %q is used", got)
	}
}

// TestFilesThatTheGroupMustNotNameAreRefused when they are written, without a look at what is there.
func TestFilesThatTheGroupMustNotNameAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root, others := w.root, t.TempDir()
	r := w.replicaWith(t, root+"?groups=g", others+"?groups=other", root+"/narrow?groups=g,other")
	chain := certtest.SelfSigned(t, "web", certtest.Names("web.test")).PEM()
	for name, tt := range map[string]struct {
		group, chain, key string
		want              string // the path of what is wrong
	}{
		"elsewhere":                   {"g", "/etc/shadow", "", "current.private_key"},
		"of another group":            {"g", others + "/a", "", "current.private_key"},
		"of this one, by another":     {"other", root + "/a", "", "current.private_key"},
		"the folder":                  {"g", root, "", "current.private_key"},
		"a folder that begins so":     {"g", root + "x/a", "", "current.private_key"},
		"above":                       {"g", root + "/../a", "", "current.chain"},
		"above, as key":               {"g", "", root + "/../a", "current.private_key"},
		"twice a slash":               {"g", root + "//a", "", "current.chain"},
		"the certificates elsewhere":  {"g", "/etc/a", root + "/a", "current.chain"},
		"the key elsewhere":           {"g", root + "/a", "/etc/a", "current.private_key"},
		"the key given":               {"g", root + "/a", "-----BEGIN", "current.private_key"},
		"the key of gateways":         {"g", root + "/a", "gateway:/a", "current.private_key"},
		"of gateways, the key here":   {"g", "gateway:/a", root + "/a", "current.private_key"},
		"given, and the key anywhere": {"g", chain, "/proc/self/environ", "current.private_key"},
	} {
		got := r.put(t, tt.group, inFiles(tt.chain, tt.key))
		if got == nil || problem.Of(got).Code != problem.Invalid || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("%s: %v, want it refused for %s", name, got, tt.want)
		}
	}
	for _, group := range []string{"g", "other"} {
		if err := r.put(t, group, inFiles(root+"/narrow/a", "")); err != nil {
			t.Errorf("%s may not name what both may: %v", group, err)
		}
	}
	none := w.replicaWith(t)
	if err := none.put(t, "g", inFiles(root+"/a", "")); err == nil {
		t.Error("without a folder a file is taken")
	}
}

// TestOnlyFilesBelowTheFolderAreRead follows links that stay below it, and opens nothing but regular files that are not huge.
func TestOnlyFilesBelowTheFolderAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, outside := certtest.SelfSigned(t, "web", certtest.Names("web.test")), t.TempDir()
	both := c.KeyPEM(t) + c.PEM()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(outside, "web.pem"), []byte(both), 0o600))
	must(os.Mkdir(w.at("v1"), 0o700))
	w.put(t, "v1/web.pem", both)
	must(os.Symlink("v1", w.at("current")))
	must(os.Symlink(filepath.Join(outside, "web.pem"), w.at("absolute")))
	must(os.Symlink("../"+filepath.Base(outside)+"/web.pem", w.at("relative")))
	must(os.Symlink("/dev/zero", w.at("device")))
	must(syscall.Mkfifo(w.at("pipe"), 0o600))
	w.put(t, "huge", both+string(bytes.Repeat([]byte(" "), 1<<20)))
	for name, want := range map[string]string{
		"v1/web.pem": c.ID(), "current/web.pem": c.ID(), "absolute": "", "relative": "", "device": "", "pipe": "", "huge": "", "v1": "", "absent": "",
	} {
		if got := w.read(t, inFiles(w.at(name), "")); got != want {
			t.Errorf("%s: %q was read", name, got)
		}
	}
}

func TestSettingsOfFoldersAreJudgedWhole(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"/etc/tls?groups=g": true, "/etc/tls?groups=g,h&refresh=5s&stale=1h": true,
		"": false, "/etc/tls": false, "/etc/tls?groups=": false, "/etc/tls?groups=*": false, "/?groups=g": false, "etc?groups=g": false,
		"/etc/../root?groups=g": false, "/etc/?groups=g": false, "/etc/tls?groups=g&x=y": false, "/etc/tls?groups=g&refresh=1ms": false,
	} {
		if err := new(secretsource.Providers).AddRoots([]string{text}); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := new(secretsource.Providers).AddRoots([]string{"/a?groups=g", "/a?groups=h"}); err == nil {
		t.Error("one folder twice: taken")
	}
}
