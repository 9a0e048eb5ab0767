package resilience_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

// slowRewrap makes rewrapping take long enough to be interrupted: a write of a resource has another revision each time.
const slowRewrap = `
create function slow() returns trigger language plpgsql as $$
begin
    perform pg_sleep(%f);
    return new;
end $$;
create trigger slow before update on resources for each row when (new.revision = old.revision) execute function slow()`

// fill makes so many resources.
func fill(c *harness.Cluster, n int) {
	c.T.Helper()
	const part = 2000
	for from := 0; from < n; from += part {
		var doc strings.Builder
		doc.WriteString("group: default\nservices:\n")
		for i := from; i < min(n, from+part); i++ {
			fmt.Fprintf(&doc, "  - {name: s%d, url: \"http://10.0.0.1:%d\"}\n", i, 1+i%65000)
		}
		c.Apply(doc.String())
	}
}

// under counts the resources and changes that are under the first term.
func under(t *testing.T, c *harness.Cluster) int {
	t.Helper()
	const first = `substring(sealed from 2 for 4) = '\x00000001' and group_uid = (select uid from groups where name = 'default')`
	n, err := strconv.Atoi(c.Rows(`select (select count(*) from resources where ` + first + `) + (select count(*) from changes where ` + first + `)`)[0][0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAKeyringRotatesUnderTrafficWhileReplicasAreKilled rotates and rewraps while requests and changes go on, and kills a
// replica five times in the middle of it.
func TestAKeyringRotatesUnderTrafficWhileReplicasAreKilled(t *testing.T) {
	resources, rate, slow := 2000, 300, 0.003
	if os.Getenv("KEYWARD_FULL") != "" {
		resources, rate, slow = 50000, 200, 0.0005
	}
	c := harness.New(t, harness.Options{Replicas: 2})
	revision := c.Apply(fmt.Sprintf(rolloutDocument, harness.Nginx(t), loadKey))
	fill(c, resources)
	// The load rarely needs all of its connections, and takes one for broken that was closed for being idle.
	g := c.StartGateway("default", "--client-idle-timeout", "1h")
	g.AwaitRevision(revision)
	c.SQL(fmt.Sprintf(slowRewrap, slow))

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var result load.Result
	wg.Go(func() {
		result = load.Run(ctx, load.Config{
			Targets: load.NewTargets(g.HTTP), Rate: rate, Connections: 32, Timeout: 10 * time.Second,
			Request: []byte("GET /load HTTP/1.1\r\nHost: hello.test\r\nX-API-Key: " + loadKey + "\r\n\r\n"),
		})
	})
	acknowledged := &ledger{}
	wg.Go(func() { acknowledged.write(ctx, t, c) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	defer stop()

	c.MustCLI("", "keyring", "rotate")
	left := under(t, c)
	for i := range 5 {
		testkit.Await(t, 60*time.Second, func() error {
			if n := under(t, c); n >= left-resources/50 {
				return fmt.Errorf("%d are under the first term, before it was %d", n, left)
			}
			return nil
		})
		r := c.Replicas[i%2]
		r.Kill()
		if left = under(t, c); left == 0 {
			t.Errorf("kill %d came after the end of rewrapping", i)
		}
		if out := c.CLI("", "keyring", "remove", "1"); left > 0 && (out.Code != 4 || !strings.Contains(out.Stderr, "ciphertext is left under the term")) {
			t.Errorf("removing a term with ciphertext: exit %d %s", out.Code, out.Stderr)
		}
		r.Start()
		r.AwaitReady()
	}
	c.MustCLI("", "keyring", "rewrap", "--wait", "--timeout", "5m")
	if n := under(t, c); n > 0 {
		t.Errorf("%d are still under the first term", n)
	}
	out := c.MustCLI("", "keyring", "remove", "1")
	if !strings.Contains(out, "verify-only") {
		t.Errorf("after removing: %s", out)
	}
	stop()

	t.Logf("%d requests, p99 %v, %d changes acknowledged", result.Sent, result.P99, len(acknowledged.keys))
	if result.Failed > 0 || result.OK != result.Sent || result.Sent == 0 {
		t.Errorf("%d of %d requests failed, the first: %q", result.Sent-result.OK, result.Sent, result.Failures)
	}
	if len(acknowledged.keys) == 0 {
		t.Error("no change was acknowledged")
	}
	converges(t, c, g, 20*time.Second)
	// Nobody writes any more: what is sealed anew makes no revision.
	c.SQL(`drop trigger slow on resources`)
	before := headOf(c)
	c.MustCLI("", "keyring", "rotate", "--wait", "--timeout", "5m")
	if after := headOf(c); after != before {
		t.Errorf("rotating moved the group from %+v to %+v", before, after)
	}
	healthy(t, c)
	// A process that never had the removed term reads everything, the history included.
	c.Restart(c.Replicas[0])
	c.Replicas[0].AwaitReady()
	c.UseReplica(0)
	c.MustCLI("", "revisions", "show", fmt.Sprint(revision))
	serves(t, "at the end", g)
}

// TestKeyringsComeBackWhenTheirKeyIsLost is the drill: the key-encryption key is gone, there is a backup and a recovery key.
func TestKeyringsComeBackWhenTheirKeyIsLost(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	r := c.Replicas[0]
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	c.CreateGroup("other")
	c.MustCLI("", "keyring", "rotate", "--wait")
	identity, recipient := c.RecoveryKey()
	backup := c.BackupKeyrings(recipient)

	r.Kill()
	was := c.LoseKEK()
	if out, ok := c.CheckDB(); ok {
		t.Errorf("another key opens everything: %s", out)
	}
	c.Restart(r)
	r.AwaitOutput(30*time.Second, "is wrapped by key-encryption key")
	if why, err := r.NotReady(); err != nil || !strings.Contains(why, "waiting for a key") {
		t.Errorf("with another key-encryption key: not ready because %q, %v", why, err)
	}
	serves(t, "while nobody has the key", g)

	said := c.RestoreKeyrings(identity, backup)
	for _, want := range []string{"system: version 1 is restored", "default: version 2 is restored", "other: version 1 is restored"} {
		if !strings.Contains(said, want) {
			t.Errorf("restore did not say %q:\n%s", want, said)
		}
	}
	r.AwaitReady() // which has waited for this
	healthy(t, c)
	if out, ok := c.CheckDBWith(was...); ok {
		t.Errorf("the lost key still opens everything: %s", out)
	}
	serves(t, "after the restore", g)
	const key = "After7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"
	g.AwaitRevision(c.Apply(withConsumer("after", key)))
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != 200 {
		t.Errorf("a change after the restore: %d %s", code, body)
	}
	converges(t, c, g, 10*time.Second)
	c.StartGateway("other").AwaitReady()
}
