package scenario_test

import (
	"fmt"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestFleet holds simulated gateways against real ones: the control plane cannot tell them apart, and they stay with it
// over its loss.
func TestFleet(t *testing.T) {
	t.Parallel()
	const size = 40
	c := harness.New(t, harness.Options{Replicas: 2})
	route := func(n int) string {
		return fmt.Sprintf("group: default\nservices: [{name: s, url: \"http://127.0.0.1:9\"}]\n"+
			"routes: [{name: r, service: s, hosts: [\"f.test\"], paths: [\"/%d\"]}]\n", n)
	}
	c.Apply(route(0))
	g := c.StartGateway("default")
	dir := t.TempDir()
	f := c.NewFleet("default", size, "--identity-dir", dir, "--label", "stage=simulated")
	f.Start()
	f.AwaitReady(time.Minute)
	var last int64
	for n := range 5 {
		last = c.Apply(route(n + 1))
		r := f.AwaitReached(20*time.Second, last)
		if r.CommittedAt.IsZero() || r.Last.Before(r.First) || r.First.Before(r.CommittedAt) {
			t.Errorf("revision %d was reached at impossible times: %+v", last, r)
		}
	}
	g.AwaitRevision(last)
	testkit.Await(t, 20*time.Second, func() error {
		there := 0
		for _, known := range c.Gateways("default") {
			if known.State == "online" && known.AppliedRevision == last && len(known.Faults) == 0 {
				there++
			}
		}
		if there != size+1 {
			return fmt.Errorf("the control plane knows of %d gateways at revision %d, want %d: %+v", there, last, size+1, c.Gateways("default")[0])
		}
		return nil
	})
	for _, r := range c.Replicas {
		r.Kill()
	}
	for _, r := range c.Replicas {
		r.Start()
	}
	for _, r := range c.Replicas {
		r.AwaitReady()
	}
	last = c.Apply(route(99))
	f.AwaitConverged(30*time.Second, last)
	s, err := f.Summary()
	if err != nil || s.Mismatches != 0 || s.Resyncs != 0 || s.Connects < 2*size {
		t.Errorf("after the loss of the control plane: %+v, %v", s, err)
	}
	f.Stop(20 * time.Second)
	f.Start() // the identities are kept, and the token is used up
	f.AwaitConverged(30*time.Second, last)
	if n := len(c.Gateways("default")); n != size+1 {
		t.Errorf("the control plane knows %d gateways, want %d: the fleet has joined anew", n, size+1)
	}
}
