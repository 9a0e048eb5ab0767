package status

import (
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
)

const (
	// maxStripes bounds the memory of counters: each series has as many of them.
	maxStripes = 16
	// otherRoutes is the label of what routes beyond the limit have in common. No resource can be called so.
	otherRoutes = "(other)"
)

// classes of answers, by the first digit of the status; 0 is for exchanges that broke off without one.
const classes = 6

func class(status int) int {
	if c := status / 100; c >= 1 && c <= 5 {
		return c
	}
	return 0
}

func className(c int) string {
	return [classes]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}[c]
}

// protocols are those that are told apart, as the access log calls them.
const protocols = 4

func protocol(p int) int {
	switch p {
	case 10:
		return 0
	case 11:
		return 1
	case 20:
		return 2
	}
	return 3
}

func protocolName(i int) string {
	return [protocols]string{"HTTP/1.0", "HTTP/1.1", "HTTP/2", "other"}[i]
}

// requests counts exchanges. Every counter is there several times, in stripes of which each is mostly used by one
// processor; who looks adds them up.
type requests struct {
	stripes []stripe
	near    sync.Pool // of *stripe: a pool hands out what was last used on the processor it runs on
	next    atomic.Uint32
	routes  *table[string, series]
	logins  *logins

	duration, total, bytesIn, bytesOut *prometheus.Desc
}

type stripe struct {
	index   int
	ended   [classes][protocols]atomic.Uint64
	in, out atomic.Uint64
	_       [128]byte // keeps neighbours out of each other's cache lines
}

// series is the durations of a route's exchanges, by class. A histogram is made when its class first comes up.
type series struct {
	route   string
	classes [classes]atomic.Pointer[histogram]
}

func newRequests(maxRoutes int, authenticate []string) *requests {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
	}
	r := &requests{
		stripes: make([]stripe, min(goruntime.GOMAXPROCS(0), maxStripes)),
		routes:  newTable(maxRoutes, otherRoutes, func(route string) *series { return &series{route: route} }),
		duration: desc("request_duration_seconds",
			"From the request's head to the end of the answer, by route (empty: none matched) and class of status.", "route", "class"),
		total:    desc("requests_total", "Requests that ended, by the protocol of the client.", "protocol"),
		bytesIn:  desc("request_body_bytes_total", "Bytes of request bodies read."),
		bytesOut: desc("response_body_bytes_total", "Bytes of response bodies sent."),
	}
	for i := range r.stripes {
		r.stripes[i].index = i
	}
	r.logins = newLogins(authenticate, len(r.stripes))
	r.routes.get("") // requests that match no route always have their own
	r.near.New = func() any { return &r.stripes[int(r.next.Add(1))%len(r.stripes)] }
	return r
}

// observe counts an exchange. It takes no lock unless the route is new, and allocates nothing unless route or class are.
func (r *requests) observe(x *exchange.Exchange, o *accesslog.Outcome) {
	s, ok := r.near.Get().(*stripe)
	if !ok {
		s = &r.stripes[0]
	}
	c := class(o.Status)
	s.ended[c][protocol(x.Request.Proto)].Add(1)
	if o.BytesIn > 0 {
		s.in.Add(uint64(o.BytesIn))
	}
	if o.BytesOut > 0 {
		s.out.Add(uint64(o.BytesOut))
	}
	r.logins.observe(s.index, x)
	r.routes.get(x.Route.Name).of(c, len(r.stripes)).add(s.index, x.Timings.Done.Sub(x.Timings.Received))
	r.near.Put(s)
}

func (s *series) of(class, stripes int) *histogram {
	if h := s.classes[class].Load(); h != nil {
		return h
	}
	s.classes[class].CompareAndSwap(nil, newHistogram(stripes))
	return s.classes[class].Load()
}

// responses returns how many exchanges ended, by class.
func (r *requests) responses() (n [classes]uint64) {
	for i := range r.stripes {
		for c := range n {
			for p := range protocols {
				n[c] += r.stripes[i].ended[c][p].Load()
			}
		}
	}
	return n
}

// Describe implements prometheus.Collector.
func (r *requests) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{r.duration, r.total, r.bytesIn, r.bytesOut} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (r *requests) Collect(out chan<- prometheus.Metric) {
	var ended [protocols]uint64
	var in, sent uint64
	for i := range r.stripes {
		s := &r.stripes[i]
		for c := range classes {
			for p := range ended {
				ended[p] += s.ended[c][p].Load()
			}
		}
		in, sent = in+s.in.Load(), sent+s.out.Load()
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for p, n := range ended {
		count(r.total, n, protocolName(p))
	}
	count(r.bytesIn, in)
	count(r.bytesOut, sent)
	for _, s := range r.routes.all() {
		for c := range classes {
			if h := s.classes[c].Load(); h != nil {
				n, sum, buckets := h.read()
				out <- prometheus.MustNewConstHistogram(r.duration, n, sum.Seconds(), buckets, s.route, className(c))
			}
		}
	}
}
