package upstream

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream/balance"
	"keyward.dev/dataplane/internal/upstream/guard"
)

// stats are the counters of a service. They are read when somebody asks; on the way of a request there are additions only.
type stats struct {
	dials, dialFailures, reused atomic.Int64
	waits, waited               atomic.Int64 // for a connection; nanoseconds
	retries                     [retryReasons]atomic.Int64
	exhausted, ejections        atomic.Int64
	probes, probeFailures       atomic.Int64
}

// retryReasons is how many bits of RetryOn there are.
const retryReasons = 6

func (s *stats) retried(why runtime.RetryOn) { s.retries[bits.TrailingZeros8(uint8(why))].Add(1) }

// ejected notes that a target takes no requests for a while.
func (v *view) ejected(t *target, d time.Duration) {
	v.stats.ejections.Add(1)
	v.manager.log.Warn("target ejected: too many requests to it failed in a row",
		"service", v.name, "target", t.Address(), "seconds", d.Seconds())
}

func (v *view) breakerChanged(s guard.State) {
	v.manager.log.Warn("circuit breaker changed", "service", v.name, "state", s.String())
}

// checkPanic says so when no target is up any more, and when that is over.
func (v *view) checkPanic(now int64) {
	switch on := v.set.Panicking(now); {
	case on == v.panics.Swap(on):
	case on:
		v.manager.log.Warn("no target is healthy: all of them are used", "service", v.name)
	default:
		v.manager.log.Info("targets are healthy again", "service", v.name)
	}
}

const (
	namespace = "keyward"
	subsystem = "gateway"
)

// collector shows what is known of services. Services of one name are one: while a service changes there may be two.
type collector struct {
	manager *Manager
}

// Describe implements prometheus.Collector: what there is follows from the services.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// family is a metric of every service.
type family struct {
	name, help string
	kind       prometheus.ValueType
	label      string // beside service; empty: none
	values     []sample
}

// sample is one value of a family, and its label.
type sample struct {
	label string
	value func(t *tally) float64
}

// tally are the numbers of a service.
type tally struct {
	stats      []*stats
	open, idle int
	targets    [3]int // healthy, unhealthy, ejected
	breaker    guard.State
	panicking  bool
}

func (t *tally) sum(field func(s *stats) *atomic.Int64) float64 {
	var n int64
	for _, s := range t.stats {
		n += field(s).Load()
	}
	return float64(n)
}

func counter(name, help string, field func(s *stats) *atomic.Int64) family {
	return family{name, help, prometheus.CounterValue, "", []sample{{"", func(t *tally) float64 { return t.sum(field) }}}}
}

func families() []family {
	return []family{
		{"upstream_connections", "Connections to the targets of a service, by whether a request uses them.", prometheus.GaugeValue, "state", []sample{
			{"active", func(t *tally) float64 { return float64(t.open - t.idle) }}, {"idle", func(t *tally) float64 { return float64(t.idle) }},
		}},
		{"upstream_targets", "Targets of a service, by health.", prometheus.GaugeValue, "health", []sample{
			{"healthy", func(t *tally) float64 { return float64(t.targets[0]) }},
			{"unhealthy", func(t *tally) float64 { return float64(t.targets[1]) }},
			{"ejected", func(t *tally) float64 { return float64(t.targets[2]) }},
		}},
		{"upstream_circuit_breaker_open", "1 while the circuit breaker of a service is open, 0.5 while it is half open.", prometheus.GaugeValue, "", []sample{
			{"", func(t *tally) float64 {
				return [...]float64{guard.Closed: 0, guard.HalfOpen: 0.5, guard.Open: 1}[t.breaker]
			}},
		}},
		{"upstream_all_unhealthy", "1 while no target of a service is healthy, so that all of them are used.", prometheus.GaugeValue, "", []sample{
			{"", func(t *tally) float64 {
				if t.panicking {
					return 1
				}
				return 0
			}},
		}},
		{"upstream_retries_total", "Requests that were sent once more, by the reason.", prometheus.CounterValue, "reason", retrySamples()},
		counter("upstream_dials_total", "Connections that were tried to be made.", func(s *stats) *atomic.Int64 { return &s.dials }),
		counter("upstream_dial_failures_total", "Connections that could not be made.", func(s *stats) *atomic.Int64 { return &s.dialFailures }),
		counter("upstream_reused_total", "Requests that went over a connection that was there.", func(s *stats) *atomic.Int64 { return &s.reused }),
		counter("upstream_retry_budget_exhausted_total", "Retries that were not made for lack of budget.", func(s *stats) *atomic.Int64 { return &s.exhausted }),
		counter("upstream_ejections_total", "Targets taken out because requests to them failed.", func(s *stats) *atomic.Int64 { return &s.ejections }),
		counter("upstream_probes_total", "Probes of targets.", func(s *stats) *atomic.Int64 { return &s.probes }),
		counter("upstream_probe_failures_total", "Probes of targets that failed.", func(s *stats) *atomic.Int64 { return &s.probeFailures }),
		counter("upstream_pool_waits_total", "Requests that waited for a connection.", func(s *stats) *atomic.Int64 { return &s.waits }),
		{"upstream_pool_wait_seconds_total", "How long requests waited for connections.", prometheus.CounterValue, "", []sample{
			{"", func(t *tally) float64 {
				return t.sum(func(s *stats) *atomic.Int64 { return &s.waited }) / float64(time.Second)
			}},
		}},
	}
}

func retrySamples() []sample {
	out := make([]sample, retryReasons)
	for i := range out {
		out[i] = sample{reasonName(1 << i), func(t *tally) float64 { return t.sum(func(s *stats) *atomic.Int64 { return &s.retries[i] }) }}
	}
	return out
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	tallies := c.manager.tallies()
	for _, f := range families() {
		labels := []string{"service"}
		if f.label != "" {
			labels = append(labels, f.label)
		}
		d := prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, f.name), f.help, labels, nil)
		for name, t := range tallies {
			for _, s := range f.values {
				values := []string{name, s.label}
				out <- prometheus.MustNewConstMetric(d, f.kind, s.value(t), values[:len(labels)]...)
			}
		}
	}
}

func (m *Manager) tallies() map[string]*tally {
	out, now := map[string]*tally{}, m.now()
	for _, s := range m.all() {
		t := out[s.name]
		if t == nil {
			t = &tally{}
			out[s.name] = t
		}
		s.count(t, now)
	}
	return out
}

func (s *service) count(t *tally, now int64) {
	t.stats = append(t.stats, &s.stats)
	t.breaker = max(t.breaker, s.breaker.State())
	t.panicking = t.panicking || s.panics.Load()
	seen := map[*balance.Target]bool{}
	for _, target := range s.all() {
		open, idle := target.pool.counts()
		t.open += open
		t.idle += idle
		if seen[target.Target] { // under another identity
			continue
		}
		seen[target.Target] = true
		switch {
		case target.Up(now):
			t.targets[0]++
		case target.Ejected(now):
			t.targets[2]++
		default:
			t.targets[1]++
		}
	}
}
