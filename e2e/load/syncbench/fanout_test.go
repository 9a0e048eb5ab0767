package syncbench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/e2e/load/syncbench"
)

const syncGroup = "sync"

// fanOut is a group with one real gateway and many simulated ones, and what was measured there.
type fanOut struct {
	*world
	gateway *harness.Gateway
	fleet   *harness.Fleet
	bare    *bareFanOut
	streams int
	turn    int

	fsyncs, trips          []time.Duration
	alone, among           map[int64]probed    // with one stream, with all
	lasts                  map[int64]time.Time // when the last had a revision
	bareAll                []time.Duration     // until the last client had it
	cpu, bareCPU           time.Duration
	fleetBefore, fleetLast harness.FleetSummary
}

// fanout is how long a change takes to the last of many gateways and to a request to one of them, and what it costs.
func (b *bench) fanout() {
	f := &fanOut{world: b.world(1), streams: sized(b, 100, 1000), alone: map[int64]probed{}, among: map[int64]probed{}, lasts: map[int64]time.Time{}}
	f.routes(syncGroup, sized(b, 1_000, 10_000))
	f.gateway = f.c.StartGateway(syncGroup, "--log-level", "info")
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	go f.callers(ctx)
	messages := f.messagesOfAChange()
	changes, every := sized(b, 20, 100), sized(b, 250*time.Millisecond, time.Second)
	beat := time.NewTicker(every)
	defer beat.Stop()
	f.probe(f.alone) // the first one opens connections
	clear(f.alone)
	f.besides("fanout/1-stream", func() {
		for range changes {
			<-beat.C
			f.probe(f.alone)
		}
	})
	one := f.c.Replicas[0].Resident()
	f.fleet = f.c.NewFleet(syncGroup, f.streams-1)
	f.fleet.Start()
	f.fleet.AwaitReady(10 * time.Minute)
	f.bare = f.startBare(f.streams, messages)
	f.push() // what was left over from the start is gone with the first ones
	clear(f.lasts)
	f.cpu = 0
	f.fleetBefore = f.summary()
	f.besides(fmt.Sprintf("fanout/%d-streams", f.streams), func() {
		for range changes {
			<-beat.C
			f.push()
			<-beat.C // what the processes do at rest disturbs neither side
			f.bareRound()
			<-beat.C
			f.probe(f.among)
		}
	})
	f.fleetLast = f.summary()
	f.tellFanOut(changes, one)
}

// callers send a few requests to the real gateway for as long as the context lives, as any gateway has them: those with most
// of the traffic get a change first, and which they are is known from what they report.
func (f *fanOut) callers(ctx context.Context) {
	load.Run(ctx, load.Config{
		Targets: load.NewTargets(f.gateway.HTTP), Rate: 20, Connections: 1, Timeout: 10 * time.Second,
		Request: []byte("GET / HTTP/1.1\r\nHost: h3.test\r\n\r\n"),
	})
}

// push makes a change while nothing else goes on, and waits until the last simulated gateway has applied it.
func (f *fanOut) push() {
	f.t.Helper()
	before := f.processor(f.c.Replicas[0].PID())
	f.turn++
	document, _ := turn(syncGroup, f.turn)
	revision, _ := f.apply(syncGroup, document)
	r := f.fleet.AwaitReached(time.Minute, revision)
	f.cpu += f.processor(f.c.Replicas[0].PID()) - before
	f.lasts[revision] = r.Last
}

func (f *fanOut) bareRound() {
	f.t.Helper()
	before := f.processor(f.bare.server)
	f.bareAll = append(f.bareAll, f.bare.round())
	f.bareCPU += f.processor(f.bare.server) - before
}

// probe makes a change and notes when a request to the real gateway met it.
func (f *fanOut) probe(into map[int64]probed) {
	f.t.Helper()
	f.fsyncs = append(f.fsyncs, f.fsync())
	f.turn++
	p := f.change(f.gateway, syncGroup, f.turn)
	f.trips = append(f.trips, p.trip)
	into[p.revision] = p
}

func (f *fanOut) summary() harness.FleetSummary {
	f.t.Helper()
	<-time.After(2 * time.Second) // it tells four times a second
	s, err := f.fleet.Summary()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// messagesOfAChange are what a gateway receives of a change: all of it in one batch.
func (f *fanOut) messagesOfAChange() []*syncv1.ConfigResponse {
	f.t.Helper()
	id := f.c.Join(f.c.JoinToken(syncGroup, 1))
	conn, _ := f.c.Dial(id)
	defer conn.Close()
	s := f.c.OpenStream(conn)
	f.turn++
	document, _ := turn(syncGroup, f.turn)
	for s.Revision() == 0 {
		<-time.After(10 * time.Millisecond)
	}
	revision, _ := f.apply(syncGroup, document)
	for s.Revision() < revision {
		<-time.After(10 * time.Millisecond)
	}
	all := s.Messages()
	for i, m := range slices.Backward(all) {
		if m.GetBegin() != nil {
			return []*syncv1.ConfigResponse{{Message: &syncv1.ConfigResponse_Batch{Batch: &syncv1.Batch{Messages: all[i:]}}}}
		}
	}
	f.t.Fatal("the stream has had no change")
	return nil
}

func (f *fanOut) tellFanOut(changes int, one int64) {
	f.t.Helper()
	fsync := syncbench.Percentile(f.fsyncs, 50)
	name := fmt.Sprintf("fanout/%d-streams", f.streams)
	f.add(syncbench.Figure("fsync", "p50-ms", syncbench.Millis(fsync)))
	f.add(syncbench.Figure("fsync", "p99-ms", syncbench.Millis(syncbench.Percentile(f.fsyncs, 99))))
	f.add(syncbench.Figure("round-trip", "p50-ms", syncbench.Millis(syncbench.Percentile(f.trips, 50))))
	floor := f.floor()
	all := f.sinceCommit(syncGroup, f.lasts)
	f.add(syncbench.Figure(name+"/commit-to-last", "p50-ms", syncbench.Millis(syncbench.Percentile(all, 50))))
	f.add(syncbench.Figure(name+"/bare-to-last", "p50-ms", syncbench.Millis(syncbench.Percentile(f.bareAll, 50))))
	last := syncbench.Percentile(all, 99) - fsync // the bare server has nothing to make durable
	f.add(syncbench.Against(name+"/to-last-of-bare", "p99-ms", syncbench.Millis(last), syncbench.Millis(syncbench.Percentile(f.bareAll, 99)), syncbench.FanOut))
	f.tellEnforced("enforced/1-stream", f.alone, floor)
	f.tellEnforced(fmt.Sprintf("enforced/%d-streams", f.streams), f.among, floor)
	per := float64(changes * f.streams)
	f.add(syncbench.Figure(name+"/cpu", "us/change/stream", float64(f.cpu)/1e3/per))
	f.add(syncbench.Figure(name+"/bare-cpu", "us/change/stream", float64(f.bareCPU)/1e3/per))
	received := f.fleetLast.ReceivedBytes - f.fleetBefore.ReceivedBytes
	f.add(syncbench.Figure(name+"/bytes", "bytes/change", float64(received)/float64(2*changes*(f.streams-1))))
	f.add(syncbench.Figure(name+"/replica-memory", "bytes/stream", float64(f.c.Replicas[0].Resident()-one)/float64(f.streams-1)))
	f.add(syncbench.Figure(name+"/fleet-memory", "bytes/gateway", float64(f.fleet.Resident())/float64(f.streams-1)))
	wrong := f.fleetLast.Mismatches + f.fleetLast.Resyncs
	f.add(syncbench.Within(name+"/mismatches", "changes", float64(wrong), 0))
}

// floor is what a slow one of a hundred changes takes whatever the control plane does: until the disk has it, which is as slow
// at times, and a round trip.
func (f *fanOut) floor() time.Duration {
	return syncbench.Percentile(f.fsyncs, 99) + syncbench.Percentile(f.trips, 50)
}

// tellEnforced tells of changes that were probed by requests.
func (f *fanOut) tellEnforced(name string, of map[int64]probed, floor time.Duration) {
	f.t.Helper()
	f.tellProbes(name, f.enforced(syncGroup, of), floor)
}

func (w *world) tellProbes(name string, took []time.Duration, floor time.Duration) {
	w.add(syncbench.Figure(name, "p50-ms", syncbench.Millis(syncbench.Percentile(took, 50))))
	w.add(syncbench.Within(name, "p99-ms", syncbench.Millis(syncbench.Percentile(took, 99)), syncbench.Millis(floor+syncbench.Enforce)))
	w.say("    the slowest: %s ms", syncbench.Slowest(took, 5))
}

// enforced is how long changes took from their commit to the first request that met them.
func (w *world) enforced(group string, of map[int64]probed) []time.Duration {
	w.t.Helper()
	met := map[int64]time.Time{}
	for revision, p := range of {
		met[revision] = p.met
	}
	return w.sinceCommit(group, met)
}

// sinceCommit is how long after their commit moments of revisions were, in the order of these.
func (w *world) sinceCommit(group string, moments map[int64]time.Time) []time.Duration {
	w.t.Helper()
	commits := w.commits(group)
	var took []time.Duration
	for _, revision := range slices.Sorted(maps.Keys(moments)) {
		at, ok := commits[revision]
		if !ok {
			w.t.Fatalf("%s: the database does not know when revision %d was committed", group, revision)
		}
		took = append(took, moments[revision].Sub(at))
	}
	return took
}

// size is what the number of routes does to the time until a request meets a change.
func (b *bench) size() {
	w := b.world(1)
	small, large := 1_000, sized(b, 10_000, 100_000)
	sizes := []int{small, large}
	gateways, took, fsyncs := map[int]*harness.Gateway{}, map[int]map[int64]probed{}, []time.Duration(nil)
	group := func(n int) string { return fmt.Sprintf("routes-%d", n) }
	for _, n := range sizes {
		w.routes(group(n), n)
		gateways[n], took[n] = w.c.StartGateway(group(n), "--log-level", "info"), map[int64]probed{}
		w.change(gateways[n], group(n), 0)
	}
	beat := time.NewTicker(sized(b, 100*time.Millisecond, 250*time.Millisecond))
	defer beat.Stop()
	w.besides("size", func() {
		for i := range sized(b, 20, 100) {
			for _, n := range sizes {
				<-beat.C
				fsyncs = append(fsyncs, w.fsync())
				p := w.change(gateways[n], group(n), i+1)
				took[n][p.revision] = p
			}
		}
	})
	a, z := w.enforced(group(small), took[small]), w.enforced(group(large), took[large])
	w.tellProbes("size/"+group(small), a, syncbench.Percentile(fsyncs, 99))
	w.tellProbes("size/"+group(large), z, syncbench.Percentile(fsyncs, 99))
	w.add(syncbench.Figure("size/ratio-of-medians", "ratio", float64(syncbench.Percentile(z, 50))/float64(syncbench.Percentile(a, 50))))
	w.add(syncbench.Against(fmt.Sprintf("size/%d-of-%d", large, small), "p99-ms",
		syncbench.Millis(syncbench.Percentile(z, 99)), syncbench.Millis(syncbench.Percentile(a, 99)), syncbench.Size))
}

// line reads a round that a side of the bare fan-out tells of.
func line(d *json.Decoder) (syncbench.BareRound, error) {
	var r syncbench.BareRound
	err := d.Decode(&r)
	return r, err
}
