package main

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Key names one measured quantity: the benchmark as "package.Name/sub" without "Benchmark", and the unit.
type Key struct{ Name, Unit string }

// Samples are the values of all runs.
type Samples map[Key][]float64

// Budget limits one quantity: its value, or where a baseline is named, its ratio to that.
type Budget struct {
	// Name and Unit are those of the result.
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Baseline is the name of another benchmark of the same run, whose value in the same unit the ratio is taken of.
	Baseline string `json:"baseline,omitempty"`
	// Full says that the benchmark runs only when everything is wanted.
	Full bool `json:"full,omitempty"`
	// Max is the budget.
	Max float64 `json:"max"`
	// Reason says where the figure comes from.
	Reason string `json:"reason"`
}

// Result is one line of the report. A number that does not apply is null.
type Result struct {
	Name     string   `json:"name"`
	Value    *float64 `json:"value"`
	Unit     string   `json:"unit"`
	Baseline *float64 `json:"baseline"`
	Ratio    *float64 `json:"ratio"`
	Budget   *float64 `json:"budget"`
	OK       bool     `json:"ok"`
}

// processors is what the testing package puts behind a name when more than one is used.
var processors = regexp.MustCompile(`-\d+$`)

// Add takes the values of one line of output; lines that are no results are passed over.
func (s Samples) Add(pkg, line string) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return
	}
	if _, err := strconv.Atoi(fields[1]); err != nil {
		return
	}
	name := pkg + "." + processors.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return
		}
		key := Key{name, fields[i+1]}
		s[key] = append(s[key], value)
	}
}

// Judge compares the medians with the budgets, and medians of ratios where a budget is one. With all set, a budget without a result counts as missed: a benchmark
// that was renamed or no longer runs would otherwise pass for ever.
func Judge(samples Samples, budgets []Budget, all bool) []Result {
	var results []Result
	limits := map[Key]Budget{}
	for _, b := range budgets {
		key := Key{b.Name, b.Unit}
		limits[key] = b
		if _, measured := samples[key]; !measured && all {
			results = append(results, Result{Name: b.Name, Unit: b.Unit, Budget: &b.Max})
		}
	}
	for key, values := range samples {
		value := median(values)
		r := Result{Name: key.Name, Unit: key.Unit, Value: &value, OK: true}
		if b, limited := limits[key]; limited {
			judge(&r, b, samples)
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b Result) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Unit, b.Unit))
	})
	return results
}

func judge(r *Result, b Budget, samples Samples) {
	r.Budget = &b.Max
	if b.Baseline == "" {
		r.OK = *r.Value <= b.Max
		return
	}
	values, measured := samples[Key{b.Baseline, b.Unit}]
	if !measured {
		r.OK = false
		return
	}
	baseline := median(values)
	r.Baseline = &baseline
	ratio := ratioOf(samples[Key{r.Name, r.Unit}], values)
	if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
		r.OK = *r.Value <= baseline
		return
	}
	r.Ratio = &ratio
	r.OK = ratio <= b.Max
}

// ratioOf is the median of the rounds' ratios: what slows down the machine for a while then falls on both. Where the
// rounds do not match it is the ratio of the medians.
func ratioOf(values, baselines []float64) float64 {
	if len(values) != len(baselines) {
		return median(values) / median(baselines)
	}
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / baselines[i]
	}
	return median(ratios)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
