package policytest_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/policy/policytest"
)

func TestDeviations(t *testing.T) {
	t.Parallel()
	seconds := func(of ...time.Duration) []time.Duration { return of }
	for _, tt := range []struct {
		name   string
		as, bs []time.Duration
		want   float64
	}{
		{"all alike", seconds(1, 1, 1), seconds(1, 1, 1), 0},
		{"one above the other", seconds(1, 2, 3), seconds(4, 5, 6), 4.5 / math.Sqrt(5.25)},
		{"the other way round", seconds(4, 5, 6), seconds(1, 2, 3), 4.5 / math.Sqrt(5.25)},
		{"in turn", seconds(1, 3, 5), seconds(2, 4, 6), 1.5 / math.Sqrt(5.25)},
		{"with a tie", seconds(1, 2), seconds(2, 3), 1.5 / math.Sqrt(1.5)},
	} {
		if got := policytest.Deviations(tt.as, tt.bs); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestTellApartHasTheEyesItNeeds: below noise of the same size it finds a tenth more, and where there is nothing it
// finds nothing.
func TestTellApartHasTheEyesItNeeds(t *testing.T) {
	t.Parallel()
	const n = 400
	draw := rand.New(rand.NewPCG(1, 2))
	times := func(least time.Duration) (of []time.Duration) {
		for range n {
			d := least + time.Duration(draw.ExpFloat64()*float64(100*time.Microsecond))
			if draw.IntN(20) == 0 {
				d += 10 * time.Millisecond // something else had the processor
			}
			of = append(of, d)
		}
		return of
	}
	for range 200 {
		if err := policytest.TellApart(times(time.Millisecond), times(time.Millisecond)); err != nil {
			t.Errorf("two of one sort are told apart: %v", err)
		}
		if err := policytest.TellApart(times(time.Millisecond), times(1100*time.Microsecond)); err == nil {
			t.Error("two sorts are not told apart")
		}
	}
}

func TestTimesAreOfBothInNoOrder(t *testing.T) {
	t.Parallel()
	var order []bool
	seen := map[int]int{}
	as, bs := policytest.Times(50, func(i int) { order = append(order, true); seen[i]++ }, func(i int) { order = append(order, false); seen[i]++ })
	if len(as) != 50 || len(bs) != 50 || len(seen) != 50 {
		t.Errorf("%d and %d times of %d", len(as), len(bs), len(seen))
	}
	turns := 0
	for i := range order[1:] {
		if order[i] != order[i+1] {
			turns++
		}
	}
	if turns < 20 || turns > 80 { // of 99, eight deviations from the middle of 50
		t.Errorf("they come in an order: %d turns", turns)
	}
}
