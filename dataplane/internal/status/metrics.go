package status

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/runtime"
)

// classes of answers, by the first digit of the status; 0 is for exchanges that broke off without one.
func class(status int) int {
	if c := status / 100; c >= 1 && c <= 5 {
		return c
	}
	return 0
}

func className(c int) string {
	return [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}[c]
}

// metrics are the gateway's own; process and Go metrics are the registry's.
type metrics struct {
	revision, lastSuccess, faults prometheus.Gauge
	applyErrors                   prometheus.Counter
	info                          *prometheus.GaugeVec
	duration                      *prometheus.HistogramVec
	wouldRefuse, panics           *prometheus.CounterVec
	bytesIn, bytesOut             prometheus.Counter

	mu     sync.RWMutex
	routes map[string]*[6]prometheus.Observer // guarded by mu; elements are made on first use under mu
}

const (
	namespace = "keyward"
	subsystem = "gateway"
)

func newMetrics(reg prometheus.Registerer, inFlight, dropped func() float64) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		revision:    gauge("config_revision", "Revision of the configuration in force; 0 before the first."),
		lastSuccess: gauge("config_last_success_timestamp_seconds", "When configuration last came into force."),
		faults:      gauge("config_faults", "Faults of the configuration in force; what they guard is closed."),
		applyErrors: prometheus.NewCounter(counter("config_apply_errors_total", "Configurations that came into force with faults or could not.")),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "config_info", Help: "Always 1; the labels say which configuration is in force.",
		}, []string{"epoch", "digest"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "request_duration_seconds",
			Help:    "From the request's head to the end of the answer, by route (empty: none matched) and class of status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "class"}),
		wouldRefuse: prometheus.NewCounterVec(counter("would_have_refused_total", "Requests that a policy in report mode would have refused."),
			[]string{"policy", "binding", "owner_kind", "owner"}),
		panics:   prometheus.NewCounterVec(counter("policy_panics_total", "Requests answered 500 because a policy panicked."), []string{"policy"}),
		bytesIn:  prometheus.NewCounter(counter("request_body_bytes_total", "Bytes of request bodies read.")),
		bytesOut: prometheus.NewCounter(counter("response_body_bytes_total", "Bytes of response bodies sent.")),
		routes:   map[string]*[6]prometheus.Observer{},
	}
	reg.MustRegister(m.revision, m.lastSuccess, m.faults, m.applyErrors, m.info, m.duration, m.wouldRefuse, m.panics, m.bytesIn, m.bytesOut,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "requests_in_flight", Help: "Requests under way.",
		}, inFlight),
		prometheus.NewCounterFunc(counter("access_log_dropped_total", "Access log lines that were dropped rather than to wait."), dropped))
	return m
}

// observer returns the histogram of a route and class without allocating, but for the first time.
func (m *metrics) observer(route string, class int) prometheus.Observer {
	m.mu.RLock()
	if r := m.routes[route]; r != nil && r[class] != nil {
		defer m.mu.RUnlock()
		return r[class]
	}
	m.mu.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.routes[route]
	if r == nil {
		r = &[6]prometheus.Observer{}
		m.routes[route] = r
	}
	if r[class] == nil {
		r[class] = m.duration.WithLabelValues(route, className(class))
	}
	return r[class]
}

// forget drops the series of routes that are gone.
func (m *metrics) forget(rt *runtime.Runtime) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.routes {
		if name != "" && rt.Set.Get("routes", name) == nil {
			delete(m.routes, name)
			m.duration.DeletePartialMatch(prometheus.Labels{"route": name})
		}
	}
}
