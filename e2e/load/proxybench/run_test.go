package proxybench_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

const (
	// before the window: connections are made, scripts read.
	lead = 700 * time.Millisecond
	// warmUp goes before the first round: pools fill. In the large row a counter is made for most consumers, too.
	warmUp, largeWarmUp = time.Second, 6 * time.Second
	// tolerated is the share of a processor that others may have without a run being repeated.
	tolerated = 0.15
)

// loader is a program that sends requests.
type loader struct {
	b      *bench
	cmd    *exec.Cmd
	output bytes.Buffer
	log    string // of h2load
}

// load starts the loader of a variant.
func (b *bench) load(c *contender, v proxybench.Variant, d time.Duration, seed int) *loader {
	b.t.Helper()
	if v.Protocol == proxybench.H2 {
		return b.h2load(c, v, d)
	}
	target, script := "http://"+c.plain+v.Size.Path, ""
	if v.Protocol == proxybench.TLS {
		target = "https://" + c.tls + v.Size.Path
	}
	var args []string
	if v.Large {
		script = proxybench.RandomScript
		args = []string{v.Size.Path, strconv.Itoa(proxybench.LargeRoutes), strconv.Itoa(proxybench.LargeConsumers), strconv.Itoa(seed + 1)}
	}
	return b.wrk(target, v.Connections, d, script, args...)
}

// wrk starts wrk with one thread and the first consumer's key.
func (b *bench) wrk(target string, connections int, d time.Duration, script string, args ...string) *loader {
	b.t.Helper()
	seconds := max(1, int((d+time.Second-1)/time.Second)) // wrk knows no fractions
	all := []string{
		"-t1", "-c" + strconv.Itoa(connections), fmt.Sprintf("-d%ds", seconds), "--latency", "--timeout", "30s",
		"-H", "Host: " + proxybench.HostName(0), "-H", "X-API-Key: " + proxybench.Key(0),
	}
	if script != "" {
		all = append(all, "-s", b.write(filepath.Join(b.scratch(), "script.lua"), script))
	}
	return b.start("wrk", append(append(all, target), args...)...)
}

func (b *bench) h2load(c *contender, v proxybench.Variant, d time.Duration) *loader {
	b.t.Helper()
	log := filepath.Join(b.scratch(), "h2load.log")
	_ = os.Remove(log)
	l := b.start("h2load", "-t1", "-c"+strconv.Itoa(v.Connections), "-m"+strconv.Itoa(v.Streams), "-D", strconv.Itoa(int((d+time.Second-1)/time.Second)),
		"--log-file="+log, "--connect-to="+c.tls, "-H", "x-api-key: "+proxybench.Key(0), "https://"+proxybench.HostName(0)+v.Size.Path)
	l.log = log
	return l
}

// scratch is a directory for what loaders need.
func (b *bench) scratch() string {
	if b.scratchDir == "" {
		b.scratchDir = b.dir()
	}
	return b.scratchDir
}

func (b *bench) start(name string, args ...string) *loader {
	b.t.Helper()
	args = append([]string{"-c", b.otherCPUs(), program(b.t, name)}, args...)
	l := &loader{b: b, cmd: exec.CommandContext(b.t.Context(), program(b.t, "taskset"), args...)}
	l.cmd.Stdout, l.cmd.Stderr = &l.output, &l.output
	if err := l.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return l
}

// end waits for the loader and returns what it saw, which may contain no failure.
func (l *loader) end() proxybench.Load {
	l.b.t.Helper()
	if err := l.cmd.Wait(); err != nil {
		l.b.t.Fatalf("%v: %v\n%s", l.cmd.Args, err, l.output.Bytes())
	}
	parse := proxybench.ParseWrk
	if l.log != "" {
		parse = proxybench.ParseH2load
	}
	saw, err := parse(l.output.String())
	if err == nil && l.log != "" {
		saw.P50, saw.P99, err = quantiles(l.log)
	}
	if err != nil || saw.Failed != "" {
		l.b.t.Fatalf("%v: %v: %s\n%s", l.cmd.Args, err, saw.Failed, l.output.Bytes())
	}
	return saw
}

func quantiles(log string) (p50, p99 time.Duration, err error) {
	f, err := os.Open(log)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	return proxybench.H2loadQuantiles(f)
}

// warm sends load that is not measured.
func (b *bench) warm(c *contender, v proxybench.Variant) {
	b.t.Helper()
	d := warmUp
	if v.Large {
		d = largeWarmUp
	}
	b.load(c, v, d, -1).end()
}

// moment is what is known at one time.
type moment struct {
	at                         time.Time
	requests                   int64         // at the upstream
	busy                       time.Duration // of all processors
	contender, upstream, sends time.Duration
}

func (b *bench) moment(c *contender, l *loader) moment {
	b.t.Helper()
	m := moment{at: time.Now(), requests: b.requests()}
	m.contender, m.upstream, m.sends = b.cpu(c.pids...), b.cpu(b.upstream.pids...), b.cpu(l.cmd.Process.Pid)
	var err error
	if m.busy, err = b.proc.Busy(); err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bench) cpu(pids ...int) time.Duration {
	b.t.Helper()
	spent, err := b.proc.CPU(pids...)
	if err != nil {
		b.t.Fatal(err)
	}
	return spent
}

// requests is how many the upstream has had. Asking is one, too.
func (b *bench) requests() int64 {
	b.t.Helper()
	n, err := proxybench.ParseStubStatus(b.page("http://" + b.upstreamAddr + "/-/requests"))
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bench) page(url string) string {
	b.t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a server of this test
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// run is one measurement, which is repeated a few times where others had much of the processors.
func (b *bench) run(c *contender, v proxybench.Variant, round int) proxybench.Run {
	b.t.Helper()
	r := b.once(c, v, round)
	for range b.repeats {
		if r.Others <= tolerated {
			break
		}
		again := b.once(c, v, round)
		if again.Others < r.Others {
			r = again
		}
	}
	return r
}

// once measures. Only a window in the middle of the load counts: neither handshakes nor what warms up.
func (b *bench) once(c *contender, v proxybench.Variant, round int) proxybench.Run {
	b.t.Helper()
	l := b.load(c, v, lead+b.window+200*time.Millisecond, round)
	<-time.After(lead)
	first := b.moment(c, l)
	<-time.After(b.window)
	last := b.moment(c, l)
	memory := b.rss(c)
	saw := l.end()
	n, took := last.requests-first.requests-1, last.at.Sub(first.at)
	if n <= 0 {
		b.t.Fatalf("%s: no requests within %s", c.name, took)
	}
	spent, upstream, sends := last.contender-first.contender, last.upstream-first.upstream, last.sends-first.sends
	of := func(d time.Duration) float64 { return float64(d) / float64(took) }
	return proxybench.Run{
		CPU: spent / time.Duration(n), Upstream: upstream / time.Duration(n), Loader: sends / time.Duration(n),
		Busy: of(spent), Others: max(0, of(last.busy-first.busy-spent-upstream-sends)), Rate: float64(n) / took.Seconds(),
		P50: saw.P50, P99: saw.P99, RSS: memory,
	}
}
