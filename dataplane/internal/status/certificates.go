package status

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sni"
)

const (
	// maxExpiries is how many certificates have series of their own: those that end soonest, of which one wants to hear.
	maxExpiries = 200
	// maxShown bounds what /status lists.
	maxShown = 1000
)

// FileCertificate is the certificate that the process was given as files.
type FileCertificate struct {
	ID       string
	NotAfter time.Time
}

// fileName stands for it where certificates of the configuration have names.
const fileName = "(file)"

type tlsReport struct {
	Certificates []certificateReport `json:"certificates"`
	// More is how many are not listed.
	More     int                 `json:"more,omitempty"`
	Defaults []certificateReport `json:"defaults,omitempty"`
	File     *certificateReport  `json:"file,omitempty"`
}

// certificateReport is what is shown of a certificate now. Never a key.
type certificateReport struct {
	Name string   `json:"name,omitempty"`
	SNIs []string `json:"snis,omitempty"`
	// ID and NotAfter are those of the version that is shown; empty: none can be.
	ID       string `json:"id,omitempty"`
	NotAfter string `json:"not_after,omitempty"`
	// StapledUntil is until when it is shown with an answer of its responder; empty: it is without.
	StapledUntil string `json:"stapled_until,omitempty"`
}

func shownReport(c *sni.Certificate, now time.Time) certificateReport {
	r := certificateReport{Name: c.Set.Name, SNIs: c.Set.SNIs}
	if v := c.At(now); v != nil {
		r.ID, r.NotAfter = v.ID, v.Leaf().NotAfter.UTC().Format(time.RFC3339)
	}
	if end := c.StapledUntil(now); !end.IsZero() {
		r.StapledUntil = end.UTC().Format(time.RFC3339)
	}
	return r
}

// tlsReport says what clients are shown; nil if nothing ever is.
func (s *Status) tlsReport(rt *runtime.Runtime, now time.Time) *tlsReport {
	r := &tlsReport{Certificates: []certificateReport{}}
	if s.config.File != nil {
		f := s.config.File()
		r.File = &certificateReport{ID: f.ID, NotAfter: f.NotAfter.UTC().Format(time.RFC3339)}
	}
	if rt != nil {
		all := slices.SortedFunc(slices.Values(rt.Certificates.All()), func(a, b *sni.Certificate) int { return strings.Compare(a.Set.Name, b.Set.Name) })
		for _, c := range all[:min(len(all), maxShown)] {
			r.Certificates = append(r.Certificates, shownReport(c, now))
		}
		r.More = max(len(all)-maxShown, 0)
		for _, c := range rt.Certificates.Defaults() {
			d := shownReport(c, now)
			d.SNIs = nil
			r.Defaults = append(r.Defaults, d)
		}
	}
	if r.File == nil && len(r.Certificates)+len(r.Defaults) == 0 {
		return nil
	}
	return r
}

// expiries are the times when there will be nothing left to show of a certificate.
type expiries struct {
	runtime *runtime.Holder
	file    func() FileCertificate // nil: none
	desc    *prometheus.Desc
}

func newExpiries(c Config) *expiries {
	return &expiries{c.Runtime, c.File, prometheus.NewDesc(
		prometheus.BuildFQName(namespace, subsystem, "certificate_expires_timestamp_seconds"),
		"When a certificate ends that clients are shown, or that is in files of this gateway, with its staged version if there is one; 0: it cannot be shown. Those that end soonest.",
		[]string{"certificate"}, nil)}
}

// Describe implements prometheus.Collector.
func (e *expiries) Describe(out chan<- *prometheus.Desc) { out <- e.desc }

// Collect implements prometheus.Collector.
func (e *expiries) Collect(out chan<- prometheus.Metric) {
	emit := func(name string, end time.Time) {
		var at float64
		if !end.IsZero() {
			at = float64(end.Unix())
		}
		out <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, at, name)
	}
	if e.file != nil {
		emit(fileName, e.file().NotAfter)
	}
	rt := e.runtime.Load()
	if rt == nil {
		return
	}
	ends := map[string]time.Time{}
	for _, c := range slices.Concat(rt.Certificates.All(), rt.Certificates.Defaults()) {
		ends[c.Set.Name] = c.Ends()
	}
	for _, f := range rt.Files { // also if it is shown to targets only: nobody but the gateway knows when it ends
		if c, ok := rt.Held.Get(f.Certificate); ok {
			ends[f.Certificate] = c.Ends()
		}
	}
	names := make([]string, 0, len(ends))
	for name := range ends {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := ends[a].Compare(ends[b]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	for _, name := range names[:min(len(names), maxExpiries)] {
		emit(name, ends[name])
	}
}

// handshakeFailures counts TLS handshakes that failed.
type handshakeFailures struct {
	ask  func() map[string]uint64
	desc *prometheus.Desc
}

func newHandshakeFailures(ask func() map[string]uint64) *handshakeFailures {
	return &handshakeFailures{ask, prometheus.NewDesc(
		prometheus.BuildFQName(namespace, subsystem, "tls_handshake_failures_total"), "TLS handshakes of clients that failed.", []string{"reason"}, nil)}
}

// Describe implements prometheus.Collector.
func (f *handshakeFailures) Describe(out chan<- *prometheus.Desc) { out <- f.desc }

// Collect implements prometheus.Collector.
func (f *handshakeFailures) Collect(out chan<- prometheus.Metric) {
	for reason, n := range f.ask() {
		out <- prometheus.MustNewConstMetric(f.desc, prometheus.CounterValue, float64(n), reason)
	}
}
