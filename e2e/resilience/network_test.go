package resilience_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestAPartitionIsSeenByBothSidesAndHeals lets nothing through between a gateway and the control plane, without a word to
// either, as a partition of the network does.
func TestAPartitionIsSeenByBothSidesAndHeals(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	link := harness.NewLink(t, c.Replicas[0].Sync)
	g := c.NewGatewayFrom(link.Addr, "default")
	g.Start()
	g.AwaitReady()
	awaitState(t, c, "online")
	if s, err := g.State(); err != nil || !s.ControlPlane.Connected {
		t.Errorf("status = %+v, %v; want it connected", s, err)
	}

	link.Stall()
	begun := time.Now()
	revision := c.Apply(twoParts(1))
	awaitState(t, c, "lagging")
	serves(t, "while nothing comes through", g)
	awaitState(t, c, "offline")
	g.AwaitMetric(t, "keyward_gateway_control_plane_connected", 0)
	if s, err := g.State(); err != nil || s.ControlPlane.Connected || s.ControlPlane.LostSeconds == nil || s.Revision >= revision {
		t.Errorf("status = %+v, %v; want it lost, before revision %d", s, err, revision)
	}
	if took := time.Since(begun); took > 25*time.Second {
		t.Errorf("both sides had noticed after %v", took)
	}
	serves(t, "when the stream is lost", g)

	link.Heal()
	begun = time.Now()
	converges(t, c, g, 20*time.Second)
	t.Logf("converged %v after the partition was healed", time.Since(begun))
	awaitState(t, c, "online")
}

// TestLostNotificationsCostNoMoreThanAPoll stops the connection by which a replica hears of changes, so that it lives and
// says nothing.
func TestLostNotificationsCostNoMoreThanAPoll(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	g := c.NewGatewayFrom(c.Replicas[1].Sync, "default")
	g.Start()
	g.AwaitReady()
	deaf := c.Rows(`select pid from pg_stat_activity where datname = 'keyward' and query ilike 'listen %'`)
	if len(deaf) != 2 {
		t.Fatalf("%d connections listen, want 2", len(deaf))
	}
	for _, row := range deaf {
		pid, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	}
	var slowest time.Duration
	for n := range 5 {
		begun := time.Now()
		g.AwaitRevision(c.Apply(twoParts(n))) // by the first replica
		slowest = max(slowest, time.Since(begun))
	}
	t.Logf("the slowest change took %v", slowest)
	if slowest < 50*time.Millisecond {
		t.Error("the notifications were heard: the test holds nothing")
	}
	if slowest > 2*time.Second {
		t.Errorf("a change took %v without its notification", slowest)
	}
	converges(t, c, g, 5*time.Second)
}

// TestReadersThatStopReadingSlowNobody opens streams that never read, and changes a large set again and again.
func TestReadersThatStopReadingSlowNobody(t *testing.T) {
	t.Parallel()
	readers, rounds, n := 20, 5, 500
	if harness.Full() {
		readers, rounds, n = 200, 20, 2000
	}
	c := harness.New(t, harness.Options{})
	upstream := harness.Nginx(t)
	c.Apply(manyRoutes(upstream, n, 0))
	g := c.StartGateway("default")
	converges(t, c, g, 20*time.Second)
	slowest := func(from int) (slowest time.Duration) {
		for round := from; round < from+rounds; round++ {
			begun := time.Now()
			g.AwaitRevision(c.Apply(manyRoutes(upstream, n, round)))
			slowest = max(slowest, time.Since(begun))
		}
		return slowest
	}
	alone := slowest(1)
	token := c.JoinToken("default", readers)
	for range readers {
		conn, _ := c.Dial(c.Join(token))
		c.OpenSilentStream(conn)
	}
	c.Replicas[0].AwaitMetric(t, "keyward_controlplane_connected_gateways", float64(readers+1))
	before := c.Replicas[0].Resident()
	beside := slowest(1 + rounds)
	grown := c.Replicas[0].Resident() - before
	t.Logf("the slowest change took %v alone, %v beside %d streams that do not read; the control plane grew by %d MiB", alone, beside, readers, grown>>20)
	if beside > 2*alone+time.Second {
		t.Errorf("a change took %v to a gateway that does read, %v without the others", beside, alone)
	}
	// The window of changes may fill meanwhile, and each connection has its buffers.
	if most := int64(128+2*readers) << 20; grown > most {
		t.Errorf("the control plane grew by %d MiB, more than %d", grown>>20, most>>20)
	}
	converges(t, c, g, 10*time.Second)
}

// TestAFullDiskCostsOnlyTheCache lets the gateway write no file as large as its cache.
func TestAFullDiskCostsOnlyTheCache(t *testing.T) {
	t.Parallel()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skipf("NOT RUN: %v (it is part of util-linux)", err)
	}
	const n = 300
	c := harness.New(t, harness.Options{})
	upstream := harness.Nginx(t)
	first := c.Apply(manyRoutes(upstream, n, 0))
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	g := c.StartGateway("default", "--identity-dir", filepath.Join(dir, "identity"), "--sealed-cache", cache)
	awaitKept(g, first)
	kept := copyOf(t, cache)
	limit := func(soft string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), prlimit, "--pid", fmt.Sprint(g.PID()), "--fsize="+soft+":").CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	limit(fmt.Sprint(len(kept) / 2))
	c.Apply(manyRoutes(upstream, n, 1))
	converges(t, c, g, 10*time.Second)
	g.AwaitMetric(t, "keyward_gateway_sealed_cache_write_errors_total", 1)
	testkit.Await(t, 10*time.Second, func() error {
		if s, err := g.State(); err != nil || !s.SealedCache.WriteFailed {
			return fmt.Errorf("status = %+v, %w; want it to say that the cache was not written", s.SealedCache, err)
		}
		return nil
	})
	if code, body := g.Get(t, "r0.test", "/round-1", "X-API-Key", changeKey(0)); code != http.StatusOK {
		t.Errorf("with a full disk: %d %s", code, body)
	}
	if string(copyOf(t, cache)) != string(kept) {
		t.Error("what was kept before is damaged")
	}
	limit("unlimited")
	awaitKept(g, c.Apply(manyRoutes(upstream, n, 2)))
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "config.") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}
