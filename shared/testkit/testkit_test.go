package testkit_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// recorder notes a Fatalf instead of ending the test.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic(r)
}

func TestAwait(t *testing.T) {
	t.Parallel()
	calls := 0
	testkit.Await(t, testkit.Deadline, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("Await() called the condition %d times, want 3", calls)
	}
}

func TestAwaitFailsAfterTheDeadline(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	defer func() {
		if recover() != any(r) || !r.failed {
			t.Error("Await() did not fail the test")
		}
	}()
	testkit.Await(r, time.Millisecond, func() error { return errors.New("never") })
}

// TestAddrsAreDifferent draws so often that a port that was not claimed would come twice.
func TestAddrsAreDifferent(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 300 {
		for _, addr := range testkit.Addrs(t, 2) {
			if seen[addr] && runtime.GOOS == "linux" {
				t.Errorf("Addrs() returned %s twice", addr)
			}
			seen[addr] = true
		}
	}
	testkit.Logger(t).Info("done", "addresses", len(seen))
}
