package status_test

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/status"
)

func newStatus() *status.Status {
	return status.New(status.Config{Registry: prometheus.NewRegistry(), Runtime: &runtime.Holder{}, Log: slog.New(slog.DiscardHandler)})
}

var ok200 = accesslog.Outcome{Status: 200, BytesOut: 1024}

func BenchmarkObserve(b *testing.B) {
	for _, routes := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprint("routes=", routes), func(b *testing.B) {
			s := newStatus()
			var x []*exchange.Exchange
			for i := range routes {
				x = append(x, lasted(fmt.Sprint("route-", i), time.Millisecond))
				s.Observe(x[i], ok200)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Observe(x[i], ok200)
				i = (i + 7) % routes
			}
		})
	}
}

func BenchmarkObserveParallel(b *testing.B) {
	s := newStatus()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := lasted("r", time.Millisecond)
		for pb.Next() {
			s.Observe(x, ok200)
		}
	})
}

// BenchmarkObserveAll is what the end of an exchange costs: metrics and a line of the access log, written meanwhile.
func BenchmarkObserveAll(b *testing.B) {
	s, l := newStatus(), accesslog.New(io.Discard, slog.New(slog.DiscardHandler))
	go func() { _ = l.Run(b.Context()) }()
	x := lasted("orders", time.Millisecond)
	x.Request.Method, x.Request.Host, x.Request.Path, x.Request.Scheme = []byte("GET"), []byte("api.test"), []byte("/orders/12345"), "https"
	x.Request.Header.Add(exchange.Field("User-Agent", "curl/8.5.0"))
	x.Principal = &exchange.Principal{Consumer: "alice", Credential: "a1"}
	x.Trace = exchange.Trace{RequestID: x.ID().Append(nil), Parent: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}
	b.ReportAllocs()
	for b.Loop() {
		x.Timings.Received = x.Timings.Received.Add(10 * time.Microsecond)
		x.Timings.Done = x.Timings.Received.Add(time.Millisecond)
		s.Observe(x, ok200)
		l.Observe(x, ok200)
	}
}
