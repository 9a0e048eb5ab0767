package status

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	namespace = "keyward"
	subsystem = "gateway"

	// MaxRoutes is how many routes have series of their own unless Config says otherwise.
	MaxRoutes = 2000
	// maxBindings is how many bindings in report mode have.
	maxBindings = 1000
)

// metrics are the gateway's own; process and Go metrics are the registry's.
type metrics struct {
	revision, lastSuccess, faults prometheus.Gauge
	applyErrors                   prometheus.Counter
	info                          *prometheus.GaugeVec
	panics                        *prometheus.CounterVec
	requests                      *requests
	reports                       *reports
}

func newMetrics(c Config) *metrics {
	m := &metrics{
		revision:    gauge("config_revision", "Revision of the configuration in force; 0 before the first."),
		lastSuccess: gauge("config_last_success_timestamp_seconds", "When configuration last came into force."),
		faults:      gauge("config_faults", "Faults of the configuration in force; what they guard is closed."),
		applyErrors: prometheus.NewCounter(counter("config_apply_errors_total", "Configurations that came into force with faults or could not.")),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "config_info", Help: "Always 1; the labels say which configuration is in force.",
		}, []string{"epoch", "digest"}),
		panics:   prometheus.NewCounterVec(counter("policy_panics_total", "Requests answered 500 because a policy panicked."), []string{"policy"}),
		requests: newRequests(c.maxRoutes(), c.Logins),
		reports:  newReports(),
	}
	c.Registry.MustRegister(m.revision, m.lastSuccess, m.faults, m.applyErrors, m.info, m.panics, m.requests, m.requests.logins, m.reports)
	m.ask(c)
	return m
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
}

func counter(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
}

// ask registers what others know. A function that is not given has no metric.
func (m *metrics) ask(c Config) {
	level := func(name, help string, f func() int64) {
		if f != nil {
			o := prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
			c.Registry.MustRegister(prometheus.NewGaugeFunc(o, func() float64 { return float64(f()) }))
		}
	}
	count := func(name, help string, f func() uint64) {
		if f != nil {
			o := prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
			c.Registry.MustRegister(prometheus.NewCounterFunc(o, func() float64 { return float64(f()) }))
		}
	}
	if c.HandshakeFailures != nil {
		c.Registry.MustRegister(newHandshakeFailures(c.HandshakeFailures))
	}
	if c.Authentication != nil {
		c.Registry.MustRegister(newAuthentication(c.Authentication))
	}
	if c.Stores != nil {
		c.Registry.MustRegister(newStores(c.Stores))
	}
	if c.Responders != nil && c.Runtime != nil {
		c.Registry.MustRegister(newRevocations(c))
	}
	if c.Runtime != nil {
		c.Registry.MustRegister(newExpiries(c))
		level("config_generations", "Compiled configurations in memory; those that nothing uses any more are collected in time.", c.Runtime.Generations)
	}
	level("requests_in_flight", "Requests under way.", c.InFlight)
	level("connections", "Open connections of clients.", c.Connections)
	level("body_memory_bytes", "Memory of request bodies that are held because policies need them whole.", c.BodyBytes)
	level("tls_handshakes_in_progress", "TLS handshakes of clients under way.", c.Handshakes)
	count("connections_refused_total", "Connections of clients that were closed at once because there were too many.", c.Refused)
	count("ambiguous_client_certificates_total", "Requests refused because their client certificate is that of several consumers.", c.Ambiguous)
	count("ambiguous_directory_logins_total", "Logins refused because the directory has several users of that name.", c.AmbiguousLogins)
	count("access_log_dropped_total", "Access log lines that were dropped rather than to wait.", c.Dropped)
	if c.ControlPlane != nil {
		level("control_plane_connected", "1 while there is a stream from the control plane.", func() int64 { return number(c.ControlPlane().Connected) })
		level("config_distrusted", "1 while configurations that come do not add up to their digest; the last good one stays in force.",
			func() int64 { return number(c.ControlPlane().Distrusted) })
		count("config_refused_older_total", "Configurations that were refused because they were older than the one in force.",
			func() uint64 { return uint64(c.ControlPlane().Refused) })
		count("config_epoch_changes_total", "Configurations that began the history of their group anew, because the control plane was restored.",
			func() uint64 { return uint64(c.ControlPlane().Epochs) })
	}
	if c.Engine != "" {
		e := prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "http_engine_info", Help: "Always 1; the label says what speaks HTTP/1.1.",
		}, []string{"engine"})
		e.WithLabelValues(c.Engine).Set(1)
		c.Registry.MustRegister(e)
	}
}

func number(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// forget drops the series of routes and bindings that are gone.
func (m *metrics) forget(rt *runtime.Runtime) {
	m.requests.routes.forget(func(route string) bool { return route != "" && rt.Set.Get("routes", route) == nil })
	m.reports.bindings.forget(func(b binding) bool { return rt.Set.Get(b.kind, b.owner) == nil })
}

// reports counts what bindings in report mode would have refused.
type reports struct {
	bindings *table[binding, reported]
	desc     *prometheus.Desc
}

type binding struct{ policy, name, kind, owner string }

type reported struct {
	binding
	n atomic.Uint64
}

func newReports() *reports {
	return &reports{
		bindings: newTable(maxBindings, binding{name: "(other)"}, func(b binding) *reported { return &reported{binding: b} }),
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, "would_have_refused_total"),
			"Requests that a policy in report mode would have refused.", []string{"policy", "binding", "owner_kind", "owner"}, nil),
	}
}

func (r *reports) add(by *exchange.PolicyRef) {
	r.bindings.get(binding{by.Type, by.Name, by.OwnerKind, by.OwnerName}).n.Add(1)
}

// Describe implements prometheus.Collector.
func (r *reports) Describe(out chan<- *prometheus.Desc) { out <- r.desc }

// Collect implements prometheus.Collector.
func (r *reports) Collect(out chan<- prometheus.Metric) {
	for _, b := range r.bindings.all() {
		if n := b.n.Load(); n > 0 {
			out <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, float64(n), b.policy, b.name, b.kind, b.owner)
		}
	}
}
