package resilience_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
)

// TestWhateverHappensAGatewayHasWhatTheDatabaseHadAtItsRevision makes random changes while connections, replicas and
// gateways break at random. Whatever a gateway ever enforces is, by digest, what the database held at that revision, and in
// the end all have the last one.
func TestWhateverHappensAGatewayHasWhatTheDatabaseHadAtItsRevision(t *testing.T) {
	t.Parallel()
	seed, duration := rand.Uint64(), 8*time.Second
	if harness.Full() {
		duration = 5 * time.Minute
	}
	t.Logf("seed %d", seed)
	c := harness.New(t, harness.Options{Replicas: 2})
	w := &chaos{t: t, c: c, committed: map[string]string{}}
	c.Apply(baseDocument(t))
	w.commit()
	var addrs []string
	for _, r := range c.Replicas {
		link := harness.NewLink(t, r.Sync)
		w.links, addrs = append(w.links, link), append(addrs, link.Addr)
	}
	for range 2 {
		dir := t.TempDir()
		g := c.NewGatewayFrom(strings.Join(addrs, ","), "default", "--identity-dir", filepath.Join(dir, "identity"), "--sealed-cache", filepath.Join(dir, "cache"))
		g.Start()
		g.AwaitReady()
		w.gateways = append(w.gateways, g)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { w.change(ctx, rand.New(rand.NewPCG(seed, 1))) })
	wg.Go(func() { w.breakThings(ctx, rand.New(rand.NewPCG(seed, 2))) })
	seen := make([]map[string]string, len(w.gateways))
	for i, g := range w.gateways {
		wg.Go(func() { seen[i] = watch(ctx, g) })
	}
	wg.Wait()
	for _, replica := range c.Replicas {
		replica.AwaitReady()
	}

	fresh := c.StartGateway("default")
	for _, g := range append(w.gateways, fresh) {
		converges(t, c, g, 20*time.Second)
	}
	equalVerdicts(t, w.gateways[0], fresh)
	for i, states := range seen {
		t.Logf("gateway %d was seen at %d of %d revisions", i, len(states), len(w.committed))
		for at, digest := range states {
			if want, ok := w.committed[at]; !ok || digest != want {
				t.Errorf("gateway %d at %s: digest %s, the database had %q", i, at, digest, want)
			}
		}
		if len(states) < 5 {
			t.Errorf("gateway %d was seen at %d revisions only: this run holds nothing", i, len(states))
		}
	}
	healthy(t, c)
}

// chaos is an installation in which things break.
type chaos struct {
	t        *testing.T
	c        *harness.Cluster
	links    []*harness.Link
	gateways []*harness.Gateway
	// committed are the digests that the database had, by epoch and revision. Of change.
	committed map[string]string
}

// commit notes where the database is; it is called after each change, of which there is one at a time.
func (w *chaos) commit() {
	h := headOf(w.c)
	w.committed[h.epoch+"/"+h.revision] = h.digest
}

// change puts and removes routes, each time through any replica and until one has answered.
func (w *chaos) change(ctx context.Context, r *rand.Rand) {
	const names = 40
	for n := 0; ctx.Err() == nil; n++ {
		var doc strings.Builder
		doc.WriteString("group: default\nroutes:\n")
		for i := range names {
			if r.IntN(names) < 1+n%20 {
				fmt.Fprintf(&doc, "  - {name: r%d, service: hello, hosts: [r%d.test], paths: [/v%d]}\n", i, i, n)
			}
		}
		fmt.Fprintf(&doc, "  - {name: last, service: hello, hosts: [last.test], paths: [/v%d]}\n", n)
		w.until(r, func(replica *harness.Replica) error {
			one, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			defer cancel()
			_, err := w.c.TryApply(one, replica, "default", doc.String())
			return err
		})
		gone := fmt.Sprintf("/v1/groups/default/routes/r%d", r.IntN(names))
		w.until(r, func(replica *harness.Replica) error {
			a, err := w.c.TryREST(replica, http.MethodDelete, gone)
			if err == nil && a.Status/100 != 2 && a.Status != http.StatusNotFound {
				err = fmt.Errorf("DELETE: %d %s", a.Status, a.Body)
			}
			return err
		})
		at(ctx, time.Duration(r.IntN(40))*time.Millisecond)
	}
}

// until tries with any replica until one has answered, and notes where the database is then.
func (w *chaos) until(r *rand.Rand, try func(*harness.Replica) error) {
	var err error
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if err = try(w.c.Replicas[r.IntN(len(w.c.Replicas))]); err == nil {
			w.commit()
			return
		}
		at(w.t.Context(), 10*time.Millisecond)
	}
	w.t.Errorf("no replica answered: %v", err)
}

// breakThings breaks one thing after the other, and leaves everything running.
func (w *chaos) breakThings(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		link, replica, gateway := w.links[r.IntN(len(w.links))], w.c.Replicas[r.IntN(len(w.c.Replicas))], w.gateways[r.IntN(len(w.gateways))]
		switch r.IntN(6) {
		case 0, 1:
			link.Cut()
		case 2, 3:
			link.Stall()
			at(ctx, time.Duration(r.IntN(300))*time.Millisecond)
			if r.IntN(2) == 0 {
				link.Cut()
			}
			link.Heal()
		case 4:
			replica.Kill()
			at(ctx, time.Duration(r.IntN(200))*time.Millisecond)
			replica.Start()
		case 5:
			gateway.Kill()
			gateway.Start()
		}
		at(ctx, time.Duration(r.IntN(400))*time.Millisecond)
	}
}

// watch notes every digest that a gateway enforces, by epoch and revision.
func watch(ctx context.Context, g *harness.Gateway) map[string]string {
	seen := map[string]string{}
	for ctx.Err() == nil {
		if s, err := g.State(); err == nil && s.Epoch != 0 {
			key := fmt.Sprintf("%d/%d", s.Epoch, s.Revision)
			if before, ok := seen[key]; ok && before != s.Digest {
				key += " twice"
			}
			seen[key] = s.Digest
		}
		at(ctx, 5*time.Millisecond)
	}
	return seen
}
