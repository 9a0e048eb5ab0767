package syncbench_test

import (
	"testing"
	"time"

	"keyward.dev/e2e/load/syncbench"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for _, test := range []struct {
		name    string
		of      []time.Duration
		percent int
		want    time.Duration
	}{
		{"none", nil, 99, 0},
		{"one", []time.Duration{7}, 99, 7},
		{"median of three", []time.Duration{9, 1, 5}, 50, 5},
		{"99 of a hundred", hundred, 99, 99},
		{"all", hundred, 100, 100},
		{"the least", hundred, 0, 1},
	} {
		if got := syncbench.Percentile(test.of, test.percent); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestSlowest(t *testing.T) {
	t.Parallel()
	took := []time.Duration{2 * time.Millisecond, 9500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond}
	if got, want := syncbench.Slowest(took, 3), "9.5 (2 of 4), 2.0 (1 of 4), 2.0 (4 of 4)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := syncbench.Slowest(took[2:3], 3), "1.0 (1 of 1)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	if r := syncbench.Against("a", "ms", 15, 10, 1.5); !r.OK || *r.Ratio != 1.5 || *r.Baseline != 10 {
		t.Errorf("15 against 10: %+v", r)
	}
	if r := syncbench.Against("a", "ms", 15.1, 10, 1.5); r.OK {
		t.Error("15.1 is within 1.5 times 10")
	}
	if r := syncbench.Against("a", "ms", 1, 0, 1.5); r.OK {
		t.Error("a baseline that was not measured is no baseline")
	}
	if !syncbench.Within("a", "ms", 3, 3).OK || syncbench.Within("a", "ms", 4, 3).OK {
		t.Error("a budget of 3 holds 3 and nothing more")
	}
	if r := syncbench.Figure("a", "ms", 4); !r.OK || r.Budget != nil || r.Name != "e2e/load/syncbench.a" {
		t.Errorf("a figure: %+v", r)
	}
}
