package certstatus

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/snapshot"
)

// metrics count what this replica fetched.
type metrics struct{ fetches *prometheus.CounterVec }

func newMetrics() metrics {
	m := metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "controlplane", Name: "status_fetches_total",
		Help: "Fetches of what others say of certificates on this replica, by the kind of record and result, ok or failed.",
	}, []string{"kind", "result"})}
	for _, kind := range keptKinds() {
		m.fetches.WithLabelValues(kind, "ok")
		m.fetches.WithLabelValues(kind, "failed")
	}
	return m
}

func (m metrics) fetched(kind string, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.fetches.WithLabelValues(kind, result).Inc()
}

// Active gives the groups that this replica has opened; *snapshot.Manager does.
type Active interface {
	Active() []string
	Group(ctx context.Context, name string) (*snapshot.Group, error)
}

// Collector exports how it is with what the opened groups want, and what a keeper has fetched.
type Collector struct {
	groups Active
	keeper *Keeper
	states *prometheus.Desc
	since  *prometheus.Desc

	mu   sync.Mutex
	seen map[string]counted // guarded by mu: by group, counted once for each revision
}

type counted struct {
	view   *snapshot.View
	states map[[2]string]int // by kind and state
	since  time.Time
}

// NewCollector returns the collector.
func NewCollector(groups Active, k *Keeper) *Collector {
	return &Collector{
		groups: groups, keeper: k, seen: map[string]counted{},
		states: prometheus.NewDesc("keyward_controlplane_status_records",
			"What a group wants to be told of certificates, by kind: fetched, failing (what was fetched before is used), missing (never fetched).",
			[]string{"group", "kind", "state"}, nil),
		since: prometheus.NewDesc("keyward_controlplane_status_failing_since_timestamp_seconds",
			"Since when what a group wants to be told of certificates could not be fetched, of what fails for the longest time.", []string{"group"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.keeper.metrics.fetches.Describe(ch)
	ch <- c.states
	ch <- c.since
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.keeper.metrics.fetches.Collect(ch)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := map[string]counted{}
	for _, name := range c.groups.Active() {
		group, err := c.groups.Group(context.Background(), name)
		if err != nil || group.View() == nil {
			continue
		}
		s := c.seen[name]
		if s.view != group.View() {
			s = c.count(group.View())
		}
		now[name] = s
		for of, n := range s.states {
			ch <- prometheus.MustNewConstMetric(c.states, prometheus.GaugeValue, float64(n), name, of[0], of[1])
		}
		if !s.since.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.since, prometheus.GaugeValue, float64(s.since.Unix()), name)
		}
	}
	c.seen = now
}

func (c *Collector) count(view *snapshot.View) counted {
	out := counted{view: view, states: map[[2]string]int{}}
	all, _ := c.keeper.wanted.wants(view)
	for _, s := range all {
		at := s.at()
		r, ok := view.Get(at.kind, at.name)
		kept, failing := value(r)
		state := "fetched"
		switch {
		case !ok || kept == nil:
			state = "missing"
		case failing != nil:
			state = "failing"
			if out.since.IsZero() || failing.AsTime().Before(out.since) {
				out.since = failing.AsTime()
			}
		}
		out.states[[2]string{at.kind, state}]++
	}
	return out
}
