package proxybench_test

import (
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// countMallocs counts what a live gateway allocates while requests pass the full chain on connections that stay.
func (b *bench) countMallocs() {
	b.t.Helper()
	requests := int64(100_000)
	if b.full {
		requests = 1_000_000
	}
	for _, kind := range []struct{ name, path, script string }{
		{"mallocs/get", "/1k", ""},
		{"mallocs/post", "/post", proxybench.PostScript},
	} {
		if !b.choice.Has(kind.name, false) {
			continue
		}
		each := b.mallocs(b.chain(), kind.path, kind.script, requests)
		b.say("%s: %.4f mallocs a request over %d requests", kind.name, each, requests)
		b.results = append(b.results, proxybench.Measured(kind.name, "mallocs/request", each, proxybench.MallocsPerRequest))
	}
}

// chain is the gateway with the full chain and one route.
func (b *bench) chain() *contender {
	b.t.Helper()
	for _, c := range b.row(false) {
		if c.name == proxybench.Chain {
			return c
		}
	}
	b.t.Fatal("no gateway with the full chain")
	return nil
}

func (b *bench) mallocs(c *contender, path, script string, requests int64) float64 {
	b.t.Helper()
	l := b.wrk("http://"+c.plain+path, 64, time.Hour, script)
	<-time.After(2 * lead)
	first, before := b.requests(), b.metric(c, "go_memstats_mallocs_total")
	n := int64(0)
	for n < requests {
		<-time.After(100 * time.Millisecond)
		n = b.requests() - first
		if !c.Running() || l.cmd.ProcessState != nil {
			b.t.Fatalf("the load ended after %d requests:\n%s", n, l.output.Bytes())
		}
	}
	after := b.metric(c, "go_memstats_mallocs_total")
	n = b.requests() - first
	l.interrupt()
	l.end()
	// What asking costs itself.
	asked := b.metric(c, "go_memstats_mallocs_total")
	asking := b.metric(c, "go_memstats_mallocs_total") - asked
	return max(0, after-before-asking) / float64(n)
}

func (b *bench) metric(c *contender, name string) float64 {
	b.t.Helper()
	v, err := proxybench.Metric(b.page("http://"+c.status+"/metrics"), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}
