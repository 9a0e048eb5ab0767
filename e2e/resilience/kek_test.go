package resilience_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/vaulttest"
)

// transit makes a Transit key in a Vault with an AppRole that may use it, and answers the variables of a control plane
// whose key-encryption key it is.
func transit(t *testing.T, v *vaulttest.Server, key string, ttl time.Duration) []string {
	t.Helper()
	v.Transit("transit", key)
	role, secret := v.AppRole(v.Policy("transit", key), ttl, time.Hour)
	path := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{fmt.Sprintf("KEYWARD_KEK_URI=vault:%s/transit/%s?ca=%s&auth=approle&role-id=%s&secret-id-file=%s",
		v.Address, key, v.CA, role, path)}
}

// createGroup answers the status of making a group.
func createGroup(c *harness.Cluster, name string) harness.Answer {
	return c.REST(http.MethodPost, "/v1/groups", fmt.Sprintf(`{"name": %q}`, name))
}

// TestVaultOutageStopsOnlyWhatNeedsANewWrap has the control plane's key in Vault, which is sealed, killed and started
// again. The login's life is short, so that it ends meanwhile.
func TestVaultOutageStopsOnlyWhatNeedsANewWrap(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	c := harness.New(t, harness.Options{KEK: transit(t, v, "keyward", 3*time.Second)})
	c.Apply(baseDocument(t))
	c.CreateGroup("second")
	g := c.StartGateway("default")
	r := c.Replicas[0]
	n := 0
	goesOn := func(when string) {
		t.Helper()
		n++
		g.AwaitRevision(c.Apply(withConsumer(fmt.Sprintf("late-%d", n), fmt.Sprintf("Late%dxV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq", n))))
		c.Apply(fmt.Sprintf("group: second\nconsumers: [{name: late-%d}]\n", n)) // no gateway asked for this one
		serves(t, when, g)
	}
	for _, phase := range []struct {
		name       string
		down, back func()
	}{
		{"sealed", v.Seal, v.Unseal},
		{"killed", v.Stop, func() { v.Restart(); v.Unseal() }},
	} {
		goesOn("before it is " + phase.name)
		phase.down()
		goesOn(phase.name)
		if a := createGroup(c, "new-"+phase.name); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
			t.Errorf("a new group while Vault is %s: %d %s, want 503 with Retry-After", phase.name, a.Status, a.Body)
		}
		c.Restart(r)
		r.AwaitOutput(20*time.Second, "not ready yet")
		testkit.Await(t, 20*time.Second, func() error {
			why, err := r.NotReady()
			if err == nil && !strings.Contains(why, "does not answer") {
				err = fmt.Errorf("not ready: %s", why)
			}
			return err
		})
		if !r.Running() {
			t.Errorf("the replica ended while Vault is %s", phase.name)
		}
		serves(t, "a restarted replica while Vault is "+phase.name, g)
		phase.back()
		r.AwaitReady()
		goesOn("after it was " + phase.name)
		if a := createGroup(c, "new-"+phase.name); a.Status >= http.StatusBadRequest {
			t.Errorf("a new group after Vault was %s: %d %s", phase.name, a.Status, a.Body)
		}
	}
	healthy(t, c)
	if out := string(r.Output()); strings.Contains(out, "hvs.") {
		t.Error("the log shows a token of Vault")
	}
}

// TestTheKEKMovesFromAFileToVaultUnderTraffic does it as docs/operating.md says: all replicas learn the new key, then it
// becomes the current one, then the old one goes. Nobody notices.
func TestTheKEKMovesFromAFileToVaultUnderTraffic(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	old := harness.NewKEK()
	c := harness.New(t, harness.Options{Replicas: 2, KEK: []string{"KEYWARD_KEK=" + old}})
	c.Apply(baseDocument(t))
	for n := range 5 {
		c.CreateGroup(fmt.Sprintf("g%d", n))
	}
	g := c.StartGateway("default")
	uri := transit(t, v, "keyward", time.Minute)[0]
	_, vault, _ := strings.Cut(uri, "=")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var result load.Result
	var wg sync.WaitGroup
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: load.NewTargets(g.HTTP), Rate: 200, Connections: 64, Timeout: 10 * time.Second,
			Request: []byte("GET / HTTP/1.1\r\nHost: hello.test\r\nX-API-Key: " + loadKey + "\r\n\r\n"),
		})
	})
	w := startWriter(c, 0)
	roll := func(variables ...string) {
		t.Helper()
		c.SetKEK(variables...)
		for _, r := range c.Replicas {
			c.Restart(r)
			r.AwaitReady()
		}
	}
	roll("KEYWARD_KEK="+old, "KEYWARD_KEK_NEXT="+vault)
	// A third replica was forgotten: what it has open goes on, and it says what it lacks.
	forgotten := c.AddReplica("forgotten", "KEYWARD_KEK="+old)
	roll(uri, "KEYWARD_KEK_RETIRED=env:OLD_KEK", "OLD_KEK="+old)
	testkit.Await(t, 2*time.Minute, func() error {
		out, ok := c.CheckDB()
		if !ok || !strings.Contains(out, "vault:transit/keyward (current): 7 keyrings") || !strings.Contains(out, "(retired): 0 keyrings") {
			return fmt.Errorf("check-db: %s", out)
		}
		return nil
	})
	for _, r := range c.Replicas {
		r.AwaitMetric(t, `keyward_controlplane_keyrings{kek="vault:transit/keyward",role="current"}`, 7)
	}
	forgotten.AwaitOutput(time.Minute, "this replica lacks key-encryption keys")
	forgotten.AwaitMetric(t, `keyward_controlplane_keyrings{kek="vault:transit/keyward",role="missing"}`, 7)
	if _, err := c.TryApply(t.Context(), forgotten, "g0", "group: g0\nconsumers: [{name: late}]\n"); err != nil {
		t.Errorf("a change by way of a replica without the new key: %v", err)
	}
	forgotten.Stop(20 * time.Second)
	roll(uri)
	acked := w.end()
	cancel()
	wg.Wait()
	t.Logf("%d changes acknowledged, %d requests", len(acked), result.Sent)
	if result.Failed > 0 || result.OK != result.Sent || result.Sent < 500 {
		t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}
	holds(t, c, g, acked)
	healthy(t, c)
	secret, err := os.ReadFile(vault[strings.LastIndex(vault, "=")+1:])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(c.Replicas, forgotten) {
		for _, hidden := range []string{old, strings.TrimSpace(string(secret)), "hvs."} {
			if strings.Contains(string(r.Output()), hidden) {
				t.Error("the log shows a key, a secret id or a token of Vault")
			}
		}
	}
	if out, ok := c.CheckDBWith("KEYWARD_KEK=" + old); ok || !strings.Contains(out, "vault:transit/keyward (missing)") {
		t.Errorf("the old key still opens something: %s", out)
	}
	if out := c.MustCLI("", "audit", "list", "--group", "g0"); !strings.Contains(out, "keyring.kek") {
		t.Errorf("the audit trail does not say that the key was changed: %s", out)
	}
}
