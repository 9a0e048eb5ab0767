package adminapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"

	"keyward.dev/controlplane/internal/rollout"
)

// rollouts is a desk: the group a is rolling out, others are not staged.
type rollouts struct{}

func (r *rollouts) Status(_ context.Context, group string) (rollout.Status, error) {
	if group != "a" {
		return rollout.Status{}, nil
	}
	return rollout.Status{Waiting: "nobody", Stages: []rollout.StageStatus{{Connected: 1, Applied: 1}, {Connected: 2}}, State: &rollout.State{
		Epoch: 1, Revision: 7, Targets: []int64{7, 5}, Phase: rollout.Rolling, Since: time.Unix(1700000000, 0),
		Plan: &configv1.Rollout{Stages: []*configv1.RolloutStage{{Percent: 100_000}}},
	}}, nil
}

func (r *rollouts) Steer(ctx context.Context, group string, a rollout.Action, _, reason string) (rollout.Status, error) {
	if a == rollout.Resume {
		return rollout.Status{}, problem.Errorf(problem.Conflict, "nothing to resume")
	}
	s, err := r.Status(ctx, group)
	s.State.Phase, s.State.Reason = rollout.Paused, reason
	return s, err
}

func TestRolloutOverREST(t *testing.T) {
	t.Parallel()
	a := serve(t)
	admin := a.admin()
	cases := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"status", "GET", "/v1/groups/a/rollout", "", http.StatusOK, `"members":"10%","target":7,"connected":1,"applied":1`},
		{"what it waits for", "GET", "/v1/groups/a/rollout", "", http.StatusOK, `"waiting":"nobody"`},
		{"a group that stages nothing", "GET", "/v1/groups/b/rollout", "", http.StatusOK, `"state":"unstaged"`},
		{"no such group", "GET", "/v1/groups/none/rollout", "", http.StatusNotFound, ""},
		{"pause", "POST", "/v1/groups/a/rollout:steer", `{"action":"pause","reason":"lunch"}`, http.StatusOK, `"reason":"lunch"`},
		{"conflict", "POST", "/v1/groups/a/rollout:steer", `{"action":"resume"}`, http.StatusConflict, "nothing to resume"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := a.call(c.method, c.path, admin, c.body)
			status, body := got.status, string(got.body)
			if status != c.status || !strings.Contains(strings.ReplaceAll(body, " ", ""), strings.ReplaceAll(c.want, " ", "")) {
				t.Errorf("%s %s = %d %s; want %d with %s", c.method, c.path, status, body, c.status, c.want)
			}
		})
	}
}
