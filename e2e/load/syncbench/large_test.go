package syncbench_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"time"

	"keyward.dev/shared/testkit"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load/syncbench"
)

// starts is how often a gateway starts, for the median: the first has to wait for the control plane, which puts together what
// the others are sent, and those after it are beside what the database has to do after so much was stored.
const starts = 7

// layOut is how long a gateway takes at most, once it is ready, to lay out its heap for serving: its peak of memory may be then.
const layOut = 5 * time.Second

// large is how a gateway starts with a large configuration, what both sides need for it, and what is left over from many
// changes.
func (b *bench) large() {
	w := b.world(1)
	n := sized(b, 2_000, 100_000)
	w.routes(syncGroup, n)
	w.keys(syncGroup, n, 1)
	replica := w.c.Replicas[0]
	var took []time.Duration
	var peak int64
	var g *harness.Gateway
	for range starts {
		if g != nil {
			g.Stop(time.Minute)
		}
		g = w.c.NewGateway(w.c.JoinToken(syncGroup, 1), "--log-level", "info")
		began := time.Now()
		g.Start()
		g.AwaitOutput(time.Minute, "configuration applied") // to be asked two hundred times a second is work, too
		g.AwaitReady()
		took = append(took, time.Since(began))
		<-time.After(layOut)
		peak = max(peak, g.PeakMemory())
	}
	name := fmt.Sprintf("large/%d-routes-and-consumers", n)
	w.add(syncbench.Figure(name+"/first-cold-start", "ms", syncbench.Millis(took[0])))
	w.add(syncbench.Within(name+"/cold-start", "ms", syncbench.Millis(syncbench.Percentile(took, 50)), syncbench.Millis(syncbench.ColdStart)))
	w.add(syncbench.Within(name+"/cold-start-memory", "bytes", float64(peak), syncbench.ColdMemory))
	w.add(syncbench.Figure(name+"/gateway-memory", "bytes", float64(g.Resident())))
	w.pushes(g, name)
	w.add(syncbench.Figure(name+"/replica-memory", "bytes", float64(replica.Resident())))
	w.add(syncbench.Within(name+"/replica-peak-memory", "bytes", float64(replica.PeakMemory()), syncbench.LargeReplica))
}

// keys makes consumers with so many keys each.
func (w *world) keys(group string, consumers, each int) {
	w.t.Helper()
	w.batched(group, "consumers", consumers, func(i int) any {
		credentials := make([]any, each)
		for k := range credentials {
			key := fmt.Sprintf("Sync%08dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", i*each+k)
			credentials[k] = map[string]any{"name": fmt.Sprintf("k%d", k), "type": "key-auth", "config": map[string]any{"key": key}}
		}
		return map[string]any{"name": fmt.Sprintf("c%d", i), "groups": []string{"gold"}, "credentials": credentials}
	})
}

// keys is what a gateway needs for a million keys. How long it takes to find one is a benchmark of the gateway's own,
// directory.LookupOfAMillion.
func (b *bench) keys() {
	w := b.world(1)
	const group, each = "keys", 10
	n := sized(w.bench, 20_000, 1_000_000)
	w.c.CreateGroup(group)
	w.keys(group, n/each, each)
	g := w.c.NewGateway(w.c.JoinToken(group, 1), "--log-level", "info")
	began := time.Now()
	g.Start()
	g.AwaitReadyWithin(5 * time.Minute)
	name := fmt.Sprintf("keys/%d", n)
	w.add(syncbench.Figure(name+"/cold-start", "ms", syncbench.Millis(time.Since(began))))
	<-time.After(layOut)
	w.add(syncbench.Within(name+"/memory", "bytes", float64(g.PeakMemory()), syncbench.KeysMemory))
	w.add(syncbench.Figure(name+"/resident-memory", "bytes", float64(g.Resident())))
}

// held is what a gateway holds, by its own metrics.
type held struct{ liveHeap, goroutines, generations float64 }

// pushes makes many changes and looks what is left over of them when the collector has had its time.
func (w *world) pushes(g *harness.Gateway, name string) {
	w.t.Helper()
	turns := 0
	push := func(n int) {
		var last int64
		for range n {
			turns++
			document, _ := turn(syncGroup, turns)
			last, _ = w.apply(syncGroup, document)
		}
		testkit.Await(w.t, time.Minute, func() error {
			s, err := g.State()
			if err == nil && s.Revision < last {
				err = fmt.Errorf("at revision %d, want %d", s.Revision, last)
			}
			return err
		})
	}
	n := sized(w.bench, 300, 10_000)
	push(n / 10) // buffers have grown to what they will be
	before := w.settled(g)
	push(n)
	after := w.settled(g)
	name = fmt.Sprintf("%s/after-%d-pushes", name, n)
	w.add(syncbench.Against(name, "live-heap-bytes", after.liveHeap, before.liveHeap, syncbench.Drift))
	w.add(syncbench.Against(name, "goroutines", after.goroutines, before.goroutines, syncbench.Drift))
	w.add(syncbench.Against(name, "generations", after.generations, before.generations, 1))
}

// settled waits until only the configuration in force is in memory, which takes until the next collection: what asking
// allocates brings a small heap to it, and Go's runtime any within two minutes. If it does not come to that, the last look
// tells.
func (w *world) settled(g *harness.Gateway) held {
	w.t.Helper()
	deadline := time.Now().Add(150 * time.Second)
	for {
		h := w.held(g)
		if h.generations <= 1 || time.Now().After(deadline) {
			return h
		}
		<-time.After(20 * time.Millisecond)
	}
}

// held asks a gateway what it holds. Half of the size at which the next collection is due is what was live at the last.
func (w *world) held(g *harness.Gateway) held {
	w.t.Helper()
	resp, err := http.Get("http://" + g.Status + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var h held
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for name, into := range map[string]*float64{
			"go_memstats_next_gc_bytes ": &h.liveHeap, "go_goroutines ": &h.goroutines, "keyward_gateway_config_generations ": &h.generations,
		} {
			if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
				if _, err := fmt.Sscanf(rest, "%g", into); err != nil {
					w.t.Fatalf("the metrics say %q", lines.Text())
				}
			}
		}
	}
	if err := lines.Err(); err != nil || h.liveHeap == 0 || h.generations == 0 {
		w.t.Fatalf("the metrics do not say what the gateway holds: %+v, %v", h, err)
	}
	h.liveHeap /= 2
	return h
}
