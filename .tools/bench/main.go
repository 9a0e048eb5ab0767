// Command bench runs the benchmarks of the given modules and holds their results against the budgets. It prints one JSON
// line a result: {name, value, unit, baseline, ratio, budget, ok}. `make bench` calls it; the benchmarks themselves stand
// beside the code they measure.
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
)

func main() {
	budgets := flag.String("budgets", "", "`file` with the budgets")
	out := flag.String("out", "", "`file` to write the JSON lines to as well")
	check := flag.Bool("check", false, "fail if a budget is missed or a benchmark that has one is missing")
	pattern := flag.String("bench", ".", "which benchmarks to run, a `regexp`")
	count := flag.Int("count", 5, "`runs` of each, of which the median counts")
	duration := flag.String("benchtime", "200ms", "`time` of each run")
	flag.Parse()
	o := options{
		budgets: *budgets, out: *out, check: *check, modules: flag.Args(),
		args: []string{"-bench", *pattern, "-count", fmt.Sprint(*count), "-benchtime", *duration},
		all:  *pattern == ".",
	}
	if err := bench(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	budgets, out string
	check, all   bool
	args         []string
	modules      []string
}

func bench(o options) error {
	budgets, err := readBudgets(o.budgets)
	if err != nil {
		return err
	}
	samples := Samples{}
	for _, module := range o.modules {
		packages, err := withBenchmarks(module)
		if err != nil {
			return err
		}
		if len(packages) == 0 {
			continue
		}
		if err := run(module, packages, o.args, samples); err != nil {
			return err
		}
	}
	results := Judge(samples, budgets, o.all)
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

// run measures one package after the other: side by side they would disturb each other.
func run(module string, packages, args []string, into Samples) error {
	args = append([]string{"-C", module, "test", "-run", "^$", "-p", "1", "-benchmem", "-timeout", "60m"}, args...)
	cmd := exec.Command("go", append(args, packages...)...)
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(io.TeeReader(output, os.Stderr))
	lines.Buffer(nil, 1<<20)
	var pkg string
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "pkg: "); ok {
			pkg = strings.TrimPrefix(path, "keyward.dev/")
			continue
		}
		into.Add(pkg, lines.Text())
	}
	return errors.Join(lines.Err(), cmd.Wait())
}
