package credentialstore

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/tokenpair"
)

// metrics count what this replica read.
type metrics struct{ reads *prometheus.CounterVec }

func newMetrics() metrics {
	m := metrics{reads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "controlplane", Name: "credential_store_reads_total",
		Help: "Readings of credential stores on this replica, by result, ok or failed.",
	}, []string{"result"})}
	m.reads.WithLabelValues("ok")
	m.reads.WithLabelValues("failed")
	return m
}

func (m metrics) read(r *reading) {
	result := "ok"
	if r.failed != nil {
		result = "failed"
	}
	m.reads.WithLabelValues(result).Inc()
}

// Active gives the groups that this replica has opened; *snapshot.Manager does.
type Active interface {
	Active() []string
	Group(ctx context.Context, name string) (*snapshot.Group, error)
}

// Collector exports how it is with the stores of the opened groups, and what a keeper has read.
type Collector struct {
	groups                   Active
	keeper                   *Keeper
	stores, entries, skipped *prometheus.Desc

	mu   sync.Mutex
	seen map[string]counted // guarded by mu: by group, counted once for each revision
}

// counted is how it is with the stores of a view, and with their entries.
type counted struct {
	view            *snapshot.View
	stores, entries map[string]int
}

// NewCollector returns the collector.
func NewCollector(groups Active, k *Keeper) *Collector {
	return &Collector{
		groups: groups, keeper: k, seen: map[string]counted{},
		stores: prometheus.NewDesc("keyward_controlplane_credential_stores",
			"Credential stores of a group: read, failing (what was read before counts), unknown (never read, or failing for too long: their routes answer 503).",
			[]string{"group", "state"}, nil),
		entries: prometheus.NewDesc("keyward_controlplane_stored_credentials",
			"Pairs of tokens that were read for a group: counting, twin (another one has the access token, so neither counts), nobody (there is no such consumer).",
			[]string{"group", "state"}, nil),
		skipped: prometheus.NewDesc("keyward_controlplane_stored_credentials_skipped",
			"Entries of a group's credential stores that cannot be used, as of this replica's last reading; its log says why.", []string{"group"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.keeper.metrics.reads.Describe(ch)
	ch <- c.stores
	ch <- c.entries
	ch <- c.skipped
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.keeper.metrics.reads.Collect(ch)
	for group, n := range c.keeper.skippedIn() {
		ch <- prometheus.MustNewConstMetric(c.skipped, prometheus.GaugeValue, float64(n), group)
	}
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
		for state, n := range s.stores {
			ch <- prometheus.MustNewConstMetric(c.stores, prometheus.GaugeValue, float64(n), name, state)
		}
		for state, n := range s.entries {
			ch <- prometheus.MustNewConstMetric(c.entries, prometheus.GaugeValue, float64(n), name, state)
		}
	}
	c.seen = now
}

func count(view *snapshot.View) counted {
	c := counted{view: view, stores: map[string]int{}, entries: map[string]int{}}
	for r := range view.All(tokenpair.KindStore) {
		_, state := stateOf(view, r.Name)
		switch {
		case !state.GetKnown():
			c.stores["unknown"]++
		case state.GetFailingSince() != nil:
			c.stores["failing"]++
		default:
			c.stores["read"]++
		}
	}
	for r := range view.All(tokenpair.KindEntry) {
		m := entryOf(r)
		_, known := view.Get("consumers", m.GetConsumer())
		switch {
		case m.GetPair() == nil:
			c.entries["twin"]++
		case !known:
			c.entries["nobody"]++
		default:
			c.entries["counting"]++
		}
	}
	return c
}

func (k *Keeper) skippedIn() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]int{}
	for at, m := range k.stores {
		out[at.group] += m.bad
	}
	return out
}
