package status

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Store is how a store does that this gateway shares with others. There are as many as the configuration has, which is bounded.
type Store struct {
	Name string
	// DownSince is since when it does not answer; zero: it does.
	DownSince time.Time
	// First and Again count what it said of what it was asked, Failed what it did not answer and Skipped what it was not asked then.
	First, Again, Failed, Skipped uint64
}

// stores tells of shared stores.
type stores struct {
	ask          func() []Store
	up, requests *prometheus.Desc
}

func newStores(ask func() []Store) *stores {
	name := func(n string) string { return prometheus.BuildFQName(namespace, subsystem, n) }
	return &stores{
		ask: ask,
		up:  prometheus.NewDesc(name("shared_store_up"), "1 while a store that gateways share answers.", []string{"store"}, nil),
		requests: prometheus.NewDesc(name("shared_store_requests_total"),
			"What shared stores were asked, by what came of it: first or again, failed if there was no answer, skipped if it was not asked because of that.",
			[]string{"store", "outcome"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *stores) Describe(out chan<- *prometheus.Desc) { out <- s.up; out <- s.requests }

// Collect implements prometheus.Collector.
func (s *stores) Collect(out chan<- prometheus.Metric) {
	for _, st := range s.ask() {
		out <- prometheus.MustNewConstMetric(s.up, prometheus.GaugeValue, float64(number(st.DownSince.IsZero())), st.Name)
		for outcome, n := range map[string]uint64{"first": st.First, "again": st.Again, "failed": st.Failed, "skipped": st.Skipped} {
			out <- prometheus.MustNewConstMetric(s.requests, prometheus.CounterValue, float64(n), st.Name, outcome)
		}
	}
}

type storeReport struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	// DownSince is since when it does not answer.
	DownSince string `json:"down_since,omitempty"`
}

// storeReports lists the stores by name.
func (s *Status) storeReports() []storeReport {
	if s.config.Stores == nil {
		return nil
	}
	var out []storeReport
	for _, st := range s.config.Stores() {
		r := storeReport{Name: st.Name, Up: st.DownSince.IsZero()}
		if !r.Up {
			r.DownSince = st.DownSince.UTC().Format(time.RFC3339)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b storeReport) int { return strings.Compare(a.Name, b.Name) })
	return out
}
