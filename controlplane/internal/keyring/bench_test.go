package keyring_test

import (
	"bytes"
	"testing"

	"keyward.dev/controlplane/internal/keyring"
)

func BenchmarkSealOpen(b *testing.B) {
	r := keyring.New()
	for name, size := range map[string]int{"1KiB": 1 << 10, "64KiB": 64 << 10} {
		plaintext := bytes.Repeat([]byte{'x'}, size)
		sealed, err := r.SealRow(place(), clearPart(), plaintext)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("seal/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := r.SealRow(place(), clearPart(), plaintext); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "seals/s")
		})
		b.Run("open/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := r.OpenRow(place(), clearPart(), sealed); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "opens/s")
		})
	}
}
