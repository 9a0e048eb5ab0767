package proxybench_test

import (
	"bytes"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// roundsWithoutBudget is how many rounds a variant has that is for orientation.
const roundsWithoutBudget = 3

// options come from the environment, as `make bench-proxy` sets it.
type options struct {
	full, check    bool
	choice         proxybench.Choice
	rounds         int
	workers        int
	window         time.Duration // in which latency and handshakes are measured, without a pause
	out, profileTo string
	beside         string // where another build is that is compared too
}

// TestBenchProxy measures; it is no test of anything unless it is asked to hold the results against the budgets.
func TestBenchProxy(t *testing.T) {
	if os.Getenv("KEYWARD_BENCH_PROXY") == "" {
		t.Skip("a measurement: run make bench-proxy")
	}
	b := &bench{t: t, options: readOptions(t), rows: map[bool][]*contender{}}
	b.describe()
	b.startUpstream()
	for _, v := range b.choice.Of(proxybench.Variants()) {
		b.compare(v)
	}
	b.shakeHands()
	b.countMallocs()
	b.measureIdle()
	b.streamBodies()
	b.tell()
}

func readOptions(t *testing.T) options {
	t.Helper()
	o := options{
		full: os.Getenv("KEYWARD_FULL") != "", check: os.Getenv("KEYWARD_BENCH_CHECK") != "",
		out: os.Getenv("KEYWARD_BENCH_OUT"), profileTo: os.Getenv("KEYWARD_BENCH_PROFILE"),
		beside: os.Getenv("KEYWARD_BENCH_BESIDE"), rounds: 3, workers: 1, window: 2 * time.Second,
	}
	if o.full {
		o.rounds = 9
	}
	o.choice.Full = o.full
	if pattern := os.Getenv("KEYWARD_BENCH_VARIANTS"); pattern != "" {
		chosen, err := regexp.Compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		o.choice.Pattern = chosen
	}
	for name, into := range map[string]*int{"KEYWARD_BENCH_ROUNDS": &o.rounds, "KEYWARD_BENCH_WORKERS": &o.workers} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q is no number", name, text)
		}
		*into = n
	}
	return o
}

// bench is one call of `make bench-proxy`.
type bench struct {
	t *testing.T
	options
	proc         proxybench.Proc
	upstream     *server
	upstreamAddr string
	gateways     *gateways             // started when first needed, as are the rows
	rows         map[bool][]*contender // by whether it is the large one
	scratchDir   string
	results      []proxybench.Result
}

// describe says what the figures depend on.
func (b *bench) describe() {
	congestion, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		congestion = []byte("unknown")
	}
	pinned := "not pinned"
	if b.pinned() {
		pinned = "the contender alone on the last processor, loader and upstream on the others"
	}
	b.say("%d processors, %s; every contender has %d worker(s): worker_processes, nbthread, GOMAXPROCS", runtime.NumCPU(), pinned, b.workers)
	b.say("%d rounds; congestion control %s", b.rounds, bytes.TrimSpace(congestion))
}

// tell writes the lines and fails if a budget is missed and that was asked for.
func (b *bench) tell() {
	b.t.Helper()
	if len(b.results) == 0 {
		b.t.Fatal("nothing was chosen: VARIANTS is a regular expression that matches names like plain/1KiB/64/one-route")
	}
	var lines bytes.Buffer
	if err := proxybench.Lines(&lines, b.results); err != nil {
		b.t.Fatal(err)
	}
	b.say("")
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
