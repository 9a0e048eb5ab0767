package rotation

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of keyrings. What is stored of them is read once a beat, not when somebody collects.
type metrics struct {
	created, seals, remaining *prometheus.Desc
	rewrapped                 *prometheus.CounterVec
	last                      *atomic.Pointer[[]measured]
}

// measured is the newest term of a group.
type measured struct {
	group            string
	created          time.Time
	seals, remaining int64
}

func newMetrics() metrics {
	const prefix = "keyward_controlplane_keyring_"
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, []string{"group"}, nil)
	}
	return metrics{
		created:   desc("term_created_timestamp_seconds", "When the newest term of the group's keyring was made."),
		seals:     desc("term_seals", "Ciphertexts made with the newest term of the group's keyring, by all replicas."),
		remaining: desc("rewrap_remaining", "Stored ciphertexts of the group that are not yet under the newest term of its keyring."),
		rewrapped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "rewrapped_total", Help: "Ciphertexts that this replica has put under the newest term of their keyring.",
		}, []string{"group"}),
		last: &atomic.Pointer[[]measured]{},
	}
}

var _ prometheus.Collector = (*Keeper)(nil)

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.created
	ch <- m.seals
	ch <- m.remaining
	m.rewrapped.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	m.rewrapped.Collect(ch)
	list := m.last.Load()
	if list == nil {
		return
	}
	for _, g := range *list {
		ch <- prometheus.MustNewConstMetric(m.created, prometheus.GaugeValue, float64(g.created.UnixMilli())/1000, g.group)
		ch <- prometheus.MustNewConstMetric(m.seals, prometheus.GaugeValue, float64(g.seals), g.group)
		ch <- prometheus.MustNewConstMetric(m.remaining, prometheus.GaugeValue, float64(g.remaining), g.group)
	}
}

// measure reads the numbers. Rows are counted only where rewrapping is not over.
func (k *Keeper) measure(ctx context.Context) error {
	groups, err := k.groups(ctx)
	if err != nil {
		return err
	}
	terms, err := k.cfg.Store.KeyringTerms(ctx)
	if err != nil {
		return err
	}
	newest := map[string]int{}
	for i, t := range terms {
		newest[t.GroupUID] = i
	}
	var list []measured
	for _, group := range groups {
		i, ok := newest[group.UID]
		if !ok {
			continue
		}
		t := terms[i]
		m := measured{group: group.Name, created: t.CreatedAt, seals: t.Seals}
		if t.Term > 1 && t.DrainedAt.IsZero() {
			rows, err := k.cfg.Store.TermRows(ctx, group.UID)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if r.Term < t.Term {
					m.remaining += r.Rows
				}
			}
		}
		list = append(list, m)
	}
	k.last.Store(&list)
	return nil
}
