package status

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/shared/check/certs"
)

type revocationReport struct {
	Authorities []authorityReport `json:"authorities"`
	// More is how many are not listed.
	More int `json:"more,omitempty"`
	// Responders is what responders were asked, and how much of it is kept.
	Responders *respondersReport `json:"responders,omitempty"`
}

// authorityReport is what is known of what the authorities of a CA certificate have revoked.
type authorityReport struct {
	Name   string       `json:"name"`
	Strict bool         `json:"strict"`
	OCSP   bool         `json:"ocsp"`
	Lists  []listReport `json:"lists,omitempty"`
}

type listReport struct {
	Issuer     string `json:"issuer"`
	Number     string `json:"number,omitempty"`
	Revoked    int    `json:"revoked"`
	ThisUpdate string `json:"this_update"`
	NextUpdate string `json:"next_update"`
	// Stale: it is out of date, and says nothing any more of certificates that are not on it.
	Stale bool `json:"stale,omitempty"`
}

type respondersReport struct {
	Asked   uint64 `json:"asked"`
	Failed  uint64 `json:"failed"`
	Entries int    `json:"entries"`
}

// checked are the CA certificates of which somebody asks what they have revoked, by name.
func checked(rt *runtime.Runtime) (names []string, by map[string]*revocation.Checker) {
	by = map[string]*revocation.Checker{}
	if rt == nil || rt.Authorities == nil {
		return nil, by
	}
	for name, a := range rt.Authorities.All() {
		if a.Checker != nil {
			names, by[name] = append(names, name), a.Checker
		}
	}
	slices.Sort(names)
	return names, by
}

// revocationReport says what is known of revoked certificates; nil if nobody asks.
func (s *Status) revocationReport(rt *runtime.Runtime, now time.Time) *revocationReport {
	names, by := checked(rt)
	if len(names) == 0 {
		return nil
	}
	r := &revocationReport{More: max(len(names)-maxShown, 0)}
	for _, name := range names[:min(len(names), maxShown)] {
		rules := by[name].Rules()
		a := authorityReport{Name: name, Strict: rules.Strict, OCSP: rules.OCSP}
		for _, l := range by[name].Lists() {
			one := listReport{
				Issuer: certs.Info(l.Issuer).GetSubject(), Revoked: l.Len(), Stale: !l.FreshAt(now),
				ThisUpdate: l.ThisUpdate.UTC().Format(time.RFC3339), NextUpdate: l.NextUpdate.UTC().Format(time.RFC3339),
			}
			if l.Number != nil {
				one.Number = l.Number.String()
			}
			a.Lists = append(a.Lists, one)
		}
		slices.SortFunc(a.Lists, func(x, y listReport) int { return strings.Compare(x.Issuer+x.Number, y.Issuer+y.Number) })
		r.Authorities = append(r.Authorities, a)
	}
	if s.config.Responders != nil {
		st := s.config.Responders.Stats()
		r.Responders = &respondersReport{st.Asked, st.Failed, st.Entries}
	}
	return r
}

// revocations export what came of asking for revoked certificates, and until when what is known counts.
type revocations struct {
	runtime                 *runtime.Holder
	responders              *revocation.Cache
	judged, questions, ends *prometheus.Desc
}

func newRevocations(c Config) *revocations {
	name := func(n string) string { return prometheus.BuildFQName(namespace, subsystem, n) }
	return &revocations{
		c.Runtime, c.Responders,
		prometheus.NewDesc(name("client_certificate_revocation_total"),
			"Client certificates, each time they were judged anew, that were revoked, let_in although nobody could tell, or unchecked: answered 503 because nobody could.",
			[]string{"result"}, nil),
		prometheus.NewDesc(name("ocsp_questions_total"), "Questions to responders for client certificates, by whether they gave an answer that counts.", []string{"result"}, nil),
		prometheus.NewDesc(name("revocation_list_ends_timestamp_seconds"),
			"When the first revocation list of a CA certificate is out of date. Those that are first.", []string{"ca_certificate"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (r *revocations) Describe(out chan<- *prometheus.Desc) {
	out <- r.judged
	out <- r.questions
	out <- r.ends
}

// Collect implements prometheus.Collector.
func (r *revocations) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, result string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), result)
	}
	t, st := &r.responders.Tally, r.responders.Stats()
	count(r.judged, t.Revoked.Load(), "revoked")
	count(r.judged, t.LetIn.Load(), "let_in")
	count(r.judged, t.Unsure.Load(), "unchecked")
	count(r.questions, st.Asked-min(st.Failed, st.Asked), "ok")
	count(r.questions, st.Failed, "failed")
	ends := map[string]time.Time{}
	names, by := checked(r.runtime.Load())
	names = slices.DeleteFunc(names, func(name string) bool { return len(by[name].Lists()) == 0 })
	for _, name := range names {
		for _, l := range by[name].Lists() {
			if end := ends[name]; end.IsZero() || l.NextUpdate.Before(end) {
				ends[name] = l.NextUpdate
			}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return ends[a].Compare(ends[b]) })
	for _, name := range names[:min(len(names), maxExpiries)] {
		out <- prometheus.MustNewConstMetric(r.ends, prometheus.GaugeValue, float64(ends[name].Unix()), name)
	}
}
