package state_test

import (
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
)

func BenchmarkFoldReset(b *testing.B) {
	src := statetest.NewSource(1)
	var rs []statetest.Record
	for i := range 10_000 {
		rs = append(rs, route(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), fmt.Sprintf("route-%d", i), "text"))
	}
	src.Change(rs, nil)
	ms := src.Reset()
	b.ReportAllocs()
	for b.Loop() {
		statetest.Fold(b, newFolder(), ms)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/record")
}

func BenchmarkFoldOneChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			src := statetest.NewSource(1)
			var rs []statetest.Record
			for i := range n {
				rs = append(rs, route(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), fmt.Sprintf("route-%d", i), "text"))
			}
			src.Change(rs, nil)
			full := statetest.Fold(b, newFolder(), src.Reset())
			ms := src.Change([]statetest.Record{route("00000005-0000-4000-8000-000000000000", "route-5", "other")}, nil)
			b.ReportAllocs()
			for b.Loop() {
				statetest.Fold(b, state.NewFolder(full, state.Limits{}), ms)
			}
		})
	}
}
