package registry_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/registry/registrytest"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
)

func TestARolloutHoldsGatewaysBackWithoutMakingThemLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		canary := map[string]string{"stage": "canary"}
		m.Put(store.Gateway{ID: "canary", Group: "pay", Labels: canary})
		m.Put(store.Gateway{ID: "held", Group: "pay"})
		m.SetRollout("pay", &rollout.State{
			Epoch: 1, Revision: 5, Targets: []int64{5, 3}, Phase: rollout.Rolling,
			Plan: &configv1.Rollout{Stages: []*configv1.RolloutStage{{Labels: canary}}},
		})
		a, stopA := replica(t, m, "a")
		defer stopA()
		b, stopB := replica(t, m, "b")
		defer stopB()
		first := a.Connect(registry.Connection{Group: "pay", ID: "canary", Labels: canary})
		second := b.Connect(registry.Connection{Group: "pay", ID: "held"})
		first.Applied(registry.Applied{Epoch: 1, Revision: 4})
		second.Applied(registry.Applied{Epoch: 1, Revision: 3, Faults: []store.Fault{{Kind: "routes", Name: "r", Reason: "x"}}})
		<-time.After(time.Second)
		wait := func() registry.Progress {
			p, err := a.WaitForRevision(t.Context(), "pay", 5, 0, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := wait(); p.Done || p.Held != 1 || cmp.Diff([]string{"canary"}, p.Pending) != "" || len(p.Rejecting) > 0 {
			t.Errorf("before the canary has it: %+v", p)
		}
		first.Applied(registry.Applied{Epoch: 1, Revision: 5})
		if p := wait(); !p.Done || p.Held != 1 {
			t.Errorf("when the canary has it: %+v", p)
		}
		want := map[string]registry.State{"canary": registry.Online, "held": registry.Rejecting}
		if diff := cmp.Diff(want, states(t, a)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if g, err := a.Get(t.Context(), "pay", "held"); err != nil || g.Target != 3 || g.Lag != 2 {
			t.Errorf("the held one: target %d, %d behind, %v; want 3, 2", g.Target, g.Lag, err)
		}
	})
}

func TestEvidenceOfBothReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := registrytest.New()
		m.SetHead("pay", 1, 5)
		for _, id := range []string{"g", "h", "off", "revoked"} {
			m.Put(store.Gateway{ID: id, Group: "pay"})
		}
		a, stopA := replica(t, m, "a")
		defer stopA()
		b, stopB := replica(t, m, "b")
		defer stopB()
		g := b.Connect(registry.Connection{Group: "pay", ID: "g"})
		g.Applied(registry.Applied{Epoch: 1, Revision: 4})
		b.Reported("pay", "g", map[string]uint64{"2xx": 30, "5xx": 3})
		g.Applied(registry.Applied{Epoch: 1, Revision: 5, Faults: []store.Fault{{Kind: "routes", Name: "r", Reason: "x"}}})
		b.Reported("pay", "g", map[string]uint64{"4xx": 5, "5xx": 5, "bogus": 9})
		h := a.Connect(registry.Connection{Group: "pay", ID: "h"})
		h.Applied(registry.Applied{Epoch: 1, Revision: 4})
		a.Reported("pay", "h", map[string]uint64{"2xx": 50})
		for _, revision := range []int64{5, 6} { // the second comes before there was much to count
			h.Applied(registry.Applied{Epoch: 1, Revision: revision})
			a.Reported("pay", "h", map[string]uint64{"2xx": 1})
		}
		a.Connect(registry.Connection{Group: "pay", ID: "revoked"})
		if _, err := a.Revoke(t.Context(), "pay", "revoked", "admin", ""); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * time.Second)
		got, err := a.Evidence(t.Context(), "pay")
		if err != nil {
			t.Fatal(err)
		}
		byID := map[string]rollout.Gateway{}
		for _, e := range got {
			byID[e.ID] = e
		}
		want := map[string]rollout.Gateway{
			"g": {
				ID: "g", Epoch: 1, Applied: 5, Faults: []string{"routes/r: x"},
				Now: rollout.Counts{Requests: 10, Errors: 5}, Before: rollout.Counts{Requests: 33, Errors: 3},
			},
			"h": {ID: "h", Epoch: 1, Applied: 6, Now: rollout.Counts{Requests: 1}, Before: rollout.Counts{Requests: 50}},
		}
		if diff := cmp.Diff(want, byID); diff != "" {
			t.Errorf("evidence (-want +got):\n%s", diff)
		}
	})
}

func TestTheBusiestOfEachGroup(t *testing.T) {
	t.Parallel()
	r := registry.New(registry.Config{Replica: "r", Log: slog.New(slog.DiscardHandler)})
	for _, id := range []string{"idle", "little", "much", "some", "gone"} {
		s := r.Connect(registry.Connection{Group: "pay", ID: id})
		if id == "gone" {
			r.Reported("pay", id, map[string]uint64{"2xx": 1000})
			s.Close()
		}
	}
	r.Connect(registry.Connection{Group: "blog", ID: "x"})
	for id, n := range map[string]uint64{"little": 1, "much": 900, "some": 20} {
		r.Reported("pay", id, map[string]uint64{"2xx": n, "bogus": 5000})
	}
	want := map[string][]string{"pay": {"much", "some"}, "blog": {}}
	if diff := cmp.Diff(want, r.Busiest(2)); diff != "" {
		t.Error(diff)
	}
	r.Reported("pay", "much", nil) // since then it has answered none
	want["pay"] = []string{"some", "little"}
	if diff := cmp.Diff(want, r.Busiest(2)); diff != "" {
		t.Error(diff)
	}
}
