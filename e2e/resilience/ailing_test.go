package resilience_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/e2e/load"
	"keyward.dev/shared/testkit"
)

// slack is what a busy machine may add to a bound in time.
const slack = 3 * time.Second

func atFullRate() bool { return os.Getenv("KEYWARD_FULL") != "" }

// beside lets a trial run beside other tests, unless its rate is one that takes a machine.
func beside(t *testing.T) {
	t.Helper()
	if !atFullRate() {
		t.Parallel()
	}
}

// dependency is what callers are checked with, each of its addresses behind a link.
type dependency struct {
	links []*harness.Link
	// real is where the links go to, garbage who talks nonsense there.
	real, garbage []string
	// stop kills it, start brings it back.
	stop, start func()
	// changed is called when it has begun to ail: what becomes new then cannot be known by anybody.
	changed func()
}

// ail makes the dependency fail: down, slow or garbage.
func (d *dependency) ail(how string) {
	if how == "down" {
		d.stop()
	}
	for i, l := range d.links {
		switch how {
		case "slow":
			l.Stall()
		case "garbage":
			l.Turn(d.garbage[i])
		}
	}
	if d.changed != nil {
		d.changed()
	}
}

func (d *dependency) heal(how string) {
	if how == "down" {
		d.start()
	}
	for i, l := range d.links {
		switch how {
		case "slow":
			l.Heal()
		case "garbage":
			l.Turn(d.real[i])
		}
	}
}

// callers are many who do the same.
type callers struct {
	name string
	// share is how many of a hundred requests are theirs.
	share int
	host  string
	// fields are those of their next request: name, value, name, value…
	fields func() []string
	// well is how they are answered, and ill how while the dependency ails. Who is answered alike does not need it.
	well, ill int
}

// always are the same fields in each request.
func always(fields ...string) func() []string { return func() []string { return fields } }

func (c *callers) request() []byte {
	text := "GET /load HTTP/1.1\r\nHost: " + c.host + "\r\n"
	fields := c.fields()
	for i := 0; i+1 < len(fields); i += 2 {
		text += fields[i] + ": " + fields[i+1] + "\r\n"
	}
	return []byte(text + "\r\n")
}

// trial is a gateway with callers, and what they are checked with.
type trial struct {
	g       *harness.Gateway
	d       *dependency
	callers []callers
	// timeout is for how long a request waits for the dependency at most.
	timeout time.Duration
	// noticed waits until whoever asks the dependency has seen that it ails, recovered until it has seen that it does not.
	noticed, recovered func(t *testing.T)
	// push makes an unrelated change of the configuration and waits for it.
	push func()
}

// probe waits until some callers are answered so.
func (tr *trial) probe(t *testing.T, name string, want int) {
	t.Helper()
	tr.await(t, tr.callers[slices.IndexFunc(tr.callers, func(c callers) bool { return c.name == name })], want)
}

func (tr *trial) await(t *testing.T, c callers, want int) {
	t.Helper()
	testkit.Await(t, 90*time.Second, func() error {
		resp := tr.g.Call(t, http.MethodGet, c.host, "/", nil, c.fields()...)
		if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", c.name)
		}
		if resp.StatusCode != want {
			return fmt.Errorf("%s: %d, want %d", c.name, resp.StatusCode, want)
		}
		return nil
	})
}

// every runs the trial for each way to fail.
func (tr *trial) every(t *testing.T) {
	for _, how := range []string{"down", "slow", "garbage"} {
		t.Run(how, func(t *testing.T) { tr.run(t, how) })
	}
}

// run has the dependency ail while all call.
func (tr *trial) run(t *testing.T, how string) {
	rate, seconds := 200, 2
	if atFullRate() {
		rate, seconds = 2000, 15
	}
	tr.recovered(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tallies, wait := tr.send(ctx, rate)
	all := func(do func(*tally)) {
		for _, c := range tallies {
			do(c)
		}
	}
	more := func() {
		t.Helper()
		until := make([]int64, len(tallies))
		for i, c := range tallies {
			until[i] = c.sent.Load() + int64(rate*c.share/100*seconds)
		}
		for i, c := range tallies {
			c.await(t, until[i])
		}
	}
	more()
	tr.d.ail(how)
	tr.noticed(t)
	all((*tally).begin)
	more()
	tr.push()
	more()
	all((*tally).end)
	tr.d.heal(how)
	tr.recovered(t)
	more()
	cancel()
	results := wait()
	for i, c := range tallies {
		c.check(t, results[i], tr.timeout)
	}
}

// send has all callers call until the context ends.
func (tr *trial) send(ctx context.Context, rate int) (tallies []*tally, wait func() []load.Result) {
	var wg sync.WaitGroup
	results := make([]load.Result, len(tr.callers))
	for i, c := range tr.callers {
		counted := &tally{callers: c, all: map[int]int{}, strict: map[int]int{}}
		tallies = append(tallies, counted)
		wg.Go(func() {
			results[i] = load.Run(ctx, load.Config{
				Targets: load.NewTargets(tr.g.HTTP), Rate: rate * c.share / 100, Connections: 64, Outstanding: 512, Timeout: 30 * time.Second,
				Make:     func(int64) []byte { counted.sent.Add(1); return c.request() },
				Answered: counted.answered,
			})
		})
	}
	return tallies, func() []load.Result { wg.Wait(); return results }
}

// tally is how some callers were answered.
type tally struct {
	callers
	sent atomic.Int64

	mu      sync.Mutex // guards what follows
	all     map[int]int
	slowest time.Duration
	// strict are answers while it was known that the dependency ails, to requests that were made when it was, too.
	strict map[int]int
	waited []time.Duration
	since  int64
	ails   bool
}

func (c *tally) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.ails = c.sent.Load(), true
}

func (c *tally) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ails = false
}

func (c *tally) answered(n int64, status int, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[status]++
	c.slowest = max(c.slowest, after)
	if c.ails && n > c.since {
		c.strict[status]++
		c.waited = append(c.waited, after)
	}
}

// await waits until so many were sent.
func (c *tally) await(t *testing.T, n int64) {
	t.Helper()
	testkit.Await(t, 5*time.Minute, func() error {
		if got := c.sent.Load(); got < n {
			return fmt.Errorf("%s: %d of %d requests", c.name, got, n)
		}
		return nil
	})
}

// check holds that everybody was answered as promised, in time.
func (c *tally) check(t *testing.T, r load.Result, timeout time.Duration) {
	t.Helper()
	if len(c.waited) == 0 {
		t.Errorf("%s: nobody is answered while it ails", c.name)
		return
	}
	slices.Sort(c.waited)
	p99 := c.waited[len(c.waited)*99/100]
	t.Logf("%s: while it ails %v, p50 %v, p99 %v; in all %v, slowest %v", c.name, c.strict, c.waited[len(c.waited)/2], p99, c.all, c.slowest)
	if answers := slices.Sorted(maps.Keys(c.strict)); !slices.Equal(answers, []int{c.ill}) {
		t.Errorf("%s: answered %v while it ails, want %d only", c.name, c.strict, c.ill)
	}
	total := 0
	for status, n := range c.all {
		total += n
		if status != c.well && status != c.ill {
			t.Errorf("%s: %d are answered %d", c.name, n, status)
		}
	}
	if c.all[c.well] == 0 {
		t.Errorf("%s: nobody is answered %d", c.name, c.well)
	}
	if lost := r.Sent - int64(total); lost != 0 {
		t.Errorf("%s: %d of %d requests have no answer: %s", c.name, lost, r.Sent, strings.Join(r.Failures, "; "))
	}
	if c.slowest > timeout+slack {
		t.Errorf("%s: one waits for %v, where %v is the bound", c.name, c.slowest, timeout)
	}
	if c.well == c.ill && p99 > timeout {
		t.Errorf("%s: they do not need it, and wait for %v (p99)", c.name, p99)
	}
}
