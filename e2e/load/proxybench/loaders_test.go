package proxybench_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/e2e/load/proxybench"
)

const wrkOutput = `Running 1s test @ http://127.0.0.1:19001/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    48.07us  125.60us   3.75ms   99.64%
    Req/Sec    71.60k     3.52k   74.54k    81.82%
  Latency Distribution
     50%   41.00us
     75%   47.00us
     90%   50.00us
     99%    1.91ms
  78191 requests in 1.10s, 11.33MB read
`

const wrkRates = `Requests/sec:  71078.91
Transfer/sec:     10.30MB
`

func TestParseWrk(t *testing.T) {
	t.Parallel()
	good := proxybench.Load{Requests: 78191, Rate: 71078.91, P50: 41 * time.Microsecond, P99: 1910 * time.Microsecond}
	refused, broken := good, good
	refused.Failed = "Non-2xx or 3xx responses: 62124"
	broken.Failed = "Socket errors: connect 0, read 7, write 0, timeout 0; " + refused.Failed
	for _, test := range []struct {
		name, output string
		want         proxybench.Load
		fails        bool
	}{
		{name: "all answered", output: wrkOutput + wrkRates, want: good},
		{name: "refused", output: wrkOutput + "  Non-2xx or 3xx responses: 62124\n" + wrkRates, want: refused},
		{
			name: "connections broke", want: broken,
			output: wrkOutput + "  Socket errors: connect 0, read 7, write 0, timeout 0\n  Non-2xx or 3xx responses: 62124\n" + wrkRates,
		},
		{name: "did not begin", output: "unable to connect to 127.0.0.1:19002 Connection refused\n", fails: true},
		{name: "cut off", output: wrkOutput, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := proxybench.ParseWrk(test.output)
			if (err != nil) != test.fails {
				t.Fatalf("ParseWrk() = %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" && !test.fails {
				t.Errorf("ParseWrk() (-want +got):\n%s", diff)
			}
		})
	}
}

func h2loadOutput(counts string) string {
	return `progress of TLS: TLSv1.3
Application protocol: h2

finished in 3.00s, 34733.33 req/s, 37.24MB/s
requests: 104200 total, 104264 started, 104200 done, ` + counts + `
status codes: 104200 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 111.71MB (117136640) total, 3.18MB (3334400) headers (space savings 80.00%), 101.76MB (106700800) data
                     min         max         mean         sd        +/- sd
time for request:      142us     20.94ms      1.83ms      1.06ms    90.63%
`
}

func TestParseH2load(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, output string
		want         proxybench.Load
		fails        bool
	}{
		{
			name: "all answered", output: h2loadOutput("104200 succeeded, 0 failed, 0 errored, 0 timeout"),
			want: proxybench.Load{Requests: 104200, Rate: 34733.33},
		},
		{
			name: "some failed", output: h2loadOutput("104100 succeeded, 100 failed, 100 errored, 0 timeout"),
			want: proxybench.Load{Requests: 104100, Rate: 34733.33, Failed: "100 failed, 100 errored, 0 timeout"},
		},
		{name: "nothing", output: "usage", fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := proxybench.ParseH2load(test.output)
			if (err != nil) != test.fails {
				t.Fatalf("ParseH2load() = %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ParseH2load() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestH2loadQuantiles(t *testing.T) {
	t.Parallel()
	log := strings.Repeat("1\t200\t10\n", 50) + strings.Repeat("1\t200\t20\n", 49) + "1\t200\t9000\n2\t20"
	p50, p99, err := proxybench.H2loadQuantiles(strings.NewReader(log))
	if p50 != 10*time.Microsecond || p99 != 20*time.Microsecond || err != nil {
		t.Errorf("H2loadQuantiles() = %s, %s, %v", p50, p99, err)
	}
	for _, bad := range []string{"", "1 200 fast\n"} {
		if _, _, err := proxybench.H2loadQuantiles(strings.NewReader(bad)); err == nil {
			t.Errorf("H2loadQuantiles(%q) finds something", bad)
		}
	}
}

func TestParseStubStatus(t *testing.T) {
	t.Parallel()
	got, err := proxybench.ParseStubStatus("Active connections: 1 \nserver accepts handled requests\n 6 6 78192 \nReading: 0 Writing: 1 Waiting: 0 \n")
	if got != 78192 || err != nil {
		t.Errorf("ParseStubStatus() = %d, %v", got, err)
	}
	if _, err := proxybench.ParseStubStatus("not found"); err == nil {
		t.Error("ParseStubStatus() finds a number where there is none")
	}
}

func TestMetric(t *testing.T) {
	t.Parallel()
	const page = `# TYPE go_memstats_mallocs_total counter
go_memstats_mallocs_total 1.5e+06
go_memstats_mallocs_total_of_others 7
seen{route="a {b} c",class="2xx"} 3
seen{route="d",class="2xx"} 4 1700000000
bad x
`
	for _, test := range []struct {
		name  string
		want  float64
		fails bool
	}{
		{name: "go_memstats_mallocs_total", want: 1.5e6},
		{name: "seen", want: 7},
		{name: "bad", fails: true},
		{name: "absent", fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := proxybench.Metric(page, test.name)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("Metric() = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}
