package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"keyward.dev/shared/testkit"
)

// Fleet is a process that simulates gateways.
type Fleet struct {
	*Process
	Status string // host:port
	Size   int
}

// FleetSummary is what a fleet says of all its gateways.
type FleetSummary struct {
	Event            string `json:"event"`
	Gateways         int    `json:"gateways"`
	Connected        int    `json:"connected"`
	Configured       int    `json:"configured"`
	Revision         int64  `json:"revision"`
	AtRevision       int    `json:"at_revision"`
	Resets           int    `json:"resets"`
	Resyncs          int    `json:"resyncs"`
	Mismatches       int    `json:"mismatches"`
	Connects         int    `json:"connects"`
	FailedHandshakes int    `json:"failed_handshakes"`
	ReceivedBytes    int64  `json:"received_bytes"`
}

// FleetReached says when a fleet's first and last gateway had applied a revision.
type FleetReached struct {
	Event       string    `json:"event"`
	Revision    int64     `json:"revision"`
	CommittedAt time.Time `json:"committed_at"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
}

// NewFleet describes a fleet of a group, by a join token of its own.
func (c *Cluster) NewFleet(group string, size int, args ...string) *Fleet {
	c.T.Helper()
	f := &Fleet{Status: testkit.Addr(c.T), Size: size}
	args = append([]string{
		"--control-plane", c.SyncAddrs(), "--gateways", strconv.Itoa(size), "--status-listen", f.Status, "--ramp", "0s", "--report-every", "250ms",
	}, args...)
	env := []string{"KEYWARD_JOIN_TOKEN=" + c.JoinToken(group, size)}
	f.Process = NewProcess(c.T, "fleet "+f.Status, Bin(c.T, "keyward-fleet"), env, args...)
	return f
}

// AwaitReady waits until every gateway of the fleet has a configuration.
func (f *Fleet) AwaitReady(within time.Duration) {
	f.t.Helper()
	f.await(within, func() error { return readiness(f.Status) })
}

// Summary returns what the fleet has said last of itself.
func (f *Fleet) Summary() (FleetSummary, error) {
	var s FleetSummary
	found := false
	for line := range bytes.Lines(f.Output()) {
		if bytes.Contains(line, []byte(`"event":"status"`)) {
			if err := json.Unmarshal(line, &s); err != nil {
				return s, fmt.Errorf("the fleet says %q: %w", line, err)
			}
			found = true
		}
	}
	if !found {
		return s, fmt.Errorf("the fleet has said nothing yet")
	}
	return s, nil
}

// Reached returns the revisions that all its gateways have applied, as far as it has told.
func (f *Fleet) Reached() map[int64]FleetReached {
	f.t.Helper()
	all := map[int64]FleetReached{}
	for line := range bytes.Lines(f.Output()) {
		if !bytes.Contains(line, []byte(`"event":"revision"`)) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		var r FleetReached
		if err := json.Unmarshal(line, &r); err != nil {
			f.t.Fatalf("the fleet says %q: %v", line, err)
		}
		all[r.Revision] = r
	}
	return all
}

// AwaitReached waits until all gateways of the fleet have applied the revision, and says when.
func (f *Fleet) AwaitReached(within time.Duration, revision int64) FleetReached {
	f.t.Helper()
	var r FleetReached
	f.await(within, func() error {
		var ok bool
		if r, ok = f.Reached()[revision]; !ok {
			s, err := f.Summary()
			return fmt.Errorf("not all are at %d: %+v %w", revision, s, err)
		}
		return nil
	})
	return r
}

// AwaitConverged waits until all gateways of the fleet are connected and have the revision.
func (f *Fleet) AwaitConverged(within time.Duration, revision int64) {
	f.t.Helper()
	f.await(within, func() error {
		s, err := f.Summary()
		if err == nil && (s.Connected != f.Size || s.Revision < revision || s.AtRevision != f.Size) {
			err = fmt.Errorf("want all at %d: %+v", revision, s)
		}
		return err
	})
}
