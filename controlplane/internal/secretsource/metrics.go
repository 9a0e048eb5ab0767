package secretsource

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

// ofTenants stands for all providers that tenants made; none of the operator's can have that name.
const ofTenants = "(tenants)"

// metrics count what this replica read. The providers are those of the settings, so there are few.
type metrics struct{ reads *prometheus.CounterVec }

func newMetrics(providers *Providers) metrics {
	m := metrics{reads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "controlplane", Name: "secret_reads_total",
		Help: "Readings of secret references on this replica, by provider (empty: none that the group may use; (tenants): those that groups made) and result, ok or failed.",
	}, []string{"provider", "result"})}
	m.reads.WithLabelValues(ofTenants, "ok")
	m.reads.WithLabelValues(ofTenants, "failed")
	for _, p := range providers.list {
		m.reads.WithLabelValues(p.name, "ok")
		m.reads.WithLabelValues(p.name, "failed")
	}
	return m
}

func (m metrics) read(o outcome) {
	provider, result := "", "ok"
	switch {
	case o.provider == nil:
	case o.provider.tenant:
		provider = ofTenants // whose names are theirs to choose, and could be many
	default:
		provider = o.provider.name
	}
	if o.err != nil {
		result = "failed"
	}
	m.reads.WithLabelValues(provider, result).Inc()
}

// Active gives the groups that this replica has opened; *snapshot.Manager does.
type Active interface {
	Active() []string
	Group(ctx context.Context, name string) (*snapshot.Group, error)
}

// Collector exports how it is with the references of the opened groups, and what a resolver has read.
type Collector struct {
	groups                 Active
	resolver               *Resolver
	references, unreadable *prometheus.Desc

	mu   sync.Mutex
	seen map[string]counted // guarded by mu: by group, counted once for each revision
}

// counted is how it is with the references of a view.
type counted struct {
	view   *snapshot.View
	states map[string]int
	since  time.Time
}

// NewCollector returns the collector.
func NewCollector(groups Active, r *Resolver) *Collector {
	return &Collector{
		groups: groups, resolver: r, seen: map[string]counted{},
		references: prometheus.NewDesc("keyward_controlplane_secret_references",
			"Secret references of a group: resolved, failing (the value read before is used), stale (it was for too long, what needs it is closed), unresolved (never read, likewise).",
			[]string{"group", "state"}, nil),
		unreadable: prometheus.NewDesc("keyward_controlplane_secret_failing_since_timestamp_seconds",
			"Since when the reference of a group that fails for the longest time could not be read.", []string{"group"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.resolver.metrics.reads.Describe(ch)
	ch <- c.references
	ch <- c.unreadable
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.resolver.metrics.reads.Collect(ch)
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
			s = count(group.View())
		}
		now[name] = s
		for state, n := range s.states {
			ch <- prometheus.MustNewConstMetric(c.references, prometheus.GaugeValue, float64(n), name, state)
		}
		if !s.since.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.unreadable, prometheus.GaugeValue, float64(s.since.Unix()), name)
		}
	}
	c.seen = now
}

func count(view *snapshot.View) counted {
	c := counted{view: view, states: map[string]int{}}
	for name := range wants(view) {
		r, _ := view.Get(certs.KindResolved, name)
		record := recordOf(r)
		since := record.GetFailingSince()
		switch {
		case record == nil:
			c.states["unresolved"]++
		case !known(record):
			c.states["stale"]++
		case since != nil:
			c.states["failing"]++
		default:
			c.states["resolved"]++
		}
		if since != nil && (c.since.IsZero() || since.AsTime().Before(c.since)) {
			c.since = since.AsTime()
		}
	}
	return c
}
