// Package status tells what a gateway is doing: metrics, readiness, and which configuration is in force. It watches and
// never acts. Called by the server for every exchange, by the chain runner for reports and panics, and by the wiring when
// configuration comes into force.
package status

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
)

// forgetEvery is how long series of removed routes are kept at most.
const forgetEvery = time.Minute

// Config is what a Status is made from. The functions are asked whenever somebody looks.
type Config struct {
	Registry prometheus.Registerer
	Runtime  *runtime.Holder
	Version  string
	// Engine is what speaks HTTP/1.1.
	Engine   string
	Draining func() bool
	InFlight func() int64
	// Connections are those of clients that are open, Handshakes those of them that negotiate TLS, Refused those that were
	// closed at once because a bound was reached.
	Connections, Handshakes func() int64
	Refused                 func() uint64
	// BodyBytes is the memory of request bodies that are held whole.
	BodyBytes func() int64
	Dropped   func() uint64 // access log lines
	// Ambiguous counts the client certificates that were refused because they are those of several consumers.
	Ambiguous func() uint64
	// AmbiguousLogins counts the logins at directories that were refused because they are those of several users.
	AmbiguousLogins func() uint64
	// Logins are the types of the policies that authenticate.
	Logins []string
	// Authentication says how the services do that such policies have in common.
	Authentication func() hostsvc.Stats
	// Stores are those that this gateway shares with others; nil: nobody knows of any.
	Stores func() []Store
	// HandshakeFailures are the TLS handshakes that failed, by reason.
	HandshakeFailures func() map[string]uint64
	// Responders keep what they have said of clients' certificates; nil: nobody is asked.
	Responders *revocation.Cache
	// File is the certificate that the process was given as files; nil: none.
	File func() FileCertificate
	// Cache says how the sealed cache does; nil: there is none.
	Cache func() Cache
	// Fallback says how the fallback bundle does; nil: there is none.
	Fallback func() Fallback
	// ControlPlane says how the connection to the control plane does.
	ControlPlane func() ControlPlane
	// MaxRoutes is how many routes have series of their own; 0: MaxRoutes. The others are counted together, as "(other)".
	MaxRoutes int
	Log       *slog.Logger
}

func (c *Config) maxRoutes() int {
	if c.MaxRoutes > 0 {
		return c.MaxRoutes
	}
	return MaxRoutes
}

// Cache is how the sealed cache does.
type Cache struct {
	// Serving: what is in force is the cache's, and no control plane has confirmed it.
	Serving bool
	// Confirmed is when a control plane last stood behind what is in the cache; zero if not known.
	Confirmed time.Time
	// Refused is why a start did not use the cache; empty if it did or did not try.
	Refused     string
	WriteFailed bool
}

// Fallback is how the fallback bundle does.
type Fallback struct {
	// Serving: what is in force is the bundle's, and no control plane has confirmed it.
	Serving bool
	// Issued is when the bundle was issued that was opened; zero if none was.
	Issued time.Time
	// Refused is why a start did not use it; empty if it did or did not try.
	Refused string
}

// ControlPlane is how the connection to the control plane does.
type ControlPlane struct {
	Connected bool
	// Lost is since when there is none.
	Lost time.Time
	// Refused counts configurations that were older than the one in force, Epochs those that began the group's history anew;
	// Distrusted: those that come do not add up.
	Refused    int
	Epochs     int
	Distrusted bool
}

// Status is a gateway's view of itself.
type Status struct {
	config  Config
	metrics *metrics

	mu      sync.Mutex
	applied time.Time       // guarded by mu
	faults  []runtime.Fault // guarded by mu
}

// New registers the gateway's metrics.
func New(c Config) *Status {
	return &Status{config: c, metrics: newMetrics(c)}
}

// Run forgets what is gone, until ctx ends.
func (s *Status) Run(ctx context.Context) error {
	t := time.NewTicker(forgetEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if rt := s.config.Runtime.Load(); rt != nil {
				s.metrics.forget(rt)
			}
		}
	}
}

// Applied notes that a runtime came into force.
func (s *Status) Applied(rt *runtime.Runtime, faults []runtime.Fault, at time.Time) {
	s.mu.Lock()
	s.applied, s.faults = at, faults
	s.mu.Unlock()
	m := s.metrics
	m.revision.Set(float64(rt.Set.Revision))
	m.lastSuccess.Set(float64(at.UnixMilli()) / 1000)
	m.faults.Set(float64(len(faults)))
	m.info.Reset()
	m.info.WithLabelValues(strconv.FormatUint(rt.Set.Epoch, 10), hex.EncodeToString(rt.Set.Digest[:])).Set(1)
	if len(faults) > 0 {
		m.applyErrors.Inc()
	}
}

// ApplyFailed notes that configuration could not come into force at all.
func (s *Status) ApplyFailed() { s.metrics.applyErrors.Inc() }

// Observe counts an exchange.
func (s *Status) Observe(x *exchange.Exchange, o accesslog.Outcome) {
	s.metrics.requests.observe(x, &o)
}

// Responses returns how many exchanges ended so far, by class of status.
func (s *Status) Responses() map[string]uint64 {
	out := map[string]uint64{}
	for c, n := range s.metrics.requests.responses() {
		if n > 0 {
			out[className(c)] = n
		}
	}
	return out
}

// Reported implements policy.Monitor.
func (s *Status) Reported(_ *exchange.Exchange, by *exchange.PolicyRef, _ *exchange.Refusal) {
	s.metrics.reports.add(by)
}

// Panicked implements policy.Monitor.
func (s *Status) Panicked(x *exchange.Exchange, by *exchange.PolicyRef, v any) {
	policy := ""
	if by != nil {
		policy = by.Type
	}
	s.metrics.panics.WithLabelValues(policy).Inc()
	s.config.Log.Error("policy panicked", "policy", policy, "route", x.Route.Name, "id", x.ID().String(), "err", v)
}

// Ready says what keeps the gateway from serving; nil means nothing does. An empty group is ready: it answers 404.
func (s *Status) Ready() error {
	switch {
	case s.config.Runtime.Load() == nil:
		return errors.New("no configuration yet")
	case s.config.Draining():
		return errors.New("draining")
	}
	return nil
}

// report is what /status answers.
type report struct {
	Version  string `json:"version"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason,omitempty"`
	Epoch    string `json:"epoch"` // a string: 63 bits do not survive every JSON reader
	Revision int64  `json:"revision"`
	Digest   string `json:"digest"`
	Applied  string `json:"applied_at,omitempty"`
	// Source is where the configuration in force was confirmed last: sourceLive, sourceCache or sourceBundle.
	Source string `json:"source,omitempty"`
	// ControlPlane is the connection to the control plane.
	ControlPlane controlPlaneReport `json:"control_plane"`
	Cache        *cacheReport       `json:"sealed_cache,omitempty"`
	Fallback     *fallbackReport    `json:"fallback_bundle,omitempty"`
	// TLS is what clients are shown.
	TLS *tlsReport `json:"tls,omitempty"`
	// Revocation is what is known of clients' certificates.
	Revocation *revocationReport `json:"revocation,omitempty"`
	// Stores are those that this gateway shares with others.
	Stores []storeReport `json:"shared_stores,omitempty"`
	Faults []fault       `json:"faults"`
}

const (
	sourceLive   = "control-plane"
	sourceCache  = "sealed-cache"
	sourceBundle = "fallback-bundle"
)

type controlPlaneReport struct {
	Connected bool `json:"connected"`
	// LostSeconds is for how long there has been no stream.
	LostSeconds *int64 `json:"lost_seconds,omitempty"`
	Refused     int    `json:"refused_older,omitempty"`
	Distrusted  bool   `json:"distrusted,omitempty"`
}

func (c ControlPlane) report() controlPlaneReport {
	r := controlPlaneReport{Connected: c.Connected, Refused: c.Refused, Distrusted: c.Distrusted}
	if !c.Connected && !c.Lost.IsZero() {
		r.LostSeconds = new(int64(max(time.Since(c.Lost), 0) / time.Second))
	}
	return r
}

type cacheReport struct {
	Confirmed   string `json:"confirmed_at,omitempty"`
	AgeSeconds  *int64 `json:"age_seconds,omitempty"`
	Refused     string `json:"refused,omitempty"`
	WriteFailed bool   `json:"write_failed,omitempty"`
}

func (c Cache) report() *cacheReport {
	r := &cacheReport{Refused: c.Refused, WriteFailed: c.WriteFailed}
	if !c.Confirmed.IsZero() {
		r.Confirmed = c.Confirmed.UTC().Format(time.RFC3339Nano)
		r.AgeSeconds = new(int64(max(time.Since(c.Confirmed), 0) / time.Second))
	}
	return r
}

type fallbackReport struct {
	Issued     string `json:"issued_at,omitempty"`
	AgeSeconds *int64 `json:"age_seconds,omitempty"`
	Refused    string `json:"refused,omitempty"`
}

func (f Fallback) report() *fallbackReport {
	r := &fallbackReport{Refused: f.Refused}
	if !f.Issued.IsZero() {
		r.Issued = f.Issued.UTC().Format(time.RFC3339Nano)
		r.AgeSeconds = new(int64(max(time.Since(f.Issued), 0) / time.Second))
	}
	return r
}

type fault struct {
	Kind   string `json:"kind"`
	UID    string `json:"uid"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Handler answers GET /status.
func (s *Status) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(s.report())
		if err != nil {
			http.Error(w, "internal", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(b, '\n'))
	})
}

func (s *Status) report() report {
	r := report{Version: s.config.Version, Faults: []fault{}, Epoch: "0"}
	if err := s.Ready(); err != nil {
		r.Reason = err.Error()
	} else {
		r.Ready = true
	}
	var cache Cache
	if s.config.Cache != nil {
		cache = s.config.Cache()
		r.Cache = cache.report()
	}
	var bundle Fallback
	if s.config.Fallback != nil {
		bundle = s.config.Fallback()
		r.Fallback = bundle.report()
	}
	if s.config.ControlPlane != nil {
		r.ControlPlane = s.config.ControlPlane().report()
	}
	rt := s.config.Runtime.Load()
	r.TLS, r.Revocation, r.Stores = s.tlsReport(rt, time.Now()), s.revocationReport(rt, time.Now()), s.storeReports()
	if rt != nil {
		r.Source = sourceLive
		switch {
		case cache.Serving:
			r.Source = sourceCache
		case bundle.Serving:
			r.Source = sourceBundle
		}
		r.Epoch, r.Revision, r.Digest = strconv.FormatUint(rt.Set.Epoch, 10), rt.Set.Revision, hex.EncodeToString(rt.Set.Digest[:])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.applied.IsZero() {
		r.Applied = s.applied.UTC().Format(time.RFC3339Nano)
	}
	for _, f := range s.faults {
		r.Faults = append(r.Faults, fault(f))
	}
	return r
}
