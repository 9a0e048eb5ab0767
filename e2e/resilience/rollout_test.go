// Package resilience takes parts of a running installation away, under load, and holds that nobody notices.
package resilience_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

const rolloutDocument = `group: default
settings: {require_https: false}
services:
  - {name: hello, url: "http://%s"}
routes:
  - name: hello
    service: hello
    hosts: [hello.test]
    policies:
      - {type: key-auth}
      - {type: acl, config: {allow: [gold]}}
consumers:
  - name: load
    groups: [gold]
    credentials: [{name: k, type: key-auth, config: {key: "%s"}}]
`

const loadKey = "Load7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"

// TestNobodyNoticesChangesCrashesAndReplacements sends requests at a constant rate through two gateways while the
// configuration changes ten times a second, a control-plane replica is killed and started again, and a gateway is
// drained and replaced. No request may fail, and every change that was acknowledged must hold on every gateway.
func TestNobodyNoticesChangesCrashesAndReplacements(t *testing.T) {
	duration, rate := 15*time.Second, 1000
	if os.Getenv("KEYWARD_FULL") != "" {
		duration, rate = 60*time.Second, 2000
	}
	c := harness.New(t, harness.Options{Replicas: 2})
	revision := c.Apply(fmt.Sprintf(rolloutDocument, harness.Nginx(t), loadKey))
	first, second := c.StartGateway("default"), c.StartGateway("default")
	for _, g := range []*harness.Gateway{first, second} {
		g.AwaitRevision(revision)
	}
	targets := load.NewTargets(first.HTTP, second.HTTP)
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var wg sync.WaitGroup
	var result load.Result
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: targets, Rate: rate, Connections: 64, Timeout: 10 * time.Second,
			Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\nX-API-Key: " + loadKey + "\r\n\r\n"),
		})
	})
	acknowledged := &ledger{}
	wg.Go(func() { acknowledged.write(ctx, t, c) })

	at(ctx, duration/5)
	c.Replicas[0].Kill()
	at(ctx, duration/5)
	c.Replicas[0].Start()
	c.Replicas[0].AwaitReady()
	third := c.StartGateway("default")
	targets.Set(first.HTTP, second.HTTP, third.HTTP)
	at(ctx, duration/10)
	first.Signal(syscall.SIGTERM)
	testkit.Await(t, 10*time.Second, func() error { // what a load balancer does: it looks at readiness
		if resp, err := http.Get("http://" + first.Status + "/readyz"); err == nil { //nolint:noctx // a test's own server
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return fmt.Errorf("the draining gateway is still ready")
			}
		}
		return nil
	})
	targets.Set(second.HTTP, third.HTTP)
	first.AwaitEnd(40 * time.Second)
	wg.Wait()

	t.Logf("%d requests, p50 %v, p99 %v, %d changes acknowledged", result.Sent, result.P50, result.P99, len(acknowledged.keys))
	if result.Failed > 0 || result.OK != result.Sent {
		t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}
	if want := int64(rate) * int64(duration.Seconds()) * 9 / 10; result.Sent < want {
		t.Errorf("only %d requests were sent, want at least %d: this machine is too slow for the test to mean anything", result.Sent, want)
	}
	if len(acknowledged.keys) < int(duration.Seconds())*4 {
		t.Errorf("only %d changes were acknowledged", len(acknowledged.keys))
	}
	for _, g := range []*harness.Gateway{second, third} {
		g.AwaitRevision(acknowledged.revision)
		for i, key := range acknowledged.keys {
			if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != http.StatusOK {
				t.Errorf("acknowledged change %d does not hold on %s: %d %s", i, g.HTTP, code, body)
			}
		}
	}
	equalVerdicts(t, second, third)
}

// ledger makes changes and keeps what was acknowledged.
type ledger struct {
	keys     []string
	revision int64
}

func (l *ledger) write(ctx context.Context, t *testing.T, c *harness.Cluster) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		key := fmt.Sprintf("Chg%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", n)
		doc := fmt.Sprintf("group: default\nconsumers:\n  - name: c%d\n    groups: [gold]\n    credentials: [{name: k, type: key-auth, config: {key: %q}}]\n", n, key)
		if revision, err := c.TryApply(ctx, c.Replicas[n%2], "default", doc); err == nil {
			l.keys, l.revision = append(l.keys, key), revision
		} else {
			t.Logf("change %d was not acknowledged: %v", n, err)
		}
	}
}

// equalVerdicts holds that gateways with equal digests answer equally.
func equalVerdicts(t *testing.T, a, b *harness.Gateway) {
	t.Helper()
	testkit.Await(t, 10*time.Second, func() error {
		sa, errA := a.State()
		sb, errB := b.State()
		if errA != nil || errB != nil || sa.Digest != sb.Digest || sa.Digest == "" {
			return fmt.Errorf("digests %q and %q (%w, %w)", sa.Digest, sb.Digest, errA, errB)
		}
		return nil
	})
	requests := [][]string{
		{"hello.test", "/"},
		{"hello.test", "/", "X-API-Key", loadKey},
		{"hello.test", "/", "X-API-Key", "nonsense"},
		{"hello.test", "/a%2Fb", "X-API-Key", loadKey},
		{"other.test", "/", "X-API-Key", loadKey},
	}
	for _, r := range requests {
		codeA, _ := a.Get(t, r[0], r[1], r[2:]...)
		codeB, _ := b.Get(t, r[0], r[1], r[2:]...)
		if codeA != codeB {
			t.Errorf("%v: %d on one gateway, %d on the other, with equal digests", r, codeA, codeB)
		}
	}
}

// at waits for a while of the scenario.
func at(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
