package compile_test

import (
	"fmt"
	"runtime"
	"testing"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// BenchmarkServiceChange changes a service that one of many routes leads to.
func BenchmarkServiceChange(b *testing.B) {
	for _, n := range []int{1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			service := func(url string) statetest.Record {
				return record("services", "few", "few", &configv1.Service{Name: "few", Url: url})
			}
			source := statetest.NewSource(1)
			source.Change(append(many(n), service("http://127.0.0.1:9"), record("routes", "only", "only", &configv1.Route{
				Name: "only", Service: "few", Hosts: []string{"only.test"},
			})), nil)
			folder := state.NewFolder(state.Empty(), state.Limits{})
			c := newCompiler()
			rt, _ := c.Build(statetest.Fold(b, folder, source.Reset()), nil)
			next := statetest.Fold(b, folder, source.Change([]statetest.Record{service("http://127.0.0.1:10")}, nil))
			runtime.GC() // of what setting up left
			b.ReportAllocs()
			for b.Loop() {
				c.Build(next, rt)
			}
		})
	}
}

// BenchmarkFirstBuild compiles a set as a gateway does that starts, without policies of routes.
func BenchmarkFirstBuild(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, term := pepper(1)
			records := []statetest.Record{
				p, record("settings", "settings", "settings", &configv1.Settings{}),
				record("services", "svc", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"}),
			}
			for i := range n {
				uid := fmt.Sprintf("%08x-0000-4000-8000-00000000000", i)
				route, consumer := fmt.Sprintf("r%d", i), fmt.Sprintf("c%d", i)
				records = append(records,
					record("routes", uid+"1", route, &configv1.Route{
						Name: route, Service: "s", Hosts: []string{fmt.Sprintf("h%d.test", i)}, Paths: []*configv1.PathMatch{prefix("/")},
					}),
					record("consumers", uid+"2", consumer, &configv1.Consumer{Name: consumer, Groups: []string{"gold"}}),
					credential(term, uid+"3", consumer, "key-of-"+consumer))
			}
			set := statetest.Set(b, records...)
			c := newCompiler()
			b.ReportAllocs()
			for b.Loop() {
				c.Build(set, nil)
			}
		})
	}
}
