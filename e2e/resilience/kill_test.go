package resilience_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// twoParts is a change of two resources, which have to come and stay away together.
func twoParts(n int) string { return withConsumer(fmt.Sprintf("c%d", n), changeKey(n)) }

func changeKey(n int) string { return fmt.Sprintf("Chg%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", n) }

// parts counts how many of the two resources of a change there are, as of what the database has now: the replica that is asked
// may not have heard of it yet. A change that is committed between the two questions is asked for again.
func parts(t *testing.T, c *harness.Cluster, n int) int {
	t.Helper()
	found := partsNow(t, c, n)
	if found == 1 {
		found = partsNow(t, c, n)
	}
	return found
}

func partsNow(t *testing.T, c *harness.Cluster, n int) (found int) {
	t.Helper()
	revision := headOf(c).revision
	for _, path := range []string{"consumers/c%d", "consumers/c%d/credentials/k"} {
		a := c.REST(http.MethodGet, "/v1/groups/default/"+fmt.Sprintf(path, n)+"?min_revision="+revision, "")
		switch a.Status {
		case http.StatusOK:
			found++
		case http.StatusNotFound:
		default:
			t.Fatalf("GET %s: %d %s", path, a.Status, a.Body)
		}
	}
	return found
}

// head is where the database says that a group stands.
type head struct {
	epoch, revision, digest string
}

func headOf(c *harness.Cluster) head {
	c.T.Helper()
	rows := c.Rows(`select h.epoch, h.revision, encode(h.digest, 'hex') from heads h join groups g on g.uid = h.group_uid where g.name = 'default'`)
	return head{rows[0][0], rows[0][1], rows[0][2]}
}

// converges waits until a gateway has exactly what the database has, by digest.
func converges(t *testing.T, c *harness.Cluster, g *harness.Gateway, within time.Duration) {
	t.Helper()
	testkit.Await(t, within, func() error {
		s, err := g.State()
		if err != nil {
			return err
		}
		if got, want := (head{fmt.Sprint(s.Epoch), fmt.Sprint(s.Revision), s.Digest}), headOf(c); got != want {
			return fmt.Errorf("the gateway is at %+v, the database at %+v", got, want)
		}
		return nil
	})
}

// healthy holds that everything stored verifies: rows, history, audit chain.
func healthy(t *testing.T, c *harness.Cluster) {
	t.Helper()
	if out, ok := c.CheckDB(); !ok {
		t.Errorf("check-db: %s", out)
	}
}

// hops are the moments on the way of a change at which the control plane is killed. Before the commit there is nothing of
// it, from the commit on all.
var hops = []struct {
	name string
	// sql makes the database wait there for as long as there is a row in held.
	sql    string
	stored bool
}{
	{"rows", `create trigger held before insert on resources for each row execute function wait()`, false},
	{"change body", `create trigger held before insert on changes for each row execute function wait()`, false},
	{"audit row", `create trigger held before insert on audit for each row execute function wait()`, false},
	{"head", `create trigger held before update on heads for each row execute function wait()`, false},
	{"commit", `create constraint trigger held after insert on changes deferrable initially deferred for each row execute function wait()`, true},
}

const waiting = `
create table held ();
create function wait() returns trigger language plpgsql security definer as $$
begin
    while exists (select from public.held) loop perform pg_sleep(0.005); end loop;
    return new;
end $$`

const holdHeads = `
do $$ begin
    perform 1 from heads for update;
    while exists (select from held) loop perform pg_sleep(0.005); end loop;
end $$`

// TestControlPlaneKilledAtEveryHopLeavesAllOrNothing holds a change at each hop, kills the control plane there, and lets
// the database go on.
func TestControlPlaneKilledAtEveryHopLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	c.SQL(waiting)
	for i, hop := range hops {
		t.Run(hop.name, func(t *testing.T) {
			table := strings.Fields(hop.sql[strings.Index(hop.sql, " on ")+4:])[0]
			c.SQL(hop.sql)
			c.SQL(`insert into held default values`)
			answered := tryInBackground(c, i)
			awaitBackends(t, c, 1, `wait_event = 'PgSleep'`)
			killAndLetGo(t, c, answered, func() {
				c.SQL(`delete from held`)
				c.SQL(fmt.Sprintf(`drop trigger held on %s`, table))
			})
			wantParts(t, c, i, hop.stored)
			sameAgain(t, c, i)
			converges(t, c, g, 10*time.Second)
		})
	}
	t.Run("lock of the head", func(t *testing.T) {
		// Somebody else writes for a long time.
		c.SQL(`insert into held default values`)
		locked := make(chan error, 1)
		go func() { locked <- c.PG.Exec(context.WithoutCancel(t.Context()), "keyward", holdHeads) }()
		awaitBackends(t, c, 1, `wait_event = 'PgSleep'`)
		answered := tryInBackground(c, 100)
		awaitBackends(t, c, 1, `wait_event_type = 'Lock' and query ilike '%for update%'`)
		killAndLetGo(t, c, answered, func() {
			c.SQL(`delete from held`)
			if err := <-locked; err != nil {
				t.Fatal(err)
			}
		})
		wantParts(t, c, 100, false)
		sameAgain(t, c, 100)
		converges(t, c, g, 10*time.Second)
	})
	healthy(t, c)
}

// tryInBackground sends a change that will not be answered.
func tryInBackground(c *harness.Cluster, n int) <-chan error {
	answered := make(chan error, 1)
	go func() {
		_, err := c.TryApply(c.T.Context(), c.Replicas[0], "default", twoParts(n))
		answered <- err
	}()
	return answered
}

// awaitBackends waits until so many connections of the control plane do what the condition says.
func awaitBackends(t *testing.T, c *harness.Cluster, n int, condition string) {
	t.Helper()
	testkit.Await(t, 10*time.Second, func() error {
		rows := c.Rows(`select query from pg_stat_activity where datname = 'keyward' and ` + condition)
		if len(rows) != n {
			return fmt.Errorf("%d connections with %s, want %d: %v", len(rows), condition, n, rows)
		}
		return nil
	})
}

// killAndLetGo kills the replica, lets the database go on, waits until nothing of the replica is left in it, and starts the
// replica again.
func killAndLetGo(t *testing.T, c *harness.Cluster, answered <-chan error, release func()) {
	t.Helper()
	r := c.Replicas[0]
	r.Kill()
	if err := <-answered; err == nil {
		t.Error("the change was answered, although it was held")
	}
	release()
	awaitBackends(t, c, 0, `usename = 'keyward_runtime'`)
	r.Start()
	r.AwaitReady()
}

func wantParts(t *testing.T, c *harness.Cluster, n int, stored bool) {
	t.Helper()
	want := 0
	if stored {
		want = 2
	}
	if got := parts(t, c, n); got != want {
		t.Errorf("%d of 2 resources of the change are there, want %d", got, want)
	}
}

// sameAgain makes a change as whoever got no answer does, twice: only what is not there yet makes a revision.
func sameAgain(t *testing.T, c *harness.Cluster, n int) {
	t.Helper()
	was := parts(t, c, n) > 0
	before := headOf(c)
	c.MustCLI(twoParts(n), "apply", "-f", "-")
	after := headOf(c)
	if was != (before == after) || parts(t, c, n) != 2 {
		t.Errorf("was there: %t, then from %+v to %+v", was, before, after)
	}
	c.MustCLI(twoParts(n), "apply", "-f", "-")
	if again := headOf(c); again != after {
		t.Errorf("the same once more: from %+v to %+v", after, again)
	}
}

// TestAnAnswerLostOnTheWayFromTheDatabase cuts the connection between the commit and its answer. The change is there, and
// the replica does not take it for lost.
func TestAnAnswerLostOnTheWayFromTheDatabase(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{DatabaseLink: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	c.SQL(waiting)
	c.SQL(hops[4].sql) // held in the commit
	c.SQL(`insert into held default values`)
	answered := tryInBackground(c, 1)
	awaitBackends(t, c, 1, `wait_event = 'PgSleep'`)
	c.Database.StallAnswers()
	c.SQL(`delete from held`)
	testkit.Await(t, 10*time.Second, func() error {
		if len(c.Rows(`select 1 from resources where name = 'c1'`)) != 1 {
			return fmt.Errorf("the change was not committed")
		}
		return nil
	})
	c.Database.Cut()
	c.Database.Heal()
	if err := <-answered; err == nil {
		t.Error("the change was answered, although the answer of the database was lost")
	}
	testkit.Await(t, 20*time.Second, func() error {
		if a := c.REST(http.MethodGet, "/v1/groups/default/consumers/c1", ""); a.Status != http.StatusOK {
			return fmt.Errorf("GET: %d %s", a.Status, a.Body)
		}
		return nil
	})
	wantParts(t, c, 1, true)
	converges(t, c, g, 10*time.Second)
	c.SQL(`drop trigger held on changes`)
	sameAgain(t, c, 1)
	healthy(t, c)
}

// TestControlPlaneKilledAtRandomMomentsLosesNothing kills one of two replicas again and again while changes are made.
func TestControlPlaneKilledAtRandomMomentsLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 8
	if harness.Full() {
		rounds = 150
	}
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	gateways := []*harness.Gateway{c.StartGateway("default"), c.StartGateway("default")}
	unanswered := 0
	for n := range rounds {
		r := c.Replicas[n%2]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		answered := make(chan error, 1)
		go func() {
			_, err := c.TryApply(ctx, r, "default", twoParts(n))
			answered <- err
		}()
		<-time.After(rand.N(25 * time.Millisecond))
		r.Kill()
		err := <-answered
		cancel()
		c.UseReplica(1 - n%2)
		// The database may not have noticed yet that nobody is there any more.
		if got := parts(t, c, n); got == 1 || err == nil && got != 2 {
			t.Errorf("change %d: %d of 2 resources, answered: %v", n, got, err)
		}
		if err != nil {
			unanswered++
		}
		c.MustCLI(twoParts(n), "apply", "-f", "-")
		r.Start()
		r.AwaitReady()
	}
	t.Logf("%d of %d changes were not answered", unanswered, rounds)
	for _, g := range gateways {
		converges(t, c, g, 20*time.Second)
		for n := range rounds {
			if code, body := g.Get(t, "hello.test", "/", "X-API-Key", changeKey(n)); code != http.StatusOK {
				t.Errorf("change %d on %s: %d %s", n, g.HTTP, code, body)
			}
		}
	}
	healthy(t, c)
}
