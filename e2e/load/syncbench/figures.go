package syncbench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// The budgets.
const (
	// FanOut is how much longer the last of many gateways may take than the last client of a bare fan-out of the same bytes.
	FanOut = 1.5
	// Enforce is what may come on top of making the change durable and a round trip until a request meets it.
	Enforce = 5 * time.Millisecond
	// Size is how much longer that may take with 100 times as many routes.
	Size = 1.5
	// Busy is what a request may cost while changes are applied, as a multiple of what it costs when all is quiet.
	Busy = 1.1
	// ColdStart and ColdMemory are for a gateway with 100,000 routes and as many consumers.
	ColdStart  = 3 * time.Second
	ColdMemory = 600 << 20
	// KeysMemory is for a gateway with a million keys, LargeReplica for a control plane with those routes and consumers.
	KeysMemory   = 12 << 30 / 10
	LargeReplica = 3 << 30 / 2
	// Return is how long all gateways may take to be back and up to date once the control plane is, and ReturnMemory how
	// much more a replica may need meanwhile than it did before.
	Return       = 15 * time.Second
	ReturnMemory = 2
	// Drift is how much of heap and goroutines may be left over from many changes: what the collector has not got to yet.
	Drift = 1.2
)

// prefix is what names begin with, like those of the other benchmarks.
const prefix = "e2e/load/syncbench."

// Figure is a result without a budget.
func Figure(name, unit string, value float64) proxybench.Result {
	return proxybench.Result{Name: prefix + name, Value: &value, Unit: unit, OK: true}
}

// Within is a result that may be as large as the budget.
func Within(name, unit string, value, budget float64) proxybench.Result {
	r := Figure(name, unit, value)
	r.Budget, r.OK = &budget, value <= budget
	return r
}

// Beside is a result with what it is a multiple of.
func Beside(name, unit string, value, baseline float64) proxybench.Result {
	r := Figure(name, unit, value)
	ratio := value / baseline
	r.Baseline, r.Ratio = &baseline, &ratio
	return r
}

// Against is a result that may be as large as a multiple of a baseline.
func Against(name, unit string, value, baseline, budget float64) proxybench.Result {
	r := Beside(name, unit, value, baseline)
	r.Budget, r.OK = &budget, *r.Ratio <= budget
	return r
}

// Percentile returns the smallest value that so many percent of all are not above; of none it is 0.
func Percentile(of []time.Duration, percent int) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// Slowest names the n longest by their place, from 1 on: what is slow at the beginning has another cause than what is slow at any time.
func Slowest(of []time.Duration, n int) string {
	places := make([]int, len(of))
	for i := range of {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(of[b], of[a]) })
	var out []string
	for _, i := range places[:min(n, len(places))] {
		out = append(out, fmt.Sprintf("%.1f (%d of %d)", Millis(of[i]), i+1, len(of)))
	}
	return strings.Join(out, ", ")
}

// Millis is a duration as the figures have it.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
