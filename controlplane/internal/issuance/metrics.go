package issuance

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/snapshot"
)

// metrics count what this replica ordered.
type metrics struct{ orders *prometheus.CounterVec }

func newMetrics() metrics {
	m := metrics{orders: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "controlplane", Name: "acme_orders_total",
		Help: "Orders for certificates that this replica carried out, by result, ok or failed.",
	}, []string{"result"})}
	m.orders.WithLabelValues("ok")
	m.orders.WithLabelValues("failed")
	return m
}

// Active gives the groups that this replica has opened; *snapshot.Manager does.
type Active interface {
	Active() []string
	Group(ctx context.Context, name string) (*snapshot.Group, error)
}

// Collector exports how it is with the certificates of the opened groups that authorities issue, and what a service has ordered.
type Collector struct {
	groups                Active
	service               *Service
	certificates, failing *prometheus.Desc
}

// NewCollector returns the collector.
func NewCollector(groups Active, s *Service) *Collector {
	return &Collector{
		groups: groups, service: s,
		certificates: prometheus.NewDesc("keyward_controlplane_acme_certificates",
			"Certificates of a group that ACME authorities issue: issued, failing (the one that was issued before is used on), unissued (there is none).",
			[]string{"group", "state"}, nil),
		failing: prometheus.NewDesc("keyward_controlplane_acme_failing_since_timestamp_seconds",
			"Since when the certificate of a group that fails for the longest time cannot be issued.", []string{"group"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.service.metrics.orders.Describe(ch)
	ch <- c.certificates
	ch <- c.failing
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.service.metrics.orders.Collect(ch)
	for _, name := range c.groups.Active() {
		group, err := c.groups.Group(context.Background(), name)
		if err != nil || group.View() == nil {
			continue
		}
		states, since := count(group.View())
		for state, n := range states {
			ch <- prometheus.MustNewConstMetric(c.certificates, prometheus.GaugeValue, float64(n), name, state)
		}
		if !since.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.failing, prometheus.GaugeValue, float64(since.Unix()), name)
		}
	}
}

func count(view *snapshot.View) (states map[string]int, since time.Time) {
	states = map[string]int{}
	for _, w := range wants(view) {
		switch {
		case w.record.GetCertificate() == nil:
			states["unissued"]++
		case w.record.GetFailingSince() != nil:
			states["failing"]++
		default:
			states["issued"]++
		}
		if t := w.record.GetFailingSince(); t != nil && (since.IsZero() || t.AsTime().Before(since)) {
			since = t.AsTime()
		}
	}
	return states, since
}
