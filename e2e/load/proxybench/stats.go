package proxybench

import (
	"math"
	"slices"
)

// Interval is a median and how sure it is.
type Interval struct {
	Median, Low, High float64
	// Coverage is how probable it is that the true median lies from Low to High.
	Coverage float64
}

// wanted is the coverage that is aimed at; few values give less.
const wanted = 0.95

// MedianInterval returns the median of independent values and the narrowest interval, between two of the values that are
// equally far from the ends, that has the wanted coverage; if none has, the one from the least to the greatest. It assumes nothing about how
// the values are distributed.
func MedianInterval(values []float64) Interval {
	n := len(values)
	if n == 0 {
		nan := math.NaN()
		return Interval{nan, nan, nan, 0}
	}
	sorted := slices.Sorted(slices.Values(values))
	at := 0
	for next := 1; 2*next < n-1 && coverage(n, next) >= wanted; next++ {
		at = next
	}
	return Interval{Median: median(sorted), Low: sorted[at], High: sorted[n-1-at], Coverage: coverage(n, at)}
}

// coverage is the probability that the median is between the value with this many below it and the one with as many above it: each value
// is below the median with probability one half.
func coverage(n, below int) float64 {
	outside, ways := 0.0, 1.0
	for i := range below + 1 {
		outside += ways
		ways = ways * float64(n-i) / float64(i+1)
	}
	return max(0, 1-2*outside/math.Pow(2, float64(n)))
}

// Ratios are those of the turns: what slows down the machine for a while falls on both.
func Ratios(values, baselines []float64) []float64 {
	n := min(len(values), len(baselines))
	out := make([]float64, n)
	for i := range n {
		out[i] = values[i] / baselines[i]
	}
	return out
}

func median(sorted []float64) float64 {
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
