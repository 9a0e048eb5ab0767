package credentialuse

import "github.com/prometheus/client_golang/prometheus"

// NewCollector exports how many uses were lost.
func NewCollector(b *Book) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "keyward", Subsystem: "controlplane", Name: "credential_uses_lost_total",
		Help: "Uses of credentials that gateways told of and that were not kept, because too many waited to be written.",
	}, func() float64 { return float64(b.Lost()) })
}
