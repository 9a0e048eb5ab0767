package resilience_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// racingRoute is the document's route under another path, which says who wrote it.
func racingRoute(path string) string {
	return fmt.Sprintf("group: default\nroutes: [{name: hello, service: hello, hosts: [hello.test], paths: [%q], policies: [{type: key-auth}]}]\n", path)
}

// TestTwoReplicasThatRaceForOneResourceMakeOneHistory changes the same route through two replicas at once. Every answered
// change is a revision of its own, and the last of them is what holds, everywhere.
func TestTwoReplicasThatRaceForOneResourceMakeOneHistory(t *testing.T) {
	t.Parallel()
	rounds := 20
	if harness.Full() {
		rounds = 300
	}
	c := harness.New(t, harness.Options{Replicas: 2})
	first := c.Apply(baseDocument(t))
	gateways := make([]*harness.Gateway, len(c.Replicas))
	for i, r := range c.Replicas {
		gateways[i] = c.NewGatewayFrom(r.Sync, "default")
		gateways[i].Start()
		gateways[i].AwaitReady()
	}
	var mu sync.Mutex
	paths := map[int64]string{} // by revision
	var wg sync.WaitGroup
	for i, r := range c.Replicas {
		wg.Go(func() {
			for n := range rounds {
				path := fmt.Sprintf("/replica-%d-%d", i, n)
				revision, err := c.TryApply(t.Context(), r, "default", racingRoute(path))
				if err != nil {
					t.Errorf("%s: %v", path, err)
					continue
				}
				mu.Lock()
				if other, taken := paths[revision]; taken {
					t.Errorf("revision %d is %s and %s", revision, other, path)
				}
				paths[revision] = path
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	last := first + int64(2*rounds)
	for _, g := range gateways {
		converges(t, c, g, 10*time.Second)
		if s, err := g.State(); err != nil || s.Revision != last {
			t.Errorf("%s is at %d, %v; want %d", g.HTTP, s.Revision, err, last)
		}
		for revision, path := range paths {
			want := http.StatusNotFound
			if revision == last {
				want = http.StatusOK
			}
			if code, body := g.Get(t, "hello.test", path, "X-API-Key", loadKey); code != want {
				t.Errorf("%s of revision %d on %s: %d %s, want %d", path, revision, g.HTTP, code, body, want)
			}
		}
	}
	healthy(t, c)
}

// TestMigrationUnderTraffic migrates again and again while changes are made, and then brings in a newer schema with which
// this program still works, and one with which it does not.
func TestMigrationUnderTraffic(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	w := startWriter(c, 0)
	for range 3 {
		c.Migrate()
		serves(t, "while the database is migrated", g)
	}
	// One at a time: together they can deadlock with a change, after which migrate would begin again and c.SQL does not.
	c.SQL(`alter table resources add column newer text`)
	c.SQL(`alter table changes add column newer text default 'x'`)
	c.SQL(`update schema_version set version = version + 1`)
	for _, r := range c.Replicas {
		c.Restart(r)
		r.AwaitReady()
	}
	at(t.Context(), 200*time.Millisecond)
	acked := w.end()
	if len(acked) < 10 {
		t.Errorf("only %d changes were acknowledged", len(acked))
	}
	holds(t, c, g, acked)
	healthy(t, c)

	c.SQL(`update schema_version set min_compatible = version`)
	r := c.Replicas[0]
	c.Restart(r)
	r.AwaitOutput(10*time.Second, "database schema does not fit this program")
	if why, err := r.NotReady(); err != nil {
		t.Errorf("it is ready on a schema that is too new (%s)", why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.TryApply(ctx, c.Replicas[1], "default", twoParts(1_000_001)); err != nil {
		t.Errorf("a replica that ran before: %v", err)
	}
	converges(t, c, g, 20*time.Second)
	serves(t, "with one replica left", g)
}
