package syncbench_test

import (
	"fmt"
	"time"

	"keyward.dev/e2e/load/syncbench"
)

// outage kills every replica at once, brings them back, and looks how long it takes until all gateways have a change that
// was made as soon as that was possible, and how much memory the replicas take for that.
func (b *bench) outage() {
	const replicas = 2
	w := b.world(replicas)
	streams := sized(b, 100, 1000)
	w.routes(syncGroup, sized(b, 1_000, 10_000))
	g := w.c.StartGateway(syncGroup, "--log-level", "info")
	f := w.c.NewFleet(syncGroup, streams-1)
	f.Start()
	f.AwaitReady(10 * time.Minute)
	for n := range 5 {
		w.change(g, syncGroup, n)
	}
	<-time.After(sized(b, 2*time.Second, 20*time.Second)) // what the start has left behind is not what it is like
	var steady [replicas]int64
	for i, r := range w.c.Replicas {
		steady[i] = r.Resident()
	}
	for _, r := range w.c.Replicas {
		r.Kill()
	}
	<-time.After(3 * time.Second) // everybody has noticed
	started := time.Now()
	for _, r := range w.c.Replicas {
		r.Start()
	}
	w.c.Replicas[0].AwaitReady()
	ready := time.Now()
	document, _ := turn(syncGroup, 1000)
	revision, _ := w.apply(syncGroup, document)
	f.AwaitReached(5*time.Minute, revision)
	f.AwaitConverged(5*time.Minute, revision)
	g.AwaitRevision(revision)
	back := time.Now()
	name := fmt.Sprintf("outage/%d-gateways", streams)
	w.add(syncbench.Figure(name+"/replica-ready", "s", ready.Sub(started).Seconds()))
	w.add(syncbench.Within(name+"/converged-after-start", "s", back.Sub(started).Seconds(), syncbench.Return.Seconds()))
	<-time.After(5 * time.Second) // the peak may come with what is left to do
	for i, r := range w.c.Replicas {
		w.add(syncbench.Against(fmt.Sprintf("%s/peak-memory-of-replica-%d", name, i+1), "bytes", float64(r.PeakMemory()), float64(steady[i]), syncbench.ReturnMemory))
	}
	s, err := f.Summary()
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(syncbench.Figure(name+"/failed-handshakes", "connections", float64(s.FailedHandshakes)))
	w.add(syncbench.Figure(name+"/whole-sets", "sets", float64(s.Resets-(streams-1))))
	w.add(syncbench.Within(name+"/mismatches", "changes", float64(s.Mismatches), 0))
}
