package fleet

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Summary is how the fleet does.
type Summary struct {
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	Gateways int       `json:"gateways"`
	// Enrolled have an identity, Connected a stream, Configured a verified configuration.
	Enrolled   int `json:"enrolled"`
	Connected  int `json:"connected"`
	Configured int `json:"configured"`
	// Epoch and Revision are the newest that any gateway has; AtRevision how many have it, Lowest the oldest that one has.
	Epoch      uint64 `json:"epoch,string"`
	Revision   int64  `json:"revision"`
	AtRevision int    `json:"at_revision"`
	Lowest     int64  `json:"lowest_revision"`
	// LastApplied is when a gateway applied something; null before.
	LastApplied *time.Time `json:"last_applied"`
	// The rest are sums over all gateways since the start; see Status of the client.
	Resets           int   `json:"resets"`
	Resyncs          int   `json:"resyncs"`
	Mismatches       int   `json:"mismatches"`
	Rewound          int   `json:"rewound"`
	Distrusted       int   `json:"distrusted"` // now
	Connects         int   `json:"connects"`
	FailedHandshakes int   `json:"failed_handshakes"`
	Unreachable      int   `json:"unreachable"`
	ReceivedBytes    int64 `json:"received_bytes"`
}

// Summary returns how the fleet does.
func (f *Fleet) Summary() Summary {
	at := f.progress.standing()
	s := Summary{
		Event: "status", Time: time.Now(), Gateways: len(f.members), Configured: at.configured, Epoch: at.newest.epoch,
		Revision: at.newest.revision, AtRevision: at.there, Lowest: at.lowest, ReceivedBytes: f.received.Load(),
	}
	if !at.last.IsZero() {
		s.LastApplied = &at.last
	}
	for _, m := range f.members {
		st := m.Status()
		s.Enrolled += one(st.Gateway != "")
		s.Connected += one(st.Connected)
		s.Distrusted += one(st.Distrusted)
		s.Resets += st.Resets
		s.Resyncs += st.Resyncs
		s.Mismatches += st.Misfits
		s.Rewound += st.Rewound
		s.Connects += st.Connects
		s.FailedHandshakes += st.Refused
		s.Unreachable += st.Unreachable
	}
	return s
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// took is a histogram in the making.
type took struct {
	count   uint64
	seconds float64
	buckets map[float64]uint64
}

// bounds are the histograms' upper bounds in seconds.
func bounds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

func newTook() took {
	t := took{buckets: map[float64]uint64{}}
	for _, b := range bounds() {
		t.buckets[b] = 0
	}
	return t
}

func (t *took) add(d time.Duration) {
	t.count++
	t.seconds += d.Seconds()
	for _, b := range bounds() {
		if d.Seconds() <= b {
			t.buckets[b]++
		}
	}
}

func (t *took) clone() took { return took{t.count, t.seconds, maps.Clone(t.buckets)} }

// collector shows a summary as metrics.
type collector struct {
	fleet    *Fleet
	figures  []figure
	one, all *prometheus.Desc
}

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Summary) float64
}

func newCollector(f *Fleet) *collector {
	c := &collector{
		fleet: f,
		one:   describe("applied_seconds", "From a commit to a gateway that has applied it, by the clocks of both."),
		all:   describe("all_applied_seconds", "From a commit to the last gateway that has applied it, by the clocks of both."),
	}
	gauge := func(name, help string, value func(Summary) float64) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.GaugeValue, value})
	}
	counter := func(name, help string, value func(Summary) float64) {
		c.figures = append(c.figures, figure{describe(name, help), prometheus.CounterValue, value})
	}
	gauge("gateways", "Simulated gateways.", func(s Summary) float64 { return float64(s.Gateways) })
	gauge("enrolled_gateways", "Gateways that have an identity.", func(s Summary) float64 { return float64(s.Enrolled) })
	gauge("connected_gateways", "Gateways that have a stream.", func(s Summary) float64 { return float64(s.Connected) })
	gauge("distrusting_gateways", "Gateways that were repeatedly sent what does not add up.", func(s Summary) float64 { return float64(s.Distrusted) })
	gauge("config_revision", "The newest revision that any gateway has.", func(s Summary) float64 { return float64(s.Revision) })
	gauge("config_lowest_revision", "The oldest revision that a gateway of the newest epoch has.", func(s Summary) float64 { return float64(s.Lowest) })
	gauge("at_revision_gateways", "Gateways that have the newest revision.", func(s Summary) float64 { return float64(s.AtRevision) })
	gauge("last_applied_timestamp_seconds", "When a gateway applied something last; 0 before the first.", func(s Summary) float64 {
		if s.LastApplied == nil {
			return 0
		}
		return float64(s.LastApplied.UnixMicro()) / 1e6
	})
	counter("resets_total", "Whole sets that were received.", func(s Summary) float64 { return float64(s.Resets) })
	counter("resyncs_total", "Whole sets that were asked for because something did not add up.", func(s Summary) float64 { return float64(s.Resyncs) })
	counter("mismatches_total", "Changes that did not fit or did not add up to their digest.", func(s Summary) float64 { return float64(s.Mismatches) })
	counter("rewound_total", "Older revisions that were refused.", func(s Summary) float64 { return float64(s.Rewound) })
	counter("connects_total", "Streams on which the control plane was heard.", func(s Summary) float64 { return float64(s.Connects) })
	counter("failed_handshakes_total", "Connections that ended before the control plane was heard.", func(s Summary) float64 { return float64(s.FailedHandshakes) })
	counter("unreachable_total", "Attempts to connect that failed.", func(s Summary) float64 { return float64(s.Unreachable) })
	counter("received_bytes_total", "Bytes received from the control plane, TLS included.", func(s Summary) float64 { return float64(s.ReceivedBytes) })
	return c
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("keyward", "fleet", name), help, nil, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		ch <- f.desc
	}
	ch <- c.one
	ch <- c.all
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.fleet.Summary()
	for _, f := range c.figures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(s))
	}
	one, all := c.fleet.progress.times()
	ch <- prometheus.MustNewConstHistogram(c.one, one.count, one.seconds, one.buckets)
	ch <- prometheus.MustNewConstHistogram(c.all, all.count, all.seconds, all.buckets)
}
