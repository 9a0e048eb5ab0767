package sni_test

import (
	"fmt"
	"testing"

	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/shared/check/certs"
)

// BenchmarkTable makes the table again, as a change of one certificate does, and looks a name up.
func BenchmarkTable(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		all := make([]*sni.Certificate, n)
		for i := range all {
			name := fmt.Sprintf("host-%d.test", i)
			all[i] = sni.Open(name, &certs.Set{Name: name, SNIs: []string{name}})
		}
		b.Run(fmt.Sprintf("make/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sni.New(all, nil)
			}
		})
		t := sni.New(all, nil)
		b.Run(fmt.Sprintf("find/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t.Find("host-7.test")
			}
		})
	}
}
