package resilience_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

// startLoad sends requests to gateways until what it returns is called, which holds that none of them failed.
func startLoad(t *testing.T, rate int, gateways ...*harness.Gateway) (stop func()) {
	t.Helper()
	var addrs []string
	for _, g := range gateways {
		addrs = append(addrs, g.HTTP)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var result load.Result
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: load.NewTargets(addrs...), Rate: rate, Connections: 16, Timeout: 10 * time.Second,
			Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\nX-API-Key: " + loadKey + "\r\n\r\n"),
		})
	})
	return func() {
		t.Helper()
		cancel()
		wg.Wait()
		t.Logf("%d requests, p99 %v", result.Sent, result.P99)
		if result.Failed > 0 || result.OK != result.Sent || result.Sent == 0 {
			t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
		}
	}
}

// tokenID is the id of the admin token of a name.
func tokenID(t *testing.T, c *harness.Cluster, name string) string {
	t.Helper()
	rows := c.Rows(`select id from admin_tokens where name = '` + name + `'`)
	if len(rows) != 1 {
		t.Fatalf("%d tokens of the name %s", len(rows), name)
	}
	return rows[0][0]
}

// TestALostDatabaseComesBackElsewhere is the drill: a backup is made while changes go on, more happens, the database is
// destroyed, and restored on another server. One replica runs all along, the other one starts afterwards.
func TestALostDatabaseComesBackElsewhere(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2, DatabaseLink: true})
	c.Apply(baseDocument(t))
	first := c.StartGateway("default", "--client-idle-timeout", "1h")
	stop := startLoad(t, 200, first)
	_, recipient := c.RecoveryKey()
	c.AdminToken("leaked", "default", "viewer")

	w := startWriter(c, 0)
	at(t.Context(), 500*time.Millisecond)
	before := c.Apply(twoParts(1_000_000)) // is acknowledged before the backup begins
	file, said := c.BackupWhole(recipient)
	if !strings.Contains(said, "default: revision ") {
		t.Errorf("backup said\n%s", said)
	}
	at(t.Context(), 500*time.Millisecond)
	w.end()
	// What the backup does not have: changes, a term of the keyring, a gateway, a deleted token.
	c.MustCLI("", "keyring", "rotate", "--wait")
	c.MustCLI("", "token", "delete", tokenID(t, c, "leaked"))
	second := c.StartGateway("default")
	lost := c.Apply(twoParts(1_000_001))
	for _, g := range []*harness.Gateway{first, second} {
		g.AwaitRevision(lost)
	}
	was := headOf(c)
	stays, goes := c.Replicas[0], c.Replicas[1]
	c.UseReplica(0)

	c.LoseDatabase()
	goes.Kill()
	out := c.RestoreWhole(file)
	if out.Code != 0 || !strings.Contains(out.Stdout, `"leaked"`) || !strings.Contains(out.Stdout, "in a new epoch") {
		t.Fatalf("restore: exit %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	stays.AwaitOutput(30*time.Second, "beginning anew with what it holds now")
	stays.AwaitReady()
	goes.Start()
	goes.AwaitReady()

	now := headOf(c)
	if revision, err := strconv.ParseInt(now.revision, 10, 64); err != nil || now.epoch == was.epoch || revision < before || revision >= lost {
		t.Errorf("the database is at %+v, was %+v; want another epoch at a revision from %d to %d", now, was, before, lost)
	}
	for _, g := range []*harness.Gateway{first, second} {
		converges(t, c, g, 30*time.Second)
		g.AwaitMetric(t, "keyward_gateway_config_epoch_changes_total", 1)
		g.AwaitOutput(time.Second, "its history begins anew")
		serves(t, "after the restore", g)
		if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(1_000_000)); code != http.StatusOK {
			t.Errorf("a key from before the backup: %d", code)
		}
		if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(1_000_001)); code != http.StatusUnauthorized {
			t.Errorf("a key that was lost: %d, want 401", code)
		}
	}
	healthy(t, c)
	// The gateway that enrolled after the backup is known again; writes go on.
	testkit.Await(t, 20*time.Second, func() error {
		list := c.Gateways("default")
		if len(list) != 2 || !slices.ContainsFunc(list, func(g harness.GatewayInfo) bool { return g.Attestor == "certificate" }) {
			return fmt.Errorf("gateways are %+v", list)
		}
		return nil
	})
	awaitWrites(t, c, 1_000_002)
	for _, g := range []*harness.Gateway{first, second} {
		converges(t, c, g, 20*time.Second)
	}
	if events := c.MustCLI("", "audit", "list"); !strings.Contains(events, "group.restore") || !strings.Contains(events, "gateway.adopt") {
		t.Errorf("the audit trail does not say so:\n%s", events)
	}
	c.MustCLI("", "keyring", "rotate", "--wait")
	healthy(t, c)
	stop()
}

// TestALostDatabaseAndALostKeyComeBackByTheRecoveryKey has neither the database nor the key-encryption key.
func TestALostDatabaseAndALostKeyComeBackByTheRecoveryKey(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{DatabaseLink: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	identity, recipient := c.RecoveryKey()
	file, _ := c.BackupWhole(recipient)
	r := c.Replicas[0]
	r.Kill()
	c.LoseDatabase()
	c.LoseKEK()
	if out := c.RestoreWhole(file); out.Code != 3 || !strings.Contains(out.Stderr, "or recovery key") {
		t.Errorf("restore without any of its keys: exit %d %s", out.Code, out.Stderr)
	}
	if n := c.Rows(`select count(*) from pg_tables where schemaname = 'public'`)[0][0]; n != "0" {
		t.Errorf("a restore that was refused made %s tables", n)
	}
	if out := c.RestoreWhole(file, "--identity", identity); out.Code != 0 || !strings.Contains(out.Stdout, "under the key-encryption key of now") {
		t.Fatalf("restore with the recovery key: exit %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	serves(t, "while nobody is there", g)
	c.Restart(r)
	r.AwaitReady()
	converges(t, c, g, 30*time.Second)
	awaitWrites(t, c, 1)
	converges(t, c, g, 20*time.Second)
	healthy(t, c)
}

// TestARestoreThatIsKilledLeavesTheDatabaseEmptyOrWhole kills it at each step, and lets the database go on.
func TestARestoreThatIsKilledLeavesTheDatabaseEmptyOrWhole(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{DatabaseLink: true})
	c.Apply(baseDocument(t))
	_, recipient := c.RecoveryKey()
	file, _ := c.BackupWhole(recipient)
	kept := headOf(c)
	c.Replicas[0].Kill()
	c.LoseDatabase()
	c.Migrate()
	c.SQL(waiting)
	for _, step := range []struct {
		name, table, sql string
		whole            bool
	}{
		{"tables", "groups", `create trigger held before insert on groups for each row execute function wait()`, false},
		{"the last table", "certificate_authorities", `create trigger held before insert on certificate_authorities for each row execute function wait()`, false},
		{"new epochs", "heads", `create trigger held before update on heads for each row execute function wait()`, false},
		{"wakeups", "wakeups", `create trigger held before update on wakeups for each row execute function wait()`, false},
		{"commit", "groups", `create constraint trigger held after insert on groups deferrable initially deferred for each row execute function wait()`, true},
	} {
		t.Run(step.name, func(t *testing.T) {
			c.SQL(step.sql)
			c.SQL(`insert into held default values`)
			p := c.StartRestoreWhole(file)
			awaitBackends(t, c, 1, `wait_event = 'PgSleep'`)
			p.Kill()
			c.SQL(`delete from held`)
			awaitBackends(t, c, 0, `application_name = 'keyward'`)
			c.SQL(`drop trigger held on ` + step.table)
			if groups := c.Rows(`select count(*) from groups`)[0][0]; (groups != "0") != step.whole {
				t.Errorf("%s groups are there, want all: %v", groups, step.whole)
			}
			for _, table := range []string{"heads", "keyrings", "resources", "audit", "admin_tokens"} {
				if n := c.Rows(`select count(*) from ` + table)[0][0]; (n != "0") != step.whole {
					t.Errorf("%s has %s rows, want all: %v", table, n, step.whole)
				}
			}
		})
	}
	if out := c.RestoreWhole(file); out.Code != 4 {
		t.Errorf("a restore into what is whole: exit %d %s", out.Code, out.Stderr)
	}
	if now := headOf(c); now.epoch == kept.epoch || now.revision != kept.revision {
		t.Errorf("the database is at %+v, was %+v", now, kept)
	}
	healthy(t, c)
	c.Replicas[0].Start()
	c.Replicas[0].AwaitReady()
	awaitWrites(t, c, 1)
}

// TestARestoreUnderRunningReplicas replaces the database while requests and changes go on, after files that are not whole were
// refused. No replica is restarted.
func TestARestoreUnderRunningReplicas(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default", "--client-idle-timeout", "1h")
	stop := startLoad(t, 200, g)
	fill(c, 300)
	_, recipient := c.RecoveryKey()
	file, _ := c.BackupWhole(recipient)
	awaitWrites(t, c, 1)
	converges(t, c, g, 20*time.Second)
	was := headOf(c)

	for name, bend := range map[string]func([]byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut off":       func(b []byte) []byte { return b[:len(b)-1] },
	} {
		if out := c.RestoreWhole(bent(t, file, bend), "--replace"); out.Code != 3 {
			t.Errorf("%s: exit %d %s", name, out.Code, out.Stderr)
		}
	}
	if out := c.RestoreWhole(file); out.Code != 4 || !strings.Contains(out.Stderr, "--replace") {
		t.Errorf("into a database that is not empty: exit %d %s", out.Code, out.Stderr)
	}
	kek := c.LoseKEK()
	if out := c.RestoreWhole(file, "--replace"); out.Code != 3 {
		t.Errorf("with another key-encryption key: exit %d %s", out.Code, out.Stderr)
	}
	c.SetKEK(kek...)
	if now := headOf(c); now != was {
		t.Fatalf("restores that were refused moved the group from %+v to %+v", was, now)
	}

	// What comes back has an older keyring than replicas know, who are in the middle of putting everything under the newest term.
	c.SQL(fmt.Sprintf(slowRewrap, 0.005))
	left := under(t, c)
	w := startWriter(c, 10)
	c.MustCLI("", "keyring", "rotate")
	testkit.Await(t, 20*time.Second, func() error {
		if n := under(t, c); n >= left {
			return fmt.Errorf("%d are under the first term, before it was %d", n, left)
		}
		return nil
	})
	out := c.RestoreWhole(file, "--replace", "--output", "json")
	if out.Code != 0 || !strings.Contains(out.Stdout, `"new_epoch"`) {
		t.Fatalf("restore: exit %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	for _, r := range c.Replicas {
		r.AwaitOutput(30*time.Second, "beginning anew with what it holds now")
		r.AwaitReady()
	}
	awaitWrites(t, c, 1_000_000)
	w.end()
	converges(t, c, g, 30*time.Second)
	serves(t, "after the restore", g)
	stop()
	healthy(t, c)
	for _, r := range c.Replicas {
		if n := bytes.Count(r.Output(), []byte("beginning anew")); n != 1 {
			t.Errorf("a replica began anew %d times", n)
		}
	}
}

// bent is a copy of a file that something was done to.
func bent(t *testing.T, file string, bend func([]byte) []byte) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bent")
	if err := os.WriteFile(path, bend(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
