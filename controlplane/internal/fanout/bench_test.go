package fanout_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"keyward.dev/controlplane/internal/fanout"
	"keyward.dev/controlplane/internal/fanout/fanouttest"
)

func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			src := fanouttest.NewSource(1)
			g := start(b, src, fanout.Limits{Every: -1})
			var round sync.WaitGroup
			ctx, cancel := context.WithCancel(b.Context())
			var streams sync.WaitGroup
			round.Add(n)
			for range n {
				s := join(b, g, fanout.Position{Epoch: 1, Digest: src.Digest()})
				streams.Go(func() {
					codec := fanout.NewCodec()
					for {
						batch, err := s.Next(ctx)
						if err != nil {
							return
						}
						for i := range batch.Packs {
							_, _ = codec.Marshal(&batch.Packs[i])
						}
						round.Done()
					}
				})
			}
			body := bytes.Repeat([]byte("x"), 500)
			first := true
			b.ReportAllocs()
			for b.Loop() {
				if !first {
					round.Add(n)
				}
				first = false
				src.Put("u", "n", body)
				round.Wait()
			}
			cancel()
			streams.Wait()
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	src := fanouttest.NewSource(1)
	src.Fill(10_000, 300)
	b.ReportAllocs()
	for b.Loop() {
		g := start(b, src, fanout.Limits{})
		s := join(b, g, fanout.Position{})
		if _, err := s.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
