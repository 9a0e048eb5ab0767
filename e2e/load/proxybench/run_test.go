package proxybench_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

const (
	// lead goes before anything is measured: connections are made, scripts read.
	lead = 700 * time.Millisecond
	// warmUp goes before the first round: pools fill. In the large row a counter is made for most consumers, too.
	warmUp, largeWarmUp = time.Second, 6 * time.Second
	// slack is what a turn takes more than it should, at most.
	slack = 20 * time.Millisecond
)

// pace is how long a contender's turn is. It is short, so that what else the machine does, which lasts longer, falls on all
// contenders alike.
type pace struct {
	turns  int           // of a round
	settle time.Duration // before the slice: the processor's caches hold what the contender before needed
	slice  time.Duration // in which is measured
}

// paceOf is that of a variant. With 100,000 consumers it takes tens of thousands of requests until caches hold what they can.
func paceOf(v proxybench.Variant) pace {
	if v.Large {
		return pace{turns: 8, settle: 1500 * time.Millisecond, slice: 500 * time.Millisecond}
	}
	return pace{turns: 40, settle: 30 * time.Millisecond, slice: 50 * time.Millisecond}
}

// compare lets the contenders take turns, and reports.
func (b *bench) compare(v proxybench.Variant) {
	b.t.Helper()
	var of []*contender
	var series []proxybench.Series
	for _, c := range b.row(v.Large) {
		if v.Protocol != proxybench.Plain && c.tls == "" {
			continue
		}
		of = append(of, c)
		series = append(series, proxybench.Series{Contender: c.name, Logs: c.logs})
		b.warm(c, v)
	}
	rounds := b.rounds
	if v.Full {
		rounds = min(rounds, roundsWithoutBudget)
	}
	for round := range rounds {
		for i, c := range of {
			series[i].Loads = append(series[i].Loads, b.load(c, v, b.window, round).end())
		}
		b.turns(of, v, round, series)
	}
	if err := proxybench.Table(os.Stdout, v.Name(), series); err != nil {
		b.t.Fatal(err)
	}
	b.results = append(b.results, proxybench.Judge(v.Name(), series, proxybench.Budgets())...)
	if b.profileTo != "" {
		for _, c := range of {
			b.profile(c, v)
		}
	}
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

// turns measures. All contenders have a loader, of which one at a time runs, for a slice; their order is drawn anew each
// time, so that none always comes after the same one.
func (b *bench) turns(of []*contender, v proxybench.Variant, round int, series []proxybench.Series) {
	b.t.Helper()
	at := paceOf(v)
	whole := time.Duration(len(of)) * (lead + time.Duration(at.turns)*(at.settle+at.slice+slack))
	loaders := make([]*loader, len(of))
	for i, c := range of {
		loaders[i] = b.load(c, v, whole, round)
		<-time.After(lead)
		loaders[i].pause()
	}
	order := rand.New(rand.NewPCG(uint64(round), 0)) // the same each time
	for range at.turns {
		for _, i := range order.Perm(len(of)) {
			series[i].Runs = append(series[i].Runs, b.turn(of[i], loaders[i], at))
		}
	}
	for _, l := range loaders {
		l.proceed()
		l.end()
	}
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

// turn lets one loader run and returns what its requests cost.
func (b *bench) turn(c *contender, l *loader, at pace) proxybench.Run {
	b.t.Helper()
	l.proceed()
	<-time.After(at.settle)
	first := b.moment(c, l)
	<-time.After(at.slice)
	last := b.moment(c, l)
	l.pause()
	n, took := last.requests-first.requests-1, last.at.Sub(first.at)
	if n <= 0 {
		b.t.Fatalf("%s: no requests within %s", c.name, took)
	}
	spent, upstream, sends := last.contender-first.contender, last.upstream-first.upstream, last.sends-first.sends
	of := func(d time.Duration) float64 { return float64(d) / float64(took) }
	return proxybench.Run{
		CPU: spent / time.Duration(n), Upstream: upstream / time.Duration(n), Loader: sends / time.Duration(n),
		Busy: of(spent), Others: max(0, of(last.busy-first.busy-spent-upstream-sends)), Rate: float64(n) / took.Seconds(), RSS: b.rss(c),
	}
}
