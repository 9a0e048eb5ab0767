package proxybench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// The names of the contenders.
const (
	Nginx    = "nginx"
	HAProxy  = "haproxy"
	NginxLua = "nginx-lua"
	Bare     = "keyward-bare"
	Chain    = "keyward-chain"
	// Beside is what the names of another build's gateways have in addition.
	Beside = "-beside"
)

// Run is what one slice of one contender gave.
type Run struct {
	CPU      time.Duration // per request, of the contender
	Upstream time.Duration // per request
	Loader   time.Duration // per request
	Busy     float64       // share of the time that the contender was on a processor
	Others   float64       // share of a processor that others had who have nothing to do with it
	Rate     float64       // requests a second
	RSS      int64
}

// Series are the runs of a contender in the order of the turns, and what its loader saw when it ran without a pause.
type Series struct {
	Contender, Logs string
	Runs            []Run
	Loads           []Load
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

// prefix is what names begin with, like those of the other benchmarks.
const prefix = "e2e/load/proxybench."

// Measured is a result that is not compared with another one; a budget of 0 is none.
func Measured(name, unit string, value, budget float64) Result {
	r := Result{Name: prefix + name, Value: &value, Unit: unit, OK: true}
	if budget > 0 {
		r.Budget, r.OK = &budget, value <= budget
	}
	return r
}

// Judge makes the results of a variant: the figures of every contender, its CPU per request as a ratio to bare nginx, and
// a line for every budget, whose ratio is the upper end of the interval. A contender that has a budget and no runs misses
// it.
func Judge(variant string, all []Series, budgets []Budget) []Result {
	var results []Result
	baseline := values(all, Nginx, cpu)
	for _, s := range all {
		of := values(all, s.Contender, cpu)
		if len(of) == 0 {
			continue
		}
		name := variant + "/" + s.Contender
		r := Measured(name, "cpu-us/request", MedianInterval(of).Median, 0)
		if s.Contender != Nginx && len(baseline) > 0 {
			compare(&r, of, baseline)
		}
		results = append(results, r, Measured(name, "requests/s", MedianInterval(values(all, s.Contender, rate)).Median, 0),
			Measured(name, "p50-us", s.latency(p50), 0), Measured(name, "p99-us", s.latency(p99), 0),
			Measured(name, "rss-bytes", MedianInterval(values(all, s.Contender, rss)).Median, 0))
	}
	for _, b := range budgets {
		if b.Variant == variant {
			results = append(results, b.judge(all))
		}
	}
	return results
}

// compare fills in a ratio and returns its interval.
func compare(r *Result, of, baselines []float64) Interval {
	base := MedianInterval(baselines).Median
	ratio := MedianInterval(Ratios(of, baselines))
	r.Baseline, r.Ratio = &base, &ratio.Median
	return ratio
}

// The units of the figures in results.
func cpu(r Run) float64  { return micros(r.CPU) }
func rate(r Run) float64 { return r.Rate }
func rss(r Run) float64  { return float64(r.RSS) }
func p50(l Load) float64 { return micros(l.P50) }
func p99(l Load) float64 { return micros(l.P99) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func values(all []Series, contender string, figure func(Run) float64) []float64 {
	for _, s := range all {
		if s.Contender == contender {
			out := make([]float64, len(s.Runs))
			for i, r := range s.Runs {
				out[i] = figure(r)
			}
			return out
		}
	}
	return nil
}

// latency is the median of a quantile that the loader saw.
func (s Series) latency(quantile func(Load) float64) float64 {
	of := make([]float64, len(s.Loads))
	for i, l := range s.Loads {
		of[i] = quantile(l)
	}
	return MedianInterval(of).Median
}

// Table prints a variant for people.
func Table(w io.Writer, variant string, all []Series) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s\n", variant)
	fmt.Fprintln(t, "contender\tlog\tCPU µs/req\tof nginx\tinterval\tbusy\treq/s\tp50 ms\tp99 ms\tRSS MiB\tupstream µs\tloader µs\tothers\t")
	baseline := values(all, Nginx, cpu)
	for _, s := range all {
		m := func(figure func(Run) float64) float64 { return MedianInterval(values(all, s.Contender, figure)).Median }
		ratio := MedianInterval(Ratios(values(all, s.Contender, cpu), baseline))
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%.2f\t%.2f–%.2f\t%.0f%%\t%.0f\t%.2f\t%.2f\t%.0f\t%.1f\t%.1f\t%.0f%%\t\n", s.Contender, s.Logs, m(cpu), ratio.Median, ratio.Low, ratio.High,
			m(func(r Run) float64 { return r.Busy * 100 }), m(rate), s.latency(p50)/1000, s.latency(p99)/1000, m(rss)/(1<<20),
			m(func(r Run) float64 { return micros(r.Upstream) }), m(func(r Run) float64 { return micros(r.Loader) }), m(func(r Run) float64 { return r.Others * 100 }))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range all {
		if before := values(all, s.Contender+Beside, cpu); len(before) > 0 {
			ratio := MedianInterval(Ratios(values(all, s.Contender, cpu), before))
			fmt.Fprintf(w, "%s of %s: %.3f, %.3f–%.3f\n", s.Contender, s.Contender+Beside, ratio.Median, ratio.Low, ratio.High)
		}
	}
	if len(all) > 0 {
		n := len(all[0].Runs)
		fmt.Fprintf(w, "medians of %d turns; the interval of the median ratio covers %.0f%%\n", n, 100*MedianInterval(make([]float64, n)).Coverage)
	}
	return nil
}

// Lines writes results as JSON lines.
func Lines(w io.Writer, results []Result) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, r := range results {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// Missed names the budgets that were missed.
func Missed(results []Result) string {
	var missed []string
	for _, r := range results {
		if !r.OK {
			missed = append(missed, fmt.Sprintf("%s (%s)", r.Name, r.Unit))
		}
	}
	return strings.Join(missed, ", ")
}
