package resilience_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// writer makes changes one after the other until it is stopped, and keeps which were acknowledged.
type writer struct {
	stop  context.CancelFunc
	ended chan struct{}
	acked []int
}

// startWriter begins with change number from. No change waits for longer than a few seconds.
func startWriter(c *harness.Cluster, from int) *writer {
	ctx, cancel := context.WithCancel(c.T.Context())
	w := &writer{stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		for n := from; ctx.Err() == nil; n++ {
			one, done := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
			if _, err := c.TryApply(one, c.Replicas[n%len(c.Replicas)], "default", twoParts(n)); err == nil {
				w.acked = append(w.acked, n)
			} else {
				at(ctx, 20*time.Millisecond)
			}
			done()
		}
	}()
	return w
}

// end stops the writer and returns what was acknowledged.
func (w *writer) end() []int {
	w.stop()
	<-w.ended
	return w.acked
}

// awaitWrites waits until changes are possible.
func awaitWrites(t *testing.T, c *harness.Cluster, n int) {
	t.Helper()
	testkit.Await(t, 20*time.Second, func() error {
		for _, r := range c.Replicas {
			if _, err := c.TryApply(t.Context(), r, "default", twoParts(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

// holds waits until the gateway has what the database has, and holds that every acknowledged change is part of it.
func holds(t *testing.T, c *harness.Cluster, g *harness.Gateway, acked []int) {
	t.Helper()
	converges(t, c, g, 20*time.Second)
	for _, n := range acked {
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(n)); code != http.StatusOK {
			t.Errorf("acknowledged change %d: %d %s", n, code, body)
		}
	}
}

// TestDatabaseCrashesUnderTrafficLoseNothing ends the database as a crash does, again and again, while changes are made.
func TestDatabaseCrashesUnderTrafficLoseNothing(t *testing.T) {
	t.Parallel()
	crashes := 3
	if harness.Full() {
		crashes = 30
	}
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	w := startWriter(c, 0)
	for range crashes {
		at(t.Context(), 400*time.Millisecond)
		c.StopDatabase()
		serves(t, "without a database", g)
		c.StartDatabase()
		awaitWrites(t, c, 1_000_000)
	}
	acked := w.end()
	t.Logf("%d changes acknowledged", len(acked))
	if len(acked) < crashes {
		t.Errorf("only %d changes were acknowledged", len(acked))
	}
	holds(t, c, g, acked)
	healthy(t, c)
}

// TestASynchronousFailoverLosesNothing promotes the standby in the middle of commits.
func TestASynchronousFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2, DatabaseLink: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	standby := c.Backup().StartStandby(true)
	awaitWrites(t, c, 1_000_000)
	w := startWriter(c, 0)
	at(t.Context(), time.Second)
	standby.Promote()
	awaitWrites(t, c, 1_000_001)
	acked := w.end()
	t.Logf("%d changes acknowledged", len(acked))
	holds(t, c, g, acked)
	if out := c.Restore(); !strings.Contains(out, "nothing to do") {
		t.Errorf("restore after a fail-over that lost nothing: %s", out)
	}
	healthy(t, c)
}

// TestAFailoverThatLosesChangesIsReportedAndRestored promotes a standby that has not received the last changes, under
// replicas and a gateway that have seen them.
func TestAFailoverThatLosesChangesIsReportedAndRestored(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2, DatabaseLink: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	standby := c.Backup().StartStandby(false)
	awaitWrites(t, c, 0)
	converges(t, c, g, 10*time.Second)
	standby.AwaitReceived()
	kept := headOf(c)
	standby.Detach()
	lost := c.Apply(twoParts(1))
	g.AwaitRevision(lost)
	for _, r := range c.Replicas {
		r.AwaitMetric(t, `keyward_controlplane_group_revision{group="default"}`, float64(lost))
	}
	standby.Promote()

	for _, r := range c.Replicas {
		r.AwaitOutput(10*time.Second, "the database was rewound")
		r.AwaitMetric(t, `keyward_controlplane_group_rewound{group="default"}`, 1)
	}
	testkit.Await(t, 10*time.Second, func() error {
		a := c.REST(http.MethodPost, "/v1/groups/default:apply", twoParts(2))
		if a.Status != http.StatusServiceUnavailable {
			return fmt.Errorf("a write on the rewound database: %d %s", a.Status, a.Body)
		}
		return nil
	})
	awaitState(t, c, "lagging")
	if s, err := g.State(); err != nil || s.Revision != lost {
		t.Errorf("the gateway is at %d, %v; want %d", s.Revision, err, lost)
	}
	restored(t, c, g, kept, lost)
	for _, r := range c.Replicas {
		r.AwaitMetric(t, `keyward_controlplane_group_rewound{group="default"}`, 0)
	}
}

// restored runs restore, and holds that everybody takes the revision of the database for the truth, in a new epoch.
func restored(t *testing.T, c *harness.Cluster, g *harness.Gateway, kept head, lost int64) {
	t.Helper()
	var out string
	testkit.Await(t, 30*time.Second, func() error { // until the gateway's revision was reported
		if out = c.Restore(); strings.Contains(out, "nothing to do") {
			return fmt.Errorf("restore says %s", out)
		}
		return nil
	})
	if !strings.Contains(out, "up to revision "+strconv.FormatInt(lost, 10)) {
		t.Errorf("restore says %q, want that revision %d was lost", out, lost)
	}
	converges(t, c, g, 20*time.Second)
	now := headOf(c)
	if now.epoch == kept.epoch || now.revision != kept.revision || now.digest != kept.digest {
		t.Errorf("the database is at %+v, was %+v; want another epoch", now, kept)
	}
	serves(t, "after the restore", g)
	if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(1)); code != http.StatusUnauthorized {
		t.Errorf("a key that was lost: %d, want 401", code)
	}
	if again := c.Restore(); !strings.Contains(again, "nothing to do") {
		t.Errorf("restore, once more: %s", again)
	}
	awaitState(t, c, "online")
	awaitWrites(t, c, 3)
	converges(t, c, g, 10*time.Second)
	healthy(t, c)
	if events := c.MustCLI("", "audit", "list"); !strings.Contains(events, "group.restore") {
		t.Errorf("the audit trail does not say so:\n%s", events)
	}
}

func awaitState(t *testing.T, c *harness.Cluster, state string) {
	t.Helper()
	testkit.Await(t, 30*time.Second, func() error {
		out := c.CLI("", "gateways", "list")
		if !strings.Contains(out.Stdout, state) {
			return fmt.Errorf("gateways list, want %s:\n%s%s", state, out.Stdout, out.Stderr)
		}
		return nil
	})
}

// TestARestoredBackupBecomesTheTruth restores a backup and starts the control plane anew, so that only the gateway, from its
// sealed cache even, knows what was lost.
func TestARestoredBackupBecomesTheTruth(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	awaitWrites(t, c, 0)
	backup := c.Backup()
	kept := headOf(c)
	awaitWrites(t, c, 2)
	lost := c.Apply(twoParts(1))
	g.AwaitRevision(lost)
	r := c.Replicas[0]
	r.Kill()
	backup.Restore()
	r.Start()
	r.AwaitReady()
	r.AwaitOutput(30*time.Second, "a gateway has a later revision than this replica")
	r.AwaitMetric(t, `keyward_controlplane_gateways_ahead_total{group="default"}`, 1)
	if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(1)); code != http.StatusOK {
		t.Errorf("the gateway went back by itself: %d", code)
	}
	restored(t, c, g, kept, lost)
}
