package status_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/status"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

var update = flag.Bool("update", false, "rewrite the list of metrics")

// lasted is an exchange of a route that took so long.
func lasted(route string, d time.Duration) *exchange.Exchange {
	x := &exchange.Exchange{Route: exchange.RouteInfo{Name: route}}
	x.Request.Proto = 11
	x.Timings.Received = time.Unix(1000, 0)
	x.Timings.Done = x.Timings.Received.Add(d)
	return x
}

// TestNamesOfMetrics: dashboards and alerts are made of these, so that a change has to be meant. Each is explained in the
// operator's manual.
func TestNamesOfMetrics(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	in := lasted("r", time.Second)
	in.Principal = &exchange.Principal{How: "key-auth"}
	s.Observe(in, accesslog.Outcome{Status: 200})
	s.Reported(lasted("r", 0), &exchange.PolicyRef{Type: "acl"}, nil)
	s.Panicked(lasted("r", 0), nil, "boom")
	s.Applied(&runtime.Runtime{Set: statetest.Set(t)}, nil, time.Unix(1000, 0))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		fmt.Fprintf(&got, "%s %s", f.GetName(), strings.ToLower(f.GetType().String()))
		for _, l := range f.GetMetric()[0].GetLabel() {
			got.WriteString(" " + l.GetName())
		}
		got.WriteString("\n")
		if !strings.Contains(string(manual), "`"+f.GetName()) {
			t.Errorf("docs/operating.md does not explain %s", f.GetName())
		}
	}
	const file = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("metrics are not those of %s; if that is meant, run with -update (-want +got):\n%s", file, diff)
	}
}

func TestDurationsAreThoseOfAnOrdinaryHistogram(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	oracle := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "oracle", Help: "What is right.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	reg.MustRegister(oracle)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		d := time.Duration(random.ExpFloat64() * float64(200*time.Millisecond))
		switch i % 100 {
		case 0:
			d = time.Millisecond // a bound belongs to its bucket
		case 1:
			d = time.Hour
		case 2:
			d = 0
		}
		s.Observe(lasted("r", d), accesslog.Outcome{Status: 200})
		oracle.Observe(d.Seconds())
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) (buckets []string, n uint64, sum float64) {
		for _, f := range families {
			if f.GetName() != name {
				continue
			}
			h := f.GetMetric()[0].GetHistogram()
			for _, b := range h.GetBucket() {
				buckets = append(buckets, fmt.Sprint(b.GetUpperBound(), " ", b.GetCumulativeCount()))
			}
			n, sum = h.GetSampleCount(), h.GetSampleSum()
		}
		return buckets, n, sum
	}
	want, wantN, wantSum := read("oracle")
	got, n, sum := read("keyward_gateway_request_duration_seconds")
	if diff := cmp.Diff(want, got); diff != "" || n != wantN || sum < wantSum*0.999999 || sum > wantSum*1.000001 {
		t.Errorf("%d observations of %v s, want %d of %v (-want +got):\n%s", n, sum, wantN, wantSum, diff)
	}
}

func TestNothingIsLostAmongProcessors(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			x := lasted(fmt.Sprint("r", i%2), time.Millisecond)
			for range each {
				s.Observe(x, accesslog.Outcome{Status: 200, BytesIn: 1, BytesOut: 2})
			}
		})
	}
	wg.Wait()
	got := gathered(t, reg)
	for name, want := range map[string]int{
		"keyward_gateway_request_duration_seconds,class=2xx,route=r0": workers * each / 2,
		"keyward_gateway_request_duration_seconds,class=2xx,route=r1": workers * each / 2,
		"keyward_gateway_requests_total,protocol=HTTP/1.1":            workers * each,
		"keyward_gateway_request_body_bytes_total":                    workers * each,
		"keyward_gateway_response_body_bytes_total":                   workers * each * 2,
	} {
		if got[name] != fmt.Sprint(want) {
			t.Errorf("%s = %s, want %d", name, got[name], want)
		}
	}
	if n := s.Responses()["2xx"]; n != workers*each {
		t.Errorf("Responses() has %d, want %d", n, workers*each)
	}
}

// durations returns the routes that have series, and what each counted.
func durations(t *testing.T, reg *prometheus.Registry) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, n := range gathered(t, reg) {
		if rest, ok := strings.CutPrefix(name, "keyward_gateway_request_duration_seconds,class=2xx,route="); ok {
			out[rest] = n
		}
	}
	return out
}

func TestRoutesBeyondTheLimitAreCountedTogether(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture() // has room for three
	for _, route := range []string{"a", "b", "c", "d", "a", "c", ""} {
		s.Observe(lasted(route, time.Millisecond), accesslog.Outcome{Status: 200})
	}
	want := map[string]string{"": "1", "a": "2", "b": "1", "(other)": "3"}
	if diff := cmp.Diff(want, durations(t, reg)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestSeriesOfWhatIsGoneAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, holder, reg, _ := fixture()
		go func() { _ = s.Run(t.Context()) }()
		observe := func(routes ...string) {
			for _, r := range routes {
				s.Observe(lasted(r, time.Millisecond), accesslog.Outcome{Status: 200})
				s.Reported(lasted(r, 0), &exchange.PolicyRef{Type: "acl", Name: "acl", OwnerKind: "routes", OwnerName: r}, nil)
			}
		}
		apply := func(routes ...string) {
			var records []statetest.Record
			for _, r := range routes {
				records = append(records, statetest.Record{Kind: "routes", UID: r, Name: r, Resource: &configv1.Route{Name: r}})
			}
			holder.Store(&runtime.Runtime{Set: statetest.Set(t, records...)})
		}
		observe("a", "b", "c")
		<-time.After(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(map[string]string{"a": "1", "b": "1", "(other)": "1"}, durations(t, reg)); diff != "" {
			t.Errorf("series without a configuration (-want +got):\n%s", diff)
		}
		apply("b", "c")
		<-time.After(time.Minute)
		synctest.Wait()
		observe("b", "c")
		if diff := cmp.Diff(map[string]string{"b": "2", "c": "1", "(other)": "1"}, durations(t, reg)); diff != "" {
			t.Errorf("series after a is gone (-want +got):\n%s", diff)
		}
		for name := range gathered(t, reg) {
			if strings.HasSuffix(name, "owner=a,owner_kind=routes,policy=acl") {
				t.Errorf("%s is still there", name)
			}
		}
	})
}

func TestBindingsBeyondTheLimitAreCountedTogether(t *testing.T) {
	t.Parallel()
	s, _, reg, _ := fixture()
	const n = 1100
	for i := range n {
		s.Reported(lasted("r", 0), &exchange.PolicyRef{Type: "acl", Name: fmt.Sprint("b", i), OwnerKind: "routes", OwnerName: "r"}, nil)
	}
	series := 0
	got := gathered(t, reg)
	for name := range got {
		if strings.HasPrefix(name, "keyward_gateway_would_have_refused_total") {
			series++
		}
	}
	if other := got["keyward_gateway_would_have_refused_total,binding=(other),owner=,owner_kind=,policy="]; series != 1001 || other != "100" {
		t.Errorf("%d series, %s in the one for others; want 1001 and 100", series, other)
	}
}

func TestWhatNobodyAnswersHasNoMetric(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	status.New(status.Config{Registry: reg, Runtime: &runtime.Holder{}})
	for name := range gathered(t, reg) {
		for _, absent := range []string{"connections", "handshakes", "in_flight", "dropped", "engine"} {
			if strings.Contains(name, absent) {
				t.Errorf("%s is there", name)
			}
		}
	}
}
