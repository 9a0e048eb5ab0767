package grpcstatus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyward.dev/controlplane/internal/adminapi/grpcstatus"
	"keyward.dev/shared/problem"
)

func TestEveryProblemSurvivesTheWire(t *testing.T) {
	t.Parallel()
	for _, code := range problem.Codes() {
		want := problem.New(code, "what happened")
		want.Violations = []problem.Violation{
			{Path: "routes[0].paths", Reason: "is wrong", Resource: "routes/a", Line: 3, Column: 7},
			{Path: "", Reason: "is wrong too"},
		}
		got := grpcstatus.ToProblem(grpcstatus.FromProblem(want))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", code, diff)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want problem.Code
		code codes.Code
	}{
		{"wrapped problem", fmt.Errorf("put: %w", problem.Errorf(problem.Conflict, "in use")), problem.Conflict, codes.FailedPrecondition},
		{"unknown error", errors.New("dial postgres://secret"), problem.Internal, codes.Internal},
		{"deadline", context.DeadlineExceeded, problem.Unavailable, codes.Unavailable},
		{"status", status.Error(codes.NotFound, "x"), problem.NotFound, codes.NotFound},
	} {
		err := grpcstatus.Of(tc.err)
		if got := grpcstatus.ToProblem(err); got.Code != tc.want || status.Code(err) != tc.code {
			t.Errorf("%s: %s, %v, want %s, %v", tc.name, got.Code, status.Code(err), tc.want, tc.code)
		}
	}
	if got := status.Convert(grpcstatus.Of(errors.New("dial postgres://secret"))).Message(); got != "" {
		t.Errorf("the text of an unknown error was shown: %q", got)
	}
	if grpcstatus.Of(nil) != nil || grpcstatus.ToProblem(nil) != nil {
		t.Error("nil is not nil")
	}
}

func TestManyViolationsAreCounted(t *testing.T) {
	t.Parallel()
	p := problem.New(problem.Invalid, "")
	p.Violations = make([]problem.Violation, 1500)
	got := grpcstatus.ToProblem(grpcstatus.FromProblem(p)).Violations
	if len(got) != 1001 || got[1000].Reason != "and 500 more" {
		t.Errorf("%d violations, last %q, want 1001, \"and 500 more\"", len(got), got[len(got)-1].Reason)
	}
}
