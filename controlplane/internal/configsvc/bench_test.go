package configsvc_test

import (
	"fmt"
	"os"
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/configsvc"
)

// BenchmarkWrite is the write path up to the commit on a real database: the change of one resource in sets of several sizes.
func BenchmarkWrite(b *testing.B) {
	sizes := []int{1_000, 10_000}
	if os.Getenv("KEYWARD_FULL") != "" { // takes most of a minute to set up
		sizes = append(sizes, 100_000)
	}
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newWorld(b).replica(b)
			fill(b, r, n)
			turn := int32(0)
			b.ReportAllocs()
			for b.Loop() {
				turn++
				res := r.mustWrite(b, admission.Change{Kind: "routes", Name: "r000007", Message: &configv1.Route{
					Name: "r000007", Service: "s", Hosts: []string{"r000007.test"}, Priority: 1 + turn%2,
				}})
				if !res.Changed {
					b.Fatal("nothing changed")
				}
			}
		})
	}
}

// BenchmarkLoad is what a replica does before it serves a group: read, open and verify every row.
func BenchmarkLoad(b *testing.B) {
	const n = 10_000
	w := newWorld(b)
	fill(b, w.replica(b), n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.replica(b).groups.Fresh(b.Context(), "g"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}

// fill writes n routes to one service.
func fill(b *testing.B, r *replica, n int) {
	b.Helper()
	r.mustWrite(b, service("s"))
	const batch = 20_000
	var changes []admission.Change
	for i := range n {
		changes = append(changes, route(fmt.Sprintf("r%06d", i), "s"))
		if len(changes) == batch || i == n-1 {
			if _, err := r.Write(b.Context(), configsvc.Request{Actor: "bench", Action: "resources.apply", Group: "g", Changes: changes}); err != nil {
				b.Fatal(err)
			}
			changes = changes[:0]
		}
	}
}
