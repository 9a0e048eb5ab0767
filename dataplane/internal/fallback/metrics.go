package fallback

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ refused *prometheus.CounterVec }

func newMetrics(registry prometheus.Registerer, state func() State) *metrics {
	gauge := func(name, help string, value func(State) float64) prometheus.Collector {
		o := prometheus.GaugeOpts{Namespace: "keyward", Subsystem: "gateway", Name: name, Help: help}
		return prometheus.NewGaugeFunc(o, func() float64 { return value(state()) })
	}
	m := &metrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "gateway", Name: "fallback_bundle_refused_total", Help: "Fallback bundles that were not used, by reason.",
	}, []string{"reason"})}
	registry.MustRegister(m.refused,
		gauge("fallback_bundle_serving", "1 while the configuration in force is that of a fallback bundle, unconfirmed by a control plane.", func(s State) float64 {
			if s.Serving {
				return 1
			}
			return 0
		}),
		gauge("fallback_bundle_issued_timestamp_seconds", "When the fallback bundle was issued that this gateway started from; 0 if from none.", func(s State) float64 {
			if s.Issued.IsZero() {
				return 0
			}
			return float64(s.Issued.UnixMilli()) / 1000
		}))
	return m
}
