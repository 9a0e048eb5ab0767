package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of this replica: of a job that another one ran it knows nothing.
type metrics struct {
	runs, failures *prometheus.CounterVec
	success        *prometheus.GaugeVec
	seconds        *prometheus.HistogramVec
}

func newMetrics() metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "keyward", Subsystem: "controlplane", Name: name, Help: help}
	}
	labels := []string{"job"}
	return metrics{
		runs:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("job_runs_total", "Runs of background jobs on this replica.")), labels),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts(opts("job_failures_total", "Those of them that failed.")), labels),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("job_last_success_timestamp_seconds",
			"When a background job last succeeded on this replica; 0 if it never did. The greatest of all replicas says when it last did at all.")), labels),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyward", Subsystem: "controlplane", Name: "job_seconds", Help: "How long background jobs took.",
			Buckets: []float64{.01, .1, 1, 10, 60, 300},
		}, labels),
	}
}

// declare makes a job's metrics exist before its first run.
func (m metrics) declare(job string) {
	m.runs.WithLabelValues(job)
	m.failures.WithLabelValues(job)
	m.success.WithLabelValues(job)
	m.seconds.WithLabelValues(job)
}

func (m metrics) ran(job string, begun time.Time, err error) {
	m.runs.WithLabelValues(job).Inc()
	m.seconds.WithLabelValues(job).Observe(time.Since(begun).Seconds())
	if err != nil {
		m.failures.WithLabelValues(job).Inc()
		return
	}
	m.success.WithLabelValues(job).SetToCurrentTime()
}

// Describe implements prometheus.Collector.
func (m metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.runs, m.failures, m.success, m.seconds}
}
