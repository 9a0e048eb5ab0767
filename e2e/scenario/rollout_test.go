package scenario_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	syncv1 "keyward.dev/proto/gen/keyward/sync/v1"
	"keyward.dev/shared/testkit"
)

// stages are the settings of the group: a canary, then the gateways of one region, then the others.
func stages(soak, more string) string {
	return fmt.Sprintf(`settings:
  require_https: false
  rollout:
    stages:
      - {labels: {stage: canary}, soak: %s}
      - {labels: {region: east}, soak: 1s}
    abort: {rejects: 1, error_ratio: 20%%}
%s`, soak, more)
}

// fleet is a canary, a gateway in the east and one that is in no stage.
type fleet struct {
	*harness.Cluster
	canary, east, rest *harness.Gateway
}

func newFleet(t *testing.T, replicas int) fleet {
	t.Helper()
	c := harness.New(t, harness.Options{Replicas: replicas})
	c.Apply(strings.ReplaceAll(withUpstream(harness.Echo(t)), "limit: 5", "limit: 5000"))
	return fleet{
		c, c.StartGateway("default", "--label", "stage=canary", "--label", "region=east"),
		c.StartGateway("default", "--label", "region=east"), c.StartGateway("default"),
	}
}

// route is a harmless change.
func (f fleet) route(name string) int64 {
	f.T.Helper()
	return f.Apply(fmt.Sprintf("routes: [{name: %s, service: hello, hosts: [%s.test]}]", name, name))
}

// keep fails unless the gateway stays where it is for a while.
func keep(t *testing.T, gw *harness.Gateway, revision int64, during func() error) {
	t.Helper()
	testkit.Await(t, 20*time.Second, func() error {
		if s, err := gw.State(); err != nil || s.Revision != revision {
			t.Fatalf("a gateway that is held back is at revision %d, %v; want %d", s.Revision, err, revision)
		}
		return during()
	})
}

// status waits for the roll-out to say something.
func (f fleet) status(want string) func() error {
	return func() error {
		if out := f.CLI("", "rollout", "status", "-o", "json"); !strings.Contains(out.Stdout, want) {
			return fmt.Errorf("rollout status without %s: %s%s", want, out.Stdout, out.Stderr)
		}
		return nil
	}
}

func TestAChangeGoesFromStageToStage(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	before := f.Apply(stages("3s", ""))
	for _, gw := range []*harness.Gateway{f.canary, f.east, f.rest} {
		gw.AwaitRevision(before)
	}
	out := f.CLI("routes: [{name: good, service: hello, hosts: [good.test]}]", "apply", "-f", "-", "--wait")
	if out.Code != 0 || !strings.Contains(out.Stderr, "rolling out, stage 1 of 3; 2 gateways get the change later") {
		t.Fatalf("apply --wait: exit %d %s", out.Code, out.Stderr)
	}
	f.canary.AwaitRevision(before + 1)
	keep(t, f.rest, before, func() error { // until the east has it
		s, err := f.east.State()
		if err == nil && s.Revision != before+1 {
			err = fmt.Errorf("the second stage is at revision %d", s.Revision)
		}
		return err
	})
	f.rest.AwaitRevision(before + 1)
	if err := f.status(`"done"`)(); err != nil {
		t.Error(err)
	}
}

// old is a canary of an older program: what comes after the revision has something that it cannot run.
func (f fleet) old(revision int64) {
	f.T.Helper()
	conn, _ := f.Dial(f.Join(f.JoinToken("default", 1)))
	stream, err := syncv1.NewSyncServiceClient(conn).Config(f.T.Context())
	if err != nil {
		f.T.Fatal(err)
	}
	hello := &syncv1.Hello{Version: "v0.0.1", Labels: map[string]string{"stage": "canary"}}
	if err := stream.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Hello{Hello: hello}}); err != nil {
		f.T.Fatal(err)
	}
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return // with the test
			}
			c := m.GetCommit()
			if c == nil {
				continue
			}
			ack := &syncv1.Ack{Epoch: c.GetEpoch(), Revision: c.GetRevision(), Digest: c.GetDigest()}
			if c.GetRevision() > revision {
				ack.Faults = []*syncv1.Fault{{Kind: "routes", Name: "bad", Reason: "unknown policy"}}
			}
			if stream.Send(&syncv1.ConfigRequest{Message: &syncv1.ConfigRequest_Ack{Ack: ack}}) != nil {
				return
			}
		}
	}()
}

func TestABadChangeStopsAtTheCanary(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	good := f.Apply(stages("3s", ""))
	f.rest.AwaitRevision(good)
	f.old(good)
	bad := f.route("bad")
	f.canary.AwaitRevision(bad)
	keep(t, f.east, good, f.status(`"aborted"`))
	out := f.CLI("", "rollout", "status")
	if !strings.Contains(out.Stderr, "aborted, by rollout: gateways that refuse something of it: 1") {
		t.Errorf("rollout status: %s", out.Stderr)
	}
	f.awaitMetric(`keyward_controlplane_rollout_aborted{group="default"} 1`)
	newest := f.route("later") // begins anew, and has the fault as well
	f.canary.AwaitRevision(newest)
	keep(t, f.rest, good, f.status(`"aborted"`))
	f.MustCLI("", "rollback", "--to", fmt.Sprint(good), "--yes")
	for _, gw := range []*harness.Gateway{f.canary, f.east, f.rest} {
		gw.AwaitRevision(newest + 1)
	}
}

// awaitMetric waits until a replica exports the line.
func (f fleet) awaitMetric(line string) {
	f.T.Helper()
	testkit.Await(f.T, 10*time.Second, func() error {
		for _, r := range f.Replicas {
			resp, err := http.Get("http://" + r.Status + "/metrics") //nolint:noctx // a test's own server on loopback
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || strings.Contains(string(body), line) {
				return err
			}
		}
		return fmt.Errorf("no replica says %s", line)
	})
}

func TestErrorsStopAChange(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	good := f.Apply(stages("60s", ""))
	f.MustCLI("", "rollout", "promote")
	f.rest.AwaitRevision(good)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer broken.Close()
	bad := f.Apply(fmt.Sprintf("services: [{name: hello, url: %q}]", broken.URL))
	f.canary.AwaitRevision(bad)
	testkit.Await(t, 45*time.Second, func() error {
		for range 10 {
			f.canary.Get(t, "open.test", "/")
		}
		return f.status("were answered 5xx")()
	})
	if code, body := f.rest.Get(t, "open.test", "/"); code != http.StatusOK {
		t.Errorf("a gateway that was spared answers %d %s", code, body)
	}
}

func TestWhatNeverWaitsPassesAFreeze(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	good := f.Apply(stages("1s", ""))
	f.rest.AwaitRevision(good)
	awaitKey(t, f.rest, http.StatusOK)
	frozen := f.Apply(stages("1s", "    frozen: true\n"))
	held := f.route("held")
	keep(t, f.canary, good, f.status(`"frozen"`))
	out := f.CLI("", "delete", "credential", "alice/alice-1")
	if out.Code != 0 || !strings.Contains(out.Stderr, "held back: 2") {
		t.Errorf("deleting a credential: exit %d %s", out.Code, out.Stderr)
	}
	for _, gw := range []*harness.Gateway{f.canary, f.east, f.rest} {
		awaitKey(t, gw, http.StatusUnauthorized)
		gw.AwaitRevision(held + 1)
	}
	f.route("held-too")
	keep(t, f.canary, held+1, f.status(`"frozen"`))
	f.MustCLI("routes: [{name: now, service: hello, hosts: [now.test]}]", "apply", "-f", "-", "--immediate")
	f.rest.AwaitRevision(frozen + 4)
	f.Apply(stages("1s", "")) // thaws
	f.rest.AwaitRevision(frozen + 5)

	f.MustCLI("", "rollout", "pause", "--reason", "lunch")
	f.route("paused")
	keep(t, f.canary, frozen+5, f.status("lunch"))
	f.MustCLI("", "rollout", "resume")
	f.rest.AwaitRevision(frozen + 6)
	if text, ok := f.CheckDB(); !ok {
		t.Errorf("check-db: %s", text)
	}
}

func TestARolloutOutlivesItsReplicaAndHoldsJoiners(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	good := f.Apply(stages("6s", ""))
	f.MustCLI("", "rollout", "promote")
	f.rest.AwaitRevision(good)
	bad := f.route("late")
	f.canary.AwaitRevision(bad)
	f.Replicas[0].Kill()
	f.UseReplica(1)
	joiner := f.StartGateway("default")
	if s, err := joiner.State(); err != nil || s.Revision != good {
		t.Errorf("a gateway that joins in a late stage is at revision %d, %v; want %d", s.Revision, err, good)
	}
	if code, _ := joiner.Get(t, "late.test", "/"); code != http.StatusNotFound {
		t.Errorf("a gateway that joins in a late stage answers %d for a route of the change", code)
	}
	for _, gw := range []*harness.Gateway{f.east, f.rest, joiner} {
		gw.AwaitRevision(bad)
	}
}
