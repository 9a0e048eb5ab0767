package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/controlplane/internal/certstatus"
	"keyward.dev/controlplane/internal/credentialstore"
	"keyward.dev/controlplane/internal/credentialuse"
	"keyward.dev/controlplane/internal/expiry"
	"keyward.dev/controlplane/internal/issuance"
	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/sealer"
	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/telemetry"
)

// replicaStatus is what the status port knows: nothing but that the process lives until the plane serves.
type replicaStatus struct {
	registry    *prometheus.Registry
	plane       atomic.Pointer[plane]
	waiting     atomic.Pointer[string] // for what, if it is known
	collectors  []prometheus.Collector // of the plane; of whoever runs it
	propagation *prometheus.HistogramVec
	ahead       *prometheus.CounterVec
}

func newStatus() *replicaStatus {
	s := &replicaStatus{
		registry: telemetry.NewRegistry("controlplane"),
		propagation: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyward", Subsystem: "controlplane", Name: "propagation_seconds",
			Help:    "From the commit of a change until a gateway said that it had applied it.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60},
		}, []string{"group"}),
		ahead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "keyward", Subsystem: "controlplane", Name: "gateways_ahead_total",
			Help: "Streams refused because their gateway has a later revision than this replica can see.",
		}, []string{"group"}),
	}
	s.registry.MustRegister(s.propagation, s.ahead)
	return s
}

// propagated notes how long a change took to a gateway.
func (s *replicaStatus) propagated(group string, took time.Duration) {
	s.propagation.WithLabelValues(group).Observe(took.Seconds())
}

// gatewayAhead counts a gateway that was refused because it has seen more than this replica.
func (s *replicaStatus) gatewayAhead(group string) { s.ahead.WithLabelValues(group).Inc() }

var errStarting = errors.New("waiting for the database, its schema or its keys; the log says which")

// ready says whether the replica serves. It goes on being ready while the database is down: streams and reads do too.
func (s *replicaStatus) ready() error {
	if s.plane.Load() != nil {
		return nil
	}
	if why := s.waiting.Load(); why != nil {
		return errors.New(*why)
	}
	return errStarting
}

// waitingFor notes why there is no plane yet, as far as it may be told to whoever asks: the names of keys may.
func (s *replicaStatus) waitingFor(err error) {
	why := errStarting.Error()
	if missing, ok := errors.AsType[*sealer.MissingKEKError](err); ok {
		why = "waiting for a key: " + missing.Error()
	} else if errors.Is(err, kek.ErrUnavailable) {
		why = "waiting for the key-encryption key, which does not answer; the log says why"
	} else if down(err) {
		why = "waiting for who keeps a secret of the settings; the log says which"
	}
	s.waiting.Store(&why)
}

// serving publishes the plane and its metrics.
func (s *replicaStatus) serving(p *plane) {
	s.collectors = []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "keyward", Subsystem: "controlplane", Name: "connected_gateways",
			Help: "Gateways with a stream to this replica.",
		}, func() float64 { return float64(p.registry.Connected()) }),
		newBeginners(p.sync),
		authorityEnds{p.ca, prometheus.NewDesc("keyward_controlplane_authority_expires_timestamp_seconds",
			"Until when the certificate authority that signs now is valid.", []string{"kind"}, nil)},
		p.jobs,
		p.keyrings,
		p.keeper,
		newGroupRevisions(p.core.groups, p.registry),
		newAbortedRollouts(p.driver),
		expiry.NewMetrics(p.core.groups, time.Now),
		secretsource.NewCollector(p.core.groups, p.secrets),
		credentialstore.NewCollector(p.core.groups, p.stores),
		credentialuse.NewCollector(p.uses),
		certstatus.NewCollector(p.core.groups, p.statuses),
		issuance.NewCollector(p.core.groups, p.issuance),
	}
	s.registry.MustRegister(s.collectors...)
	s.plane.Store(p)
}

// ended takes the plane and its metrics away.
func (s *replicaStatus) ended() {
	s.plane.Store(nil)
	for _, c := range s.collectors {
		s.registry.Unregister(c)
	}
	s.collectors = nil
}

func serveStatus(ctx context.Context, l net.Listener, s *replicaStatus) error {
	server := &http.Server{
		Handler: telemetry.StatusHandler(s.registry, nil, s.ready), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return serveHTTP(ctx, server, l)
}
