package sealedcache

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	writes, writeErrors prometheus.Counter
	refused             *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, state func() State) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "keyward", Subsystem: "gateway", Name: name, Help: help}
	}
	gauge := func(name, help string, value func(State) float64) prometheus.Collector {
		o := prometheus.GaugeOpts{Namespace: "keyward", Subsystem: "gateway", Name: name, Help: help}
		return prometheus.NewGaugeFunc(o, func() float64 { return value(state()) })
	}
	m := &metrics{
		writes:      prometheus.NewCounter(counter("sealed_cache_writes_total", "Writes of the sealed cache that were begun.")),
		writeErrors: prometheus.NewCounter(counter("sealed_cache_write_errors_total", "Writes of the sealed cache that failed.")),
		refused:     prometheus.NewCounterVec(counter("sealed_cache_refused_total", "Sealed caches that were not used at a start, by reason."), []string{"reason"}),
	}
	registry.MustRegister(m.writes, m.writeErrors, m.refused,
		gauge("sealed_cache_serving", "1 while the configuration in force is that of the sealed cache, unconfirmed by a control plane.", func(s State) float64 {
			if s.Serving {
				return 1
			}
			return 0
		}),
		gauge("sealed_cache_confirmed_timestamp_seconds", "When a control plane last stood behind what is in the sealed cache; 0 if not known.", func(s State) float64 {
			if s.Confirmed.IsZero() {
				return 0
			}
			return float64(s.Confirmed.UnixMilli()) / 1000
		}))
	return m
}
