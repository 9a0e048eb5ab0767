package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const output = `goos: linux
BenchmarkHit/10-2         	 1000000	       100.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkHit/10-2         	 1000000	       300.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkHit/10-2         	 1000000	       120.0 ns/op	       0 B/op	       0 allocs/op
BenchmarkHit/100k-2       	 1000000	       180 ns/op	         2.5 lookups/op
BenchmarkBroken
--- FAIL: nothing
PASS
`

func TestJudge(t *testing.T) {
	t.Parallel()
	const hit, large = "dataplane/router.Hit/10", "dataplane/router.Hit/100k"
	for _, test := range []struct {
		name    string
		output  string // beside what there always is
		budgets []Budget
		want    []string
		all     bool
	}{
		{
			name: "no budgets",
			want: []string{
				`{"name":"dataplane/router.Hit/10","value":0,"unit":"B/op","baseline":null,"ratio":null,"budget":null,"ok":true}`,
				`{"name":"dataplane/router.Hit/10","value":0,"unit":"allocs/op","baseline":null,"ratio":null,"budget":null,"ok":true}`,
				`{"name":"dataplane/router.Hit/10","value":120,"unit":"ns/op","baseline":null,"ratio":null,"budget":null,"ok":true}`,
				`{"name":"dataplane/router.Hit/100k","value":2.5,"unit":"lookups/op","baseline":null,"ratio":null,"budget":null,"ok":true}`,
				`{"name":"dataplane/router.Hit/100k","value":180,"unit":"ns/op","baseline":null,"ratio":null,"budget":null,"ok":true}`,
			},
		},
		{
			name:    "value above its budget",
			budgets: []Budget{{Name: large, Unit: "lookups/op", Max: 2}},
			want:    []string{`"value":2.5,"unit":"lookups/op","baseline":null,"ratio":null,"budget":2,"ok":false}`},
		},
		{
			name:    "ratio within its budget",
			budgets: []Budget{{Name: large, Unit: "ns/op", Baseline: hit, Max: 1.5}},
			want:    []string{`"value":180,"unit":"ns/op","baseline":120,"ratio":1.5,"budget":1.5,"ok":true}`},
		},
		{
			name:    "rounds of both",
			output:  "BenchmarkHit/100k-2 1 900 ns/op 1 x/op\nBenchmarkHit/100k-2 1 150 ns/op 1 x/op\n",
			budgets: []Budget{{Name: large, Unit: "ns/op", Baseline: hit, Max: 1.5}},
			want:    []string{`"value":180,"unit":"ns/op","baseline":120,"ratio":1.8,"budget":1.5,"ok":false}`}, // of 1.8, 3, 1.25
		},
		{
			name:    "baseline missing",
			budgets: []Budget{{Name: large, Unit: "ns/op", Baseline: "gone", Max: 1.5}},
			want:    []string{`"value":180,"unit":"ns/op","baseline":null,"ratio":null,"budget":1.5,"ok":false}`},
		},
		{
			name:    "benchmark missing",
			budgets: []Budget{{Name: "gone", Unit: "ns/op", Max: 1}},
			all:     true,
			want:    []string{`{"name":"gone","value":null,"unit":"ns/op","baseline":null,"ratio":null,"budget":1,"ok":false}`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			samples := Samples{}
			for line := range strings.SplitSeq(output+test.output, "\n") {
				samples.Add("dataplane/router", line)
			}
			got, err := json.Marshal(Judge(samples, test.budgets, test.all))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(got), want) {
					t.Errorf("Judge() lacks %s:\n%s", want, got)
				}
			}
		})
	}
}
