package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/pki"
	"keyward.dev/controlplane/internal/registry"
	"keyward.dev/controlplane/internal/rollout"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/controlplane/internal/syncserver"
)

// groupRevisions exports where this replica stands in each group that it has opened, how far its gateways are behind that,
// and whether the database went back.
type groupRevisions struct {
	groups                 *snapshot.Manager
	registry               *registry.Registry
	revision, lag, rewound *prometheus.Desc
}

func newGroupRevisions(groups *snapshot.Manager, r *registry.Registry) groupRevisions {
	return groupRevisions{
		groups: groups, registry: r,
		revision: prometheus.NewDesc("keyward_controlplane_group_revision",
			"Revision of a group that this replica has opened.", []string{"group"}, nil),
		lag: prometheus.NewDesc("keyward_controlplane_revision_lag",
			"Revisions that the furthest behind of a group's gateways on this replica has not applied.", []string{"group"}, nil),
		rewound: prometheus.NewDesc("keyward_controlplane_group_rewound",
			"1 while the database has an older or another revision of a group than this replica has seen.", []string{"group"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (g groupRevisions) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.revision
	ch <- g.lag
	ch <- g.rewound
}

// Collect implements prometheus.Collector.
func (g groupRevisions) Collect(ch chan<- prometheus.Metric) {
	for _, name := range g.groups.Active() {
		group, err := g.groups.Group(context.Background(), name)
		if err != nil || group.View() == nil {
			continue
		}
		view := group.View()
		ch <- prometheus.MustNewConstMetric(g.revision, prometheus.GaugeValue, float64(view.Revision), name)
		rewound := 0.0
		if g.groups.Rewound(name) {
			rewound = 1
		}
		ch <- prometheus.MustNewConstMetric(g.rewound, prometheus.GaugeValue, rewound, name)
		if lag, ok := g.registry.Lag(name, view.Epoch, view.Revision); ok {
			ch <- prometheus.MustNewConstMetric(g.lag, prometheus.GaugeValue, float64(lag), name)
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

// abortedRollouts exports which staged groups have a roll-out that was aborted.
type abortedRollouts struct {
	driver  *rollout.Driver
	aborted *prometheus.Desc
}

func newAbortedRollouts(d *rollout.Driver) abortedRollouts {
	return abortedRollouts{driver: d, aborted: prometheus.NewDesc("keyward_controlplane_rollout_aborted",
		"Whether the roll-out of the group's newest change was aborted; only groups whose settings stage changes.", []string{"group"}, nil)}
}

// Describe implements prometheus.Collector.
func (a abortedRollouts) Describe(ch chan<- *prometheus.Desc) { ch <- a.aborted }

// Collect implements prometheus.Collector.
func (a abortedRollouts) Collect(ch chan<- prometheus.Metric) {
	for group, aborted := range a.driver.Aborted() {
		value := 0.0
		if aborted {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(a.aborted, prometheus.GaugeValue, value, group)
	}
}

// beginners exports how many gateways begin with a whole configuration, and how many were told to come again later.
type beginners struct {
	server                   *syncserver.Server
	sending, waiting, refuse *prometheus.Desc
}

func newBeginners(s *syncserver.Server) beginners {
	return beginners{
		server: s,
		sending: prometheus.NewDesc("keyward_controlplane_full_sets_sending",
			"Gateways that are sent their whole configuration now.", nil, nil),
		waiting: prometheus.NewDesc("keyward_controlplane_full_sets_waiting",
			"Gateways that wait for their turn to be sent it.", nil, nil),
		refuse: prometheus.NewDesc("keyward_controlplane_gateways_deferred_total",
			"Gateways that were told to come again later, because too many began at once.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (b beginners) Describe(ch chan<- *prometheus.Desc) {
	ch <- b.sending
	ch <- b.waiting
	ch <- b.refuse
}

// Collect implements prometheus.Collector.
func (b beginners) Collect(ch chan<- prometheus.Metric) {
	sending, waiting, refused := b.server.Load()
	ch <- prometheus.MustNewConstMetric(b.sending, prometheus.GaugeValue, float64(sending))
	ch <- prometheus.MustNewConstMetric(b.waiting, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(b.refuse, prometheus.CounterValue, float64(refused))
}
