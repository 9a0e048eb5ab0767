package policytest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The bounds of TellApart. Of a billion tests two find more deviations by chance, whatever else the machine does, as that falls
// on both sorts. A share of less is what the place of things in memory makes.
const (
	maxDeviations = 6
	maxShare      = 0.05
)

// TellApart says why somebody who sees these times knows that they are of two sorts of requests, nil if he does not. Both have
// to be: that they differ beyond chance, and by more than a share of what they take.
func TellApart(as, bs []time.Duration) error {
	share := math.Abs(float64(middle(as))/float64(middle(bs)) - 1)
	if z := Deviations(as, bs); z > maxDeviations && share > maxShare {
		return fmt.Errorf("one takes %s and the other %s, which is %.1f deviations", middle(as), middle(bs), z)
	}
	return nil
}

func middle(of []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// Times measures two sorts of requests n times each, in an order drawn at random.
func Times(n int, a, b func(i int)) (as, bs []time.Duration) {
	order := rand.Perm(2 * n)
	for _, k := range order {
		start := time.Now()
		if k%2 == 0 {
			a(k / 2)
			as = append(as, time.Since(start))
		} else {
			b(k / 2)
			bs = append(bs, time.Since(start))
		}
	}
	return as, bs
}

// Deviations says by how many standard deviations of the rank-sum statistic of Mann and Whitney the times are not what they would
// be if they were of one sort. It asks for no distribution, and outliers weigh no more than others.
func Deviations(as, bs []time.Duration) float64 {
	type sample struct {
		took time.Duration
		a    bool
	}
	all := make([]sample, 0, len(as)+len(bs))
	for _, d := range as {
		all = append(all, sample{d, true})
	}
	for _, d := range bs {
		all = append(all, sample{d, false})
	}
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.took, y.took) })
	n, m := float64(len(as)), float64(len(bs))
	ranks, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].took == all[i].took {
			j++
		}
		same, rank := float64(j-i), float64(i+j+1)/2
		ties += same*same*same - same
		for ; i < j; i++ {
			if all[i].a {
				ranks += rank
			}
		}
	}
	u := ranks - n*(n+1)/2
	variance := n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1)))
	if variance == 0 {
		return 0 // all took the same
	}
	return math.Abs(u-n*m/2) / math.Sqrt(variance)
}
