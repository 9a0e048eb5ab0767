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
