package expiry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/check/certs"
)

// Groups gives the groups that this replica has opened; *snapshot.Manager does.
type Groups interface {
	Active() []string
	Group(ctx context.Context, name string) (*snapshot.Group, error)
}

// Metrics exports when certificates of the opened groups end. There is one series for each group and period, not for each
// certificate.
type Metrics struct {
	groups       Groups
	now          func() time.Time
	first, count *prometheus.Desc

	mu   sync.Mutex
	ends map[*snapshot.Resource]time.Time // guarded by mu: of what was seen last, which is read once
}

// NewMetrics returns the collector.
func NewMetrics(groups Groups, now func() time.Time) *Metrics {
	return &Metrics{
		groups: groups, now: now,
		first: prometheus.NewDesc("keyward_controlplane_certificate_expires_timestamp_seconds",
			"When the first of the certificates and authorities of a group ends.", []string{"group"}, nil),
		count: prometheus.NewDesc("keyward_controlplane_certificates_expiring",
			"Certificates and authorities of a group that end within a time, or have ended.", []string{"group", "within"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.first
	ch <- m.count
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[*snapshot.Resource]time.Time{}
	for _, name := range m.groups.Active() {
		group, err := m.groups.Group(context.Background(), name)
		if err != nil || group.View() == nil {
			continue
		}
		if ends := m.endsOf(group.View(), seen); len(ends) > 0 {
			m.export(ch, name, ends)
		}
	}
	m.ends = seen
}

// endsOf works out when the certificates of a view end, those that are new since it was last asked.
func (m *Metrics) endsOf(view *snapshot.View, seen map[*snapshot.Resource]time.Time) []time.Time {
	var out []time.Time
	for _, kind := range []string{certs.Kind, certs.KindCA} {
		for r := range view.All(kind) {
			end, known := m.ends[r]
			if r.Message == nil {
				continue
			}
			if !known {
				m := view.Resolved(r.Message)
				end, _ = certs.End(m)
				known = m == r.Message // else it changes without the certificate
			}
			if known {
				seen[r] = end
			}
			if !end.IsZero() {
				out = append(out, end)
			}
		}
	}
	return out
}

func (m *Metrics) export(ch chan<- prometheus.Metric, group string, ends []time.Time) {
	const day = 24 * time.Hour
	now, first := m.now(), ends[0]
	for _, end := range ends {
		if end.Before(first) {
			first = end
		}
	}
	ch <- prometheus.MustNewConstMetric(m.first, prometheus.GaugeValue, float64(first.Unix()), group)
	for within, d := range map[string]time.Duration{"0d": 0, "7d": 7 * day, "30d": 30 * day, "90d": 90 * day} {
		n := 0
		for _, end := range ends {
			if !end.After(now.Add(d)) {
				n++
			}
		}
		ch <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(n), group, within)
	}
}
