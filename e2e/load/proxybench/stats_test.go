package proxybench_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"keyward.dev/e2e/load/proxybench"
)

func TestMedianInterval(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		values []float64
		want   proxybench.Interval
	}{
		{"one", []float64{4}, proxybench.Interval{Median: 4, Low: 4, High: 4, Coverage: 0}},
		{"three", []float64{3, 1, 2}, proxybench.Interval{Median: 2, Low: 1, High: 3, Coverage: 0.75}},
		{"even", []float64{4, 1, 2, 3}, proxybench.Interval{Median: 2.5, Low: 1, High: 4, Coverage: 0.875}},
		{"six are needed", []float64{1, 2, 3, 4, 5, 6}, proxybench.Interval{Median: 3.5, Low: 1, High: 6, Coverage: 0.96875}},
		{"nine spare an outlier", []float64{9, 8, 7, 6, 5, 4, 3, 2, 100}, proxybench.Interval{Median: 6, Low: 3, High: 9, Coverage: 1 - 20.0/512}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := proxybench.MedianInterval(test.values); got != test.want {
				t.Errorf("MedianInterval() = %+v, want %+v", got, test.want)
			}
		})
	}
	if none := proxybench.MedianInterval(nil); !math.IsNaN(none.Median) || none.Coverage != 0 {
		t.Errorf("MedianInterval(nil) = %+v", none)
	}
}

func TestIntervalsCoverTheMedianAsOftenAsTheySay(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const trials, n = 20_000, 15
	inside, said := 0, 0.0
	for range trials {
		values := make([]float64, n)
		for i := range values {
			values[i] = random.ExpFloat64()
		}
		interval := proxybench.MedianInterval(values)
		if interval.Low <= math.Ln2 && math.Ln2 <= interval.High {
			inside++
		}
		said = interval.Coverage
	}
	if got := float64(inside) / trials; math.Abs(got-said) > 0.01 || said < 0.95 {
		t.Errorf("the median is inside %.3f of the intervals, which say %.3f", got, said)
	}
}

func TestRatiosAreThoseOfTheRounds(t *testing.T) {
	t.Parallel()
	// The machine was three times slower in the second round.
	ratios := proxybench.Ratios([]float64{11, 36, 12}, []float64{10, 30, 10, 99})
	if got := proxybench.MedianInterval(ratios).Median; got != 1.2 || len(ratios) != 3 {
		t.Errorf("median ratio = %v of %v, want 1.2", got, ratios)
	}
}
