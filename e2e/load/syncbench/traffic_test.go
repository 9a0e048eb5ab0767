package syncbench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/e2e/load/syncbench"
)

// The load and the changes of the part traffic, per second.
const (
	requestRate = 2000
	changeRate  = 50
)

// period is what a time under load gave.
type period struct {
	cpu     time.Duration // of the gateway, per request
	changes int64
	load    load.Result
}

// otherGroup is that of changes which are none of the gateway's business.
const otherGroup = "elsewhere"

// traffic is what a request costs while changes are applied, as a multiple of what it costs when all is quiet, and of
// what it costs while another group is changed: control plane and database, on the same processors, do as much then, and
// what is left is what the gateway does for a change.
//
// The gateway has a processor for itself, and all others share the rest: what the control plane, the database and the load
// leave in a processor's caches is not for the gateway to pay. Where there is only one processor they share it.
func (b *bench) traffic() {
	all, last := runtime.NumCPU(), runtime.NumCPU()-1
	if all > 1 {
		b.place(os.Getpid(), fmt.Sprintf("0-%d", last-1))
		defer b.place(os.Getpid(), fmt.Sprintf("0-%d", last))
	}
	w := b.world(1)
	routes := sized(b, 1_000, 10_000)
	w.routes(syncGroup, routes)
	w.routes(otherGroup, routes)
	g := w.c.NewGatewayEnv([]string{"KEYWARD_JOIN_TOKEN=" + w.c.JoinToken(syncGroup, 1), "GOMAXPROCS=1"}, "--log-level", "info")
	g.Start()
	g.AwaitReady()
	b.place(g.PID(), strconv.Itoa(last))
	for n := range 5 { // the first ones open connections
		w.change(g, syncGroup, n)
	}
	length, rounds := sized(b, 4*time.Second, time.Minute), sized(b, 3, 5)
	w.period(g, sized(b, time.Second, 10*time.Second), "")
	var quiet, elsewhere, busy []time.Duration
	var quietTail, busyTail []time.Duration
	var changes, failed int64
	for range rounds {
		q, e, z := w.period(g, length, ""), w.period(g, length, otherGroup), w.period(g, length, syncGroup)
		quiet, elsewhere, busy = append(quiet, q.cpu), append(elsewhere, e.cpu), append(busy, z.cpu)
		quietTail, busyTail = append(quietTail, q.load.P99), append(busyTail, z.load.P99)
		changes += z.changes
		failed += q.load.Failed + z.load.Failed
		for _, f := range append(q.load.Failures, z.load.Failures...) {
			w.say("  failed: %s", f)
		}
	}
	micros := func(of []time.Duration) float64 {
		return float64(syncbench.Percentile(of, 50)) / float64(time.Microsecond)
	}
	name := fmt.Sprintf("traffic/%d-routes", routes)
	w.add(syncbench.Against(name+"/busy-of-quiet", "cpu-us/request", micros(busy), micros(quiet), syncbench.Busy))
	w.add(syncbench.Beside(name+"/busy-of-elsewhere", "cpu-us/request", micros(busy), micros(elsewhere)))
	w.add(syncbench.Figure(name+"/changes", "1/s", float64(changes)/(float64(rounds)*length.Seconds())))
	w.add(syncbench.Within(name+"/failed", "requests", float64(failed), 0))
	w.add(syncbench.Figure(name+"/quiet", "p99-us", micros(quietTail)))
	w.add(syncbench.Figure(name+"/busy", "p99-us", micros(busyTail)))
}

// place says which processors a process may use, as taskset takes them. What it starts from then on inherits that.
func (b *bench) place(pid int, cpus string) {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "taskset", "-a", "-c", "-p", cpus, strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		b.t.Fatalf("taskset: %v: %s", err, out)
	}
}

// period sends requests for a while, and changes a group beside, if it is given.
func (w *world) period(g *harness.Gateway, length time.Duration, group string) period {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), length)
	defer cancel()
	var p period
	var changing sync.WaitGroup
	if group != "" {
		changing.Go(func() { p.changes = w.changes(ctx, group, changeRate) })
	}
	before := w.processor(g.PID())
	p.load = load.Run(ctx, load.Config{
		Targets: load.NewTargets(g.HTTP), Rate: requestRate, Connections: 64, Timeout: 10 * time.Second,
		Request: []byte("GET / HTTP/1.1\r\nHost: h3.test\r\n\r\n"),
	})
	changing.Wait()
	p.cpu = (w.processor(g.PID()) - before) / time.Duration(max(1, p.load.OK))
	return p
}

// changes makes changes at a rate until the context ends, a few at a time, and returns how many.
func (w *world) changes(ctx context.Context, group string, rate int) int64 {
	beat := time.NewTicker(time.Second / time.Duration(rate))
	defer beat.Stop()
	var done atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, 8)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return done.Load()
		case <-beat.C:
		}
		select {
		case <-ctx.Done():
			return done.Load()
		case places <- struct{}{}:
		}
		all.Go(func() {
			defer func() { <-places }()
			route := 100 + n%800
			document := fmt.Sprintf(`{"group": %q, "routes": [{"name": "r%d", "service": "s", "hosts": ["h%d.test"], "paths": ["/at-%d"]}]}`,
				group, route, route, time.Now().UnixNano())
			if _, err := w.c.TryApply(context.WithoutCancel(ctx), w.c.Replicas[0], group, document); err != nil {
				w.t.Errorf("change %d: %v", n, err)
				return
			}
			done.Add(1)
		})
	}
}

func (b *bench) processor(pid int) time.Duration {
	b.t.Helper()
	d, err := b.proc.CPU(pid)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// besides runs a phase and says what part of all processors others had meanwhile: without a processor nothing is quick.
func (b *bench) besides(phase string, run func()) {
	b.t.Helper()
	start, before := time.Now(), b.others()
	run()
	all := time.Since(start) * time.Duration(runtime.NumCPU())
	b.add(syncbench.Figure(phase+"/processors-of-others", "percent", 100*max(0, float64(b.others()-before)/float64(all))))
}

func (b *bench) others() time.Duration {
	b.t.Helper()
	d, err := b.proc.Others(os.Getpid())
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}
