package resilience_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// kept is as few revisions as may be kept.
const kept = 256

// TestHistoryIsPrunedWhileReplicasAreKilled has either of two replicas killed while history is pruned, one of which did it.
// What is kept can still be shown and gone back to, what is not is said to be gone, and gateways notice nothing.
func TestHistoryIsPrunedWhileReplicasAreKilled(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{
		"--history-keep=" + strconv.Itoa(kept), "--history-max-age=1s", "--retention-interval=1s",
	}})
	head := c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	change := func(revisions int) {
		for range revisions {
			head = c.Apply(withConsumer(fmt.Sprintf("c%d", head%50), fmt.Sprintf("Key%dxV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq%d", head%50, 10000+head)))
		}
		g.AwaitRevision(head)
	}
	change(kept + 20)
	awaitOldest(t, c, head)
	for i, killed := range c.Replicas {
		killed.Kill()
		c.UseReplica(1 - i)
		change(30)
		serves(t, "with a replica killed", g)
		awaitOldest(t, c, head)
		killed.Start()
		killed.AwaitReady()
	}
	if out, ok := c.CheckDB(); !ok {
		t.Errorf("check-db: %s", out)
	}

	first := head - kept + 1
	c.MustCLI("", "revisions", "show", fmt.Sprint(first))
	if out := c.CLI("", "revisions", "show", fmt.Sprint(first-1)); out.Code == 0 || !strings.Contains(out.Stderr, fmt.Sprintf("the oldest revision that is kept is %d", first)) {
		t.Errorf("a revision that is gone: exit %d %s%s", out.Code, out.Stdout, out.Stderr)
	}
	then := head
	was := c.MustCLI("", "export")
	change(40)
	c.MustCLI("", "rollback", "--to", fmt.Sprint(then), "--credentials", "--yes")
	if is := c.MustCLI("", "export"); is != was {
		t.Errorf("the export is not the one of revision %d:\n%s\nbut\n%s", then, was, is)
	}
	head++
	g.AwaitRevision(head)
	awaitOldest(t, c, head)

	c.SQL(`delete from baseline_records where uid = (select min(uid) from baseline_records)`)
	if out, ok := c.CheckDB(); ok || !strings.Contains(out, "default: history") {
		t.Errorf("check-db with a hole in the baseline: ok = %t: %s", ok, out)
	}
	serves(t, "with a hole in the baseline", g)
}

// awaitOldest waits until no more than what must be is kept. Another replica may have to find out first that the one which
// put the job into the queue is gone.
func awaitOldest(t *testing.T, c *harness.Cluster, head int64) {
	t.Helper()
	testkit.Await(t, 60*time.Second, func() error {
		rows := c.Rows(`select min(revision), count(*) from changes`)
		if want := fmt.Sprint(head-kept+1, " ", kept); rows[0][0]+" "+rows[0][1] != want {
			return fmt.Errorf("oldest and number of changes: %v, want %s", rows[0], want)
		}
		return nil
	})
}
