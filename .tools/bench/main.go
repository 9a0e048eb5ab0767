// Command bench runs the benchmarks of the given modules and holds their results against the budgets. It prints one JSON
// line a result: {name, value, unit, baseline, ratio, budget, ok}. `make bench` calls it; the benchmarks themselves stand
// beside the code they measure. All benchmarks of a package run once a round, and there are several rounds, so that what
// else the machine does falls on a result and its baseline alike.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	budgets := flag.String("budgets", "", "`file` with the budgets")
	out := flag.String("out", "", "`file` to write the JSON lines to as well")
	check := flag.Bool("check", false, "fail if a budget is missed or a benchmark that has one is missing")
	pattern := flag.String("bench", ".", "which benchmarks to run, a `regexp`")
	rounds := flag.Int("rounds", 9, "`number` of runs of each, of which the median counts")
	limit := flag.Duration("limit", 30*time.Second, "no further round of a package after this `time`, but at least three")
	duration := flag.String("benchtime", "100ms", "`time` of each run")
	full := flag.Bool("full", false, "hold against the budgets of what takes long, too")
	flag.Parse()
	o := options{
		budgets: *budgets, out: *out, check: *check, modules: flag.Args(), rounds: *rounds, limit: *limit, full: *full,
		args: []string{"-test.run", "^$", "-test.bench", *pattern, "-test.benchmem", "-test.benchtime", *duration, "-test.timeout", "60m"},
		all:  *pattern == ".",
	}
	if err := bench(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	budgets, out     string
	check, all, full bool
	rounds           int
	limit            time.Duration
	args             []string
	modules          []string
}

func bench(o options) error {
	budgets, err := readBudgets(o.budgets)
	if err != nil {
		return err
	}
	if !o.full {
		budgets = slices.DeleteFunc(budgets, func(b Budget) bool { return b.Full })
	}
	var targets []target
	for _, module := range o.modules {
		packages, err := withBenchmarks(module)
		if err != nil {
			return err
		}
		for _, pkg := range packages {
			targets = append(targets, target{module, pkg})
		}
	}
	samples := Samples{}
	results, err := series(o, targets, budgets, samples)
	for range again {
		missed := slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !t.missed(results) })
		if err != nil || len(missed) == 0 {
			break
		}
		fmt.Fprintln(os.Stderr, "bench: a budget is missed, measuring more rounds of", missed)
		results, err = series(o, missed, budgets, samples)
	}
	if err != nil {
		return err
	}
	return tell(o, results)
}

// again is how often more rounds are taken of what missed a budget: a few rounds on a busy machine are a small sample.
// All rounds count, so that trying again is no way to pass.
const again = 2

// target is a package with benchmarks.
type target struct{ module, pkg string }

func (t target) String() string { return filepath.ToSlash(filepath.Join(t.module, t.pkg)) }

// missed says whether a measured result of the package misses its budget.
func (t target) missed(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool {
		return !r.OK && r.Value != nil && strings.HasPrefix(r.Name, t.String()+".")
	})
}

// series measures the packages once more and judges all that was measured so far.
func series(o options, targets []target, budgets []Budget, samples Samples) ([]Result, error) {
	for _, t := range targets {
		if err := measure(t, o, samples); err != nil {
			return nil, fmt.Errorf("%v: %w", t, err)
		}
	}
	return Judge(samples, budgets, o.all), nil
}

// tell writes the results and fails if one misses its budget and that was asked for.
func tell(o options, results []Result) error {
	var lines strings.Builder
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	var missed []string
	for _, r := range results {
		if err := encoder.Encode(r); err != nil {
			return err
		}
		if !r.OK {
			missed = append(missed, fmt.Sprintf("%s (%s)", r.Name, r.Unit))
		}
	}
	fmt.Print(lines.String())
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(lines.String()), 0o644); err != nil {
			return err
		}
	}
	if o.check && len(missed) > 0 {
		return fmt.Errorf("budget missed: %s", strings.Join(missed, ", "))
	}
	return nil
}

func readBudgets(path string) ([]Budget, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var budgets []Budget
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&budgets); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return budgets, nil
}

var benchmarkFunc = regexp.MustCompile(`(?m)^func Benchmark[A-Z0-9_]`)

// withBenchmarks finds the packages of a module that have benchmarks, so that the others need not be built.
func withBenchmarks(module string) ([]string, error) {
	var packages []string
	err := filepath.WalkDir(module, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != module:
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(module, filepath.Dir(path))
		if name := "./" + relative; benchmarkFunc.Match(source) && !slices.Contains(packages, name) {
			packages = append(packages, name)
		}
		return err
	})
	return packages, err
}

// measure builds the tests of a package and runs its benchmarks round after round.
func measure(t target, o options, into Samples) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bench.test")
	build := exec.Command("go", "-C", t.module, "test", "-c", "-o", binary, t.pkg)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	start := time.Now()
	for n := range o.rounds {
		if n >= min(o.rounds, 3) && time.Since(start) > o.limit {
			return nil
		}
		if err := round(binary, t.String(), o.args, into); err != nil {
			return err
		}
	}
	return nil
}

// round runs every benchmark of a built package once.
func round(binary, dir string, args []string, into Samples) error {
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(io.TeeReader(output, os.Stderr))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		into.Add(dir, lines.Text())
	}
	return errors.Join(lines.Err(), cmd.Wait())
}
