package upstream_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "keyward_gateway_upstream_") + "{" + strings.Join(labels, " ") + "}"
			out[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		reg := prometheus.NewPedanticRegistry()
		g := startWith(t, upstream.Config{Engine: engine, Registry: reg})
		var tries atomic.Int64
		s := service(broken(t, "refuse", &tries), newPatient(t, "good").address)
		s.Call.Retry = runtime.Retry{Attempts: 2, On: all, Budget: 100}
		s.Passive = &runtime.PassiveHealth{Failures: 2, Ejection: time.Minute, MaxEjected: 50}
		for range 10 {
			if a := g.do(get(t, s, "/")); a.err != nil {
				t.Fatal(a)
			}
		}
		other := *s // the same service under another key is still one service to those who look
		other.Key = "other"
		g.do(get(t, &other, "/"))
		got := gather(t, reg)
		for name, want := range map[string]float64{
			"dials_total{service=s}": 4, "dial_failures_total{service=s}": 2, "reused_total{service=s}": 9, "ejections_total{service=s}": 1,
			"retries_total{reason=connect service=s}": 2, "retries_total{reason=503 service=s}": 0, "retry_budget_exhausted_total{service=s}": 0,
			"targets{health=healthy service=s}": 3, "targets{health=ejected service=s}": 1, "targets{health=unhealthy service=s}": 0,
			"circuit_breaker_open{service=s}": 0, "all_unhealthy{service=s}": 0, "pool_waits_total{service=s}": 0,
		} {
			tolerance := 0.0
			if strings.Contains(name, "=s}") && (strings.HasPrefix(name, "dial") || strings.HasPrefix(name, "re")) {
				tolerance = 1 // whether the other one began with the good target is chance
			}
			if v, ok := got[name]; !ok || v < want-tolerance || v > want+tolerance {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
		if engine == "" && (got["connections{service=s state=idle}"] != 2 || got["connections{service=s state=active}"] != 0) {
			t.Errorf("connections are %v idle and %v active", got["connections{service=s state=idle}"], got["connections{service=s state=active}"])
		}
	})
}
