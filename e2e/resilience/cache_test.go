package resilience_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// awaitSource waits until the gateway says where its configuration is from.
func awaitSource(t *testing.T, g *harness.Gateway, source string) harness.Status {
	t.Helper()
	var s harness.Status
	testkit.Await(t, 20*time.Second, func() (err error) {
		if s, err = g.State(); err == nil && s.Source != source {
			err = fmt.Errorf("source is %q, want %q", s.Source, source)
		}
		return err
	})
	return s
}

// awaitKept waits until the gateway has finished writing a revision to its cache.
func awaitKept(g *harness.Gateway, revision int64) {
	g.AwaitOutput(20*time.Second, fmt.Sprintf(`msg="sealed cache written" component=gateway revision=%d`, revision))
}

// copyOf returns the bytes of the cache's file.
func copyOf(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "config.sealed"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAGatewayStartsFromItsSealedCache kills the control plane, then the gateway; it starts again alone.
func TestAGatewayStartsFromItsSealedCache(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	r := c.Replicas[0]
	first := c.Apply(baseDocument(t))
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	g := c.StartGateway("default", "--identity-dir", filepath.Join(dir, "identity"), "--sealed-cache", cache)
	awaitSource(t, g, "control-plane")
	awaitKept(g, first)
	older := copyOf(t, cache)
	second := c.Apply(withConsumer("second", "Second7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	g.AwaitRevision(second)
	awaitKept(g, second)
	newest := copyOf(t, cache)
	if bytes.Contains(newest, []byte("hello.test")) {
		t.Error("the cache holds configuration in the clear")
	}

	r.Kill()
	g.Kill()
	g.Start()
	g.AwaitReady()
	if s := awaitSource(t, g, "sealed-cache"); s.Revision != second || s.SealedCache.AgeSeconds == nil {
		t.Errorf("status = %+v, want revision %d with an age", s, second)
	}
	serves(t, "from the cache", g)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", "Second7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"); code != http.StatusOK {
		t.Errorf("the second key from the cache: %d %s", code, body)
	}

	refusesCache(t, g, cache, "damaged", append(bytes.Clone(newest[:len(newest)-1]), newest[len(newest)-1]^1))
	refusesCache(t, g, cache, "damaged", newest[:len(newest)-1])
	refusesCache(t, g, cache, "older_than_seen", older)

	// Back to the cache that is good, and to a control plane that has a change.
	g.Kill()
	if err := os.WriteFile(filepath.Join(cache, "config.sealed"), newest, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Start()
	g.AwaitReady()
	awaitSource(t, g, "sealed-cache")
	r.Start()
	r.AwaitReady()
	third := c.Apply(withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	g.AwaitRevision(third)
	awaitSource(t, g, "control-plane")
	serves(t, "with the control plane back", g)
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"); code != http.StatusOK {
		t.Errorf("the late key: %d %s", code, body)
	}
}

// refusesCache starts the gateway with a cache that it has to refuse, and say why.
func refusesCache(t *testing.T, g *harness.Gateway, cache, reason string, file []byte) {
	t.Helper()
	g.Kill()
	if err := os.WriteFile(filepath.Join(cache, "config.sealed"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Start()
	testkit.Await(t, 20*time.Second, func() error {
		s, err := g.State()
		if err == nil && s.SealedCache.Refused != reason {
			err = fmt.Errorf("refused for %q, want %q", s.SealedCache.Refused, reason)
		}
		return err
	})
	if why, err := g.NotReady(); err != nil {
		t.Errorf("%s: %v %s", reason, err, why)
	}
	if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", loadKey); code != http.StatusServiceUnavailable {
		t.Errorf("%s: answered %d, want 503", reason, code)
	}
}
