package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/snapshot"
)

// groupRevisions exports where this replica stands in each group that it has opened.
type groupRevisions struct {
	groups *snapshot.Manager
	desc   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (g groupRevisions) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

// Collect implements prometheus.Collector.
func (g groupRevisions) Collect(ch chan<- prometheus.Metric) {
	for _, name := range g.groups.Active() {
		if group, err := g.groups.Group(context.Background(), name); err == nil && group.View() != nil {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(group.View().Revision), name)
		}
	}
}

// authorityEnds exports until when the certificate authorities are valid.
type authorityEnds struct {
	ca   *pki.CA
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (a authorityEnds) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

// Collect implements prometheus.Collector.
func (a authorityEnds) Collect(ch chan<- prometheus.Metric) {
	for kind, end := range a.ca.Ends() {
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, float64(end.Unix()), kind)
	}
}
