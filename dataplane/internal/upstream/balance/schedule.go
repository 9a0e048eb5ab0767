package balance

import (
	"cmp"
	"math"
	"slices"
)

// maxTurns bounds a schedule; weights that would need a longer one are rounded.
const maxTurns = 1024

// schedule returns an order of the candidates in which each comes as often as its weight says, as evenly as possible.
func schedule(from []candidate) []uint32 {
	turns := counts(from)
	type turn struct {
		at   float64
		from uint32
	}
	var all []turn
	for i, n := range turns {
		for k := range n {
			all = append(all, turn{(float64(k) + 0.5) / float64(n), uint32(i)})
		}
	}
	slices.SortStableFunc(all, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	order := make([]uint32, len(all))
	for i, t := range all {
		order[i] = t.from
	}
	return order
}

// counts are the weights as small whole numbers.
func counts(from []candidate) []int {
	var sum, divisor float64
	for _, f := range from {
		sum += f.weight
		divisor = gcd(divisor, f.weight)
	}
	scale := 1.0
	if divisor > 0 {
		scale = 1 / divisor
	}
	if most := float64(max(maxTurns, 4*len(from))); divisor == 0 || sum*scale > most {
		scale = most / sum
	}
	out := make([]int, len(from))
	for i, f := range from {
		out[i] = max(1, int(math.Round(f.weight*scale)))
	}
	return out
}

// gcd returns 0 if the numbers are not whole.
func gcd(a, b float64) float64 {
	if b != math.Trunc(b) || a != math.Trunc(a) {
		return 0
	}
	for b != 0 {
		a, b = b, math.Mod(a, b)
	}
	return a
}
