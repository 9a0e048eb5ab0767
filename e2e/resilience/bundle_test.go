package resilience_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// left is what a control plane leaves to gateways that find it gone.
type left struct {
	t   *testing.T
	c   *harness.Cluster
	dir string
}

// file is the bundle of the group default.
func (l *left) file() string { return filepath.Join(l.dir, "default.bundle") }

func (l *left) read() []byte {
	l.t.Helper()
	b, err := os.ReadFile(l.file())
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// put writes a bundle where the gateway looks, in a directory of its own.
func (l *left) put(b []byte) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "bundle")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// gateway describes a gateway that starts from a bundle if it must.
func (l *left) gateway(token, bundle, keys string, more ...string) *harness.Gateway {
	return l.c.NewGateway(token, append([]string{
		"--group", "default", "--fallback-bundle", bundle,
		"--bundle-key-file", filepath.Join(keys, "bundle.key"), "--bundle-signer-file", filepath.Join(keys, "signer.pem"),
	}, more...)...)
}

// awaitWritten waits for a bundle of the revision under that version of the key.
func (l *left) awaitWritten(revision int64, key int) {
	l.t.Helper()
	l.c.Replicas[0].AwaitOutput(30*time.Second, fmt.Sprintf("group=default revision=%d key_version=%d", revision, key))
}

func (l *left) show(group string) (dir string) {
	l.t.Helper()
	dir = filepath.Join(l.t.TempDir(), "keys")
	l.c.MustCLI("", "--group", group, "bundle-key", "show", "--dir", dir)
	return dir
}

// refuses starts the gateway, which has to refuse what there is, and say why.
func (l *left) refuses(g *harness.Gateway, reason string) {
	l.t.Helper()
	g.Start()
	testkit.Await(l.t, 20*time.Second, func() error {
		s, err := g.State()
		if err == nil && s.Bundle.Refused != reason {
			err = fmt.Errorf("refused for %q, want %q", s.Bundle.Refused, reason)
		}
		return err
	})
	if why, err := g.NotReady(); err != nil {
		l.t.Errorf("%s: %v %s", reason, err, why)
	}
	if code, _ := g.Get(l.t, "hello.test", "/", "X-API-Key", loadKey); code != http.StatusServiceUnavailable {
		l.t.Errorf("%s: answered %d, want 503", reason, code)
	}
	g.Kill()
}

// changed waits until the file is another one than it was.
func (l *left) changed(was []byte) []byte {
	l.t.Helper()
	testkit.Await(l.t, 30*time.Second, func() error {
		b, err := os.ReadFile(l.file())
		if err == nil && bytes.Equal(b, was) {
			err = errors.New("the bundle is what it was")
		}
		return err
	})
	return l.read()
}

// TestANewGatewayStartsFromTheFallbackBundle: neither control plane nor database is there, and the gateway never was.
func TestANewGatewayStartsFromTheFallbackBundle(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "bundles")
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--bundle-dir", dir, "--bundle-interval", "1s"}})
	l := &left{t: t, c: c, dir: dir}
	r := c.Replicas[0]
	c.CreateGroup("other")
	first := c.Apply(baseDocument(t))
	l.awaitWritten(first, 1)
	former := l.show("default")

	// A gateway is stolen and revoked: what it knew opens no bundle that comes after.
	stolen := c.StartGateway("default")
	c.MustCLI("", "gateways", "revoke", c.Gateways("default")[0].ID, "--reason", "stolen")
	stolen.Kill()
	l.awaitWritten(first+1, 2) // a revision more: it also knew the keys of session tickets
	older, keys := l.read(), l.show("default")
	second := c.Apply(withConsumer("second", "Second7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	l.awaitWritten(second, 2)
	good := l.read()
	for name, b := range map[string][]byte{"configuration": []byte("hello.test"), "a name": []byte("second")} {
		if bytes.Contains(good, b) {
			t.Errorf("the bundle holds %s in the clear", name)
		}
	}
	foreign, err := os.ReadFile(filepath.Join(dir, "other.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	token := c.JoinToken("default", 20)
	identity := filepath.Join(t.TempDir(), "identity")
	veteran := l.gateway(token, l.put(older), keys, "--identity-dir", identity)
	veteran.Start()
	veteran.AwaitRevision(second)
	veteran.Stop(20 * time.Second)
	r.Stop(20 * time.Second) // or the job writes one more before the replica ends, good for long
	unlike := l.read()
	c.Restart(r, "KEYWARD_BUNDLE_TTL=3s")
	short, written := l.changed(unlike), time.Now()

	r.Kill()
	c.StopDatabase()
	path := l.put(good)
	g := l.gateway(token, path, keys)
	g.Start()
	g.AwaitReady()
	if s := awaitSource(t, g, "fallback-bundle"); s.Revision != second || s.Bundle.AgeSeconds == nil || s.ControlPlane.Connected {
		t.Errorf("status = %+v, want revision %d with an age", s, second)
	}
	serves(t, "from the bundle", g)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", "Second7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"); code != http.StatusOK {
		t.Errorf("the second key from the bundle: %d %s", code, body)
	}

	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	l.refuses(l.gateway(token, l.put(flipped), keys), "signature")
	l.refuses(l.gateway(token, l.put(good[:len(good)-1]), keys), "signature")
	l.refuses(l.gateway(token, l.put(foreign), keys), "other_group")
	l.refuses(l.gateway(token, path, former), "other_key")
	l.refuses(l.gateway(token, filepath.Join(dir, "none"), keys), "unreadable")
	l.refuses(veteran, "older_than_seen")
	testkit.Await(t, 20*time.Second, func() error {
		if left := 4*time.Second - time.Since(written); left > 0 {
			return fmt.Errorf("the bundle is good for another %v", left)
		}
		return nil
	})
	l.refuses(l.gateway(token, l.put(short), keys), "expired")

	c.StartDatabase()
	r.Start()
	r.AwaitReady()
	third := c.Apply(withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	g.AwaitRevision(third)
	awaitSource(t, g, "control-plane")
	serves(t, "with the control plane back", g)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"); code != http.StatusOK {
		t.Errorf("the late key: %d %s", code, body)
	}
	audit := c.MustCLI("", "audit", "list")
	for _, action := range []string{"bundle-key.create", "bundle-key.show", "bundle-key.rotate"} {
		if !strings.Contains(audit, action) {
			t.Errorf("the audit trail lacks %s", action)
		}
	}
}
