package resilience_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestKeysOfAListAreExchangedInIt puts a new key before the one in use, as docs/kek.md says: first behind it, until all replicas
// know it, then before it. What is stored moves, and the old key can go.
func TestKeysOfAListAreExchangedInIt(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "keys")
	write := func(keys ...string) {
		t.Helper()
		if err := os.WriteFile(list, []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const old, next = "qZ7xV2mN9pL4tR8wB1cD5fG9hJ3kS6yA", "Xw3eR5tY7uI9oP1aS2dF4gH6jK8lZ0xC"
	write(old)
	c := harness.New(t, harness.Options{Replicas: 2, KEK: []string{"KEYWARD_KEK_KEYS_FILE=" + list}})
	c.Apply(baseDocument(t))
	c.CreateGroup("g1")
	g := c.StartGateway("default")
	roll := func(keys ...string) {
		t.Helper()
		write(keys...)
		for _, r := range c.Replicas {
			c.Restart(r)
			r.AwaitReady()
		}
	}
	w := startWriter(c, 0)
	roll(old, next)
	roll(next, old)
	testkit.Await(t, 2*time.Minute, func() error {
		out, ok := c.CheckDB()
		if !ok || !strings.Contains(out, "(current): 3 keyrings") || !strings.Contains(out, "(retired): 0 keyrings") {
			return fmt.Errorf("check-db: %s", out)
		}
		return nil
	})
	roll(next)
	acked := w.end()
	holds(t, c, g, acked)
	healthy(t, c)
	if out, ok := c.CheckDBWith("KEYWARD_KEK=" + old); ok {
		t.Errorf("the old key still opens something: %s", out)
	}
	for _, r := range c.Replicas {
		if out := string(r.Output()); strings.Contains(out, old) || strings.Contains(out, next) {
			t.Error("the log shows a key")
		}
	}
}
