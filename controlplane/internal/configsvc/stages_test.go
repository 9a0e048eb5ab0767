package configsvc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/problem"
)

// staged are settings with one stage, for the gateways with the label.
func staged(change ...func(*configv1.Rollout)) admission.Change {
	r := &configv1.Rollout{Stages: []*configv1.RolloutStage{{Labels: map[string]string{"stage": "canary"}, Soak: durationpb.New(time.Minute)}}}
	for _, c := range change {
		c(r)
	}
	return admission.Change{Kind: "settings", Name: "settings", Message: &configv1.Settings{Rollout: r}}
}

func unstaged() admission.Change {
	return admission.Change{Kind: "settings", Name: "settings", Message: &configv1.Settings{}}
}

func (r *replica) targets(t *testing.T) string {
	t.Helper()
	s, err := r.ledger().State(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		return "all"
	}
	return fmt.Sprint(s.Phase, s.Targets)
}

func (r *replica) ledger() *rollout.Ledger { return rollout.NewLedger(r.store, r.sealer, time.Now) }

func TestWritesMoveTheRolloutWithTheRevision(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, other := w.replica(t), w.replica(t)
	r.mustWrite(t, consumer("a"), key(t, "a", "k", strongKey(1)), service("s")) // revision 2
	immediate := configsvc.Request{Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{service("now")}, Immediate: true}
	steps := []struct {
		name string
		do   func() configsvc.Result
		want string
		warn string
	}{
		{"nothing staged", func() configsvc.Result { return r.mustWrite(t, service("s2")) }, "all", ""},
		{"stages come", func() configsvc.Result { return r.mustWrite(t, staged()) }, "rolling[4 3]", ""},
		{"a change on another replica", func() configsvc.Result { return other.mustWrite(t, service("s3")) }, "rolling[5 3]", ""},
		{"no change", func() configsvc.Result { return r.mustWrite(t, service("s3")) }, "rolling[5 3]", ""},
		{"a new credential waits", func() configsvc.Result { return r.mustWrite(t, key(t, "a", "l", strongKey(2))) }, "rolling[6 3]", ""},
		{"a credential removed", func() configsvc.Result { return r.mustWrite(t, remove("credentials", "a/k")) }, "done[7 7]", "credentials/a/k loses something"},
		{"an immediate one alone", func() configsvc.Result {
			res, err := r.Write(t.Context(), immediate)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}, "done[8 8]", ""},
		{"frozen", func() configsvc.Result { return r.mustWrite(t, staged(func(r *configv1.Rollout) { r.Frozen = true })) }, "rolling[8 8]", ""},
		{"a rollback", func() configsvc.Result {
			res, err := r.Rollback(t.Context(), configsvc.RollbackRequest{Actor: "test", Group: "g", To: 5})
			if err != nil {
				t.Fatal(err)
			}
			return res.Result
		}, "done[10 10]", "held back: 1"},
		{"stages go", func() configsvc.Result { return r.mustWrite(t, unstaged()) }, "all", ""},
	}
	for _, s := range steps {
		res := s.do()
		if got := r.targets(t); got != s.want {
			t.Fatalf("%s: %s, want %s", s.name, got, s.want)
		}
		if text := fmt.Sprint(res.Warnings); !strings.Contains(text, s.warn) || strings.Contains(text, "at once") != (s.warn != "") {
			t.Errorf("%s: warnings %s, want %q", s.name, text, s.warn)
		}
	}
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 20)
	if err != nil || !strings.Contains(fmt.Sprint(page), "sent to all gateways at once: credentials/a/k") {
		t.Errorf("the audit trail does not say what went out at once: %v", err)
	}
}

func TestADryRunMovesNoRollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	r.mustWrite(t, staged(), consumer("a"))
	res, err := r.Write(t.Context(), configsvc.Request{
		Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{remove("consumers", "a")}, DryRun: true,
	})
	if err != nil || !strings.Contains(fmt.Sprint(res.Warnings), "at once") {
		t.Errorf("a dry run says %v, %v; want what would go out", res.Warnings, err)
	}
	if got := r.targets(t); got != "rolling[2 1]" {
		t.Errorf("after a dry run: %s", got)
	}
}

// TestARolloutThatWasTouchedIsRefused alters the row past the control plane.
func TestARolloutThatWasTouchedIsRefused(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"altered":  `update rollouts set targets = array[3, 3]`,
		"put back": `update rollouts r set targets = o.targets, revision = o.revision, since = o.since, mac = o.mac from old_rollouts o`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.replica(t)
			r.mustWrite(t, staged())
			w.db.Exec(t, `create table old_rollouts as select * from rollouts`)
			r.mustWrite(t, service("s"))
			w.db.Exec(t, statement)
			if s, err := r.ledger().State(t.Context(), "g"); err == nil {
				t.Errorf("State = %+v, want it refused", s)
			}
			if _, err := r.write(t.Context(), service("x")); err == nil || problem.Of(err).Code != problem.Unavailable {
				t.Errorf("a write onto it = %v, want unavailable", err)
			}
			if _, err := r.Write(t.Context(), configsvc.Request{
				Actor: "test", Action: "resources.apply", Group: "g", Changes: []admission.Change{service("y")}, Immediate: true,
			}); err != nil {
				t.Errorf("an immediate write, which begins anew: %v", err)
			}
			if got := r.targets(t); got != "done[4 4]" {
				t.Errorf("after that: %s", got)
			}
		})
	}
}

func TestStepsOfARolloutAreTakenOnceAndAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.replica(t)
	r.mustWrite(t, staged())
	wakeups := func() int64 {
		n, err := w.db.Store.Wakeups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n[store.TopicRollouts]
	}
	before := wakeups()
	abort := func(s *rollout.State) (*rollout.State, error) {
		return s.Steer(rollout.Abort, "ann", "broken", time.Now())
	}
	if s, err := r.ledger().Move(t.Context(), "g", "ann", abort); err != nil || s.Phase != rollout.Aborted {
		t.Fatalf("abort: %+v, %v", s, err)
	}
	if _, err := r.ledger().Move(t.Context(), "g", "ann", abort); problem.Of(err).Code != problem.Conflict {
		t.Errorf("abort again: %v, want a conflict", err)
	}
	if wakeups() != before+1 {
		t.Error("other replicas are not told of the one step")
	}
	page, err := w.db.Store.AuditPage(t.Context(), "g", 0, 1)
	if err != nil || page[0].Action != "rollout.abort" || page[0].Actor != "ann" || !strings.Contains(page[0].Detail, "broken") {
		t.Errorf("last audit row: %+v, %v", page, err)
	}
	phases, err := r.ledger().Phases(t.Context())
	if err != nil || phases["g"] != rollout.Aborted {
		t.Errorf("phases: %v, %v", phases, err)
	}
}
