package run_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"keyward.dev/shared/run"
)

var errBroken = errors.New("broken")

func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestGroupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	reason := errors.New("asked to stop")
	for name, task := range map[string]run.Task{
		"returns the context's error": untilEnd,
		"returns the cause":           func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		"returns nil":                 func(ctx context.Context) error { <-ctx.Done(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			started := func(context.Context) error { cancel(reason); return nil }
			if err := run.Group(ctx, task, started); err != nil {
				t.Errorf("Group() = %v, want nil", err)
			}
		})
	}
}

func TestGroupFirstFailureCancelsSiblingsWithTheCause(t *testing.T) {
	t.Parallel()
	var seen error
	err := run.Group(t.Context(),
		func(ctx context.Context) error { <-ctx.Done(); seen = context.Cause(ctx); return ctx.Err() },
		func(context.Context) error { return errBroken },
	)
	if !errors.Is(err, errBroken) || !errors.Is(seen, errBroken) {
		t.Errorf("Group() = %v with cause %v, want %v for both", err, seen, errBroken)
	}
}

func TestGroupReportsAFailureDuringShutdown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run.Group(ctx, func(context.Context) error { return errBroken })
	if !errors.Is(err, errBroken) {
		t.Errorf("Group() = %v, want %v", err, errBroken)
	}
}

func TestGroupTurnsAPanicIntoAnError(t *testing.T) {
	t.Parallel()
	err := run.Group(t.Context(), untilEnd, func(context.Context) error { panic("boom") })
	var p *run.PanicError
	if !errors.As(err, &p) || p.Value != "boom" || !strings.Contains(err.Error(), "run_test.go") {
		t.Errorf("Group() = %v, want a PanicError that shows where", err)
	}
}

func TestGroupGoesOnWhenOneTaskIsDone(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	err := run.Group(t.Context(),
		func(context.Context) error { close(done); return nil },
		func(ctx context.Context) error { <-done; return ctx.Err() },
	)
	if err != nil {
		t.Errorf("Group() = %v, want nil", err)
	}
}
