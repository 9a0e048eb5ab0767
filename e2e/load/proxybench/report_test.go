package proxybench_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/load/proxybench"
)

// runs has one run for each figure of CPU.
func runs(micros ...int) []proxybench.Run {
	var out []proxybench.Run
	for _, us := range micros {
		out = append(out, proxybench.Run{
			CPU: time.Duration(us) * time.Microsecond, Rate: 1000, RSS: 1 << 20, Busy: .5,
		})
	}
	return out
}

func series(chain ...int) []proxybench.Series {
	loads := []proxybench.Load{{P50: time.Millisecond, P99: 9 * time.Millisecond}}
	return []proxybench.Series{
		{Contender: proxybench.Nginx, Logs: "no", Runs: runs(10, 20, 10), Loads: loads},
		{Contender: proxybench.NginxLua, Logs: "no", Runs: runs(20, 40, 20), Loads: loads},
		{Contender: proxybench.Chain, Logs: "file", Runs: runs(chain...), Loads: loads},
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	ofNginx := proxybench.Budget{Variant: "v", Contender: proxybench.Chain, Baseline: proxybench.Nginx, Max: 1.25}
	for _, test := range []struct {
		name   string
		series []proxybench.Series
		budget proxybench.Budget
		want   string
		missed bool
	}{
		{
			name: "figures", series: series(12, 24, 12), budget: ofNginx,
			want: `"name":"e2e/load/proxybench.v/keyward-chain","value":12,"unit":"cpu-us/request","baseline":10,"ratio":1.2,"budget":null,"ok":true`,
		},
		{
			name: "held", series: series(12, 24, 12), budget: ofNginx,
			want: `"name":"e2e/load/proxybench.v/keyward-chain/of-nginx","value":12,"unit":"cpu-us/request","baseline":10,"ratio":1.2,"budget":1.25,"ok":true`,
		},
		{
			name: "missed at the upper end", series: series(12, 26, 12), budget: ofNginx, missed: true,
			want: `of-nginx","value":12,"unit":"cpu-us/request","baseline":10,"ratio":1.3,"budget":1.25,"ok":false`,
		},
		{
			name: "of another one", series: series(12, 26, 12),
			budget: proxybench.Budget{Variant: "v", Contender: proxybench.Chain, Baseline: proxybench.NginxLua, Max: 1},
			want:   `of-nginx-lua","value":12,"unit":"cpu-us/request","baseline":20,"ratio":0.65,"budget":1,"ok":true`,
		},
		{
			name: "without runs", series: series(), budget: ofNginx, missed: true,
			want: `of-nginx","value":null,"unit":"cpu-us/request","baseline":null,"ratio":null,"budget":1.25,"ok":false`,
		},
		{
			name: "of another variant", series: series(30, 30, 30), budget: proxybench.Budget{Variant: "other", Contender: proxybench.Chain, Baseline: proxybench.Nginx, Max: 1},
			want: `"name":"e2e/load/proxybench.v/nginx","value":10,"unit":"cpu-us/request","baseline":null,"ratio":null,"budget":null,"ok":true`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			results := proxybench.Judge("v", test.series, []proxybench.Budget{test.budget})
			var lines bytes.Buffer
			if err := proxybench.Lines(&lines, results); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(lines.String(), test.want) {
				t.Errorf("no line with\n%s\nin\n%s", test.want, lines.String())
			}
			if got := proxybench.Missed(results); (got != "") != test.missed {
				t.Errorf("Missed() = %q", got)
			}
		})
	}
}

func TestMeasured(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value, budget float64
		ok            bool
	}{{7, 8, true}, {8, 8, true}, {9, 8, false}, {9, 0, true}} {
		if got := proxybench.Measured("n", "u", test.value, test.budget); got.OK != test.ok || (got.Budget == nil) != (test.budget == 0) {
			t.Errorf("Measured(%v, %v) = %+v", test.value, test.budget, got)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := proxybench.Table(&out, "v", series(12, 24, 12)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"medians of 3 turns; the interval of the median ratio covers 75%", "keyward-chain  file        12.0      1.20  1.20–1.20"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
