package syncbench_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"keyward.dev/e2e/load/proxybench"
	"keyward.dev/e2e/load/syncbench"
)

// bareEnv makes this program a side of the bare fan-out, see TestMain.
const bareEnv = "KEYWARD_BENCH_BARE"

// TestMain lets the program start itself as what it measures beside, so that both are processes of their own.
func TestMain(m *testing.M) {
	side := os.Getenv(bareEnv)
	if side == "" {
		os.Exit(m.Run())
	}
	dir, addr := os.Getenv(bareEnv+"_DIR"), os.Getenv(bareEnv+"_ADDR")
	var err error
	if streams, notANumber := strconv.Atoi(side); notANumber == nil {
		err = syncbench.ReceiveBare(context.Background(), dir, addr, streams, os.Stdout)
	} else {
		err = syncbench.ServeBare(dir, addr, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// bench is one call of `make bench-sync`.
type bench struct {
	t           *testing.T
	full, check bool
	parts       *regexp.Regexp
	out         string
	proc        proxybench.Proc
	results     []proxybench.Result
}

// TestBenchSync measures; it is no test of anything unless it is asked to hold the results against the budgets.
func TestBenchSync(t *testing.T) {
	if os.Getenv("KEYWARD_BENCH_SYNC") == "" {
		t.Skip("a measurement: run make bench-sync")
	}
	b := &bench{
		t: t, full: os.Getenv("KEYWARD_FULL") != "", check: os.Getenv("KEYWARD_BENCH_CHECK") != "",
		out: os.Getenv("KEYWARD_BENCH_OUT"), proc: proxybench.Proc{Root: "/proc"},
	}
	var err error
	if b.parts, err = regexp.Compile(os.Getenv("KEYWARD_BENCH_PARTS")); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name string
		run  func(*bench)
	}{
		{"fanout", (*bench).fanout},
		{"size", (*bench).size},
		{"traffic", (*bench).traffic},
		{"large", (*bench).large},
		{"keys", (*bench).keys},
		{"outage", (*bench).outage},
	} {
		if b.parts.MatchString(part.name) {
			b.say("%s:", part.name)
			t.Run(part.name, func(t *testing.T) { // what a part starts ends with it
				one := *b
				one.t = t
				part.run(&one)
				b.results = one.results
			})
		}
	}
	b.tell()
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// tell writes the lines and fails if a budget is missed and that was asked for.
func (b *bench) tell() {
	b.t.Helper()
	if len(b.results) == 0 {
		b.t.Fatal("nothing was measured: PARTS is a regular expression that matches names of parts")
	}
	var lines bytes.Buffer
	if err := proxybench.Lines(&lines, b.results); err != nil {
		b.t.Fatal(err)
	}
	_, _ = os.Stdout.Write(lines.Bytes())
	if b.out != "" {
		if err := os.WriteFile(b.out, lines.Bytes(), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	if missed := proxybench.Missed(b.results); missed != "" {
		b.say("budgets missed: %s", missed)
		if b.check {
			b.t.Fail()
		}
	}
}

func (b *bench) add(r proxybench.Result) {
	b.results = append(b.results, r)
	line := fmt.Sprintf("  %-60s %14.3f %s", strings.TrimPrefix(r.Name, syncbench.Figure("", "", 0).Name), *r.Value, r.Unit)
	if r.Ratio != nil {
		line += fmt.Sprintf("  (%.2f × %.3f)", *r.Ratio, *r.Baseline)
	}
	if r.Budget != nil {
		line += fmt.Sprintf("  budget %.3f", *r.Budget)
	}
	if !r.OK {
		line += "  MISSED"
	}
	b.say("%s", line)
}

// sized returns one value in a quick run and another in a full one.
func sized[T any](b *bench, quick, full T) T {
	if b.full {
		return full
	}
	return quick
}
