//go:build !race

// The race detector makes sync.Pool drop what it holds at random, so that warm paths allocate.

package upstream_test

import (
	"bytes"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

// static is a body in memory, without the harness's conversions.
type static struct{ b []byte }

func (s *static) Whole() ([]byte, bool)     { return s.b, true }
func (s *static) Next() ([]byte, error)     { return nil, io.EOF }
func (s *static) Trailer() exchange.Headers { return nil }
func (s *static) Abort()                    {}

// streamed is a body that comes in pieces, without allocating.
type streamed struct {
	b     []byte
	times int
	left  int
}

func (s *streamed) Whole() ([]byte, bool)     { s.left = s.times; return nil, false }
func (s *streamed) Trailer() exchange.Headers { return nil }
func (s *streamed) Abort()                    {}
func (s *streamed) Next() ([]byte, error) {
	if s.left == 0 {
		return nil, io.EOF
	}
	s.left--
	return s.b, nil
}

const chunkedAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"

// The whole process is counted: client, server and what watches them.
func TestNothingIsAllocatedPerCall(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collections empty the pools
	x := static{bytes.Repeat([]byte("y"), 1024)}
	stream := &streamed{b: bytes.Repeat([]byte("z"), 8192), times: 4}
	tests := []struct {
		name, end, answer string
		change            func(r *upstream.Request, s *runtime.Service)
	}{
		{"GET", "\r\n\r\n", ok(kilobyte()), func(*upstream.Request, *runtime.Service) {}},
		{"GET in chunks with a trailer", "\r\n\r\n", chunkedAnswer, func(*upstream.Request, *runtime.Service) {}},
		{"GET 48 KiB", "\r\n\r\n", ok(strings.Repeat("x", 48<<10)), func(*upstream.Request, *runtime.Service) {}},
		{"query", "\r\n\r\n", ok(""), func(r *upstream.Request, _ *runtime.Service) { r.Query = []byte("a=b") }},
		{"POST", "yyy", ok(kilobyte()), func(r *upstream.Request, _ *runtime.Service) {
			r.Method, r.Body, r.ContentLength = []byte("POST"), &x, 1024
		}},
		{"streamed by length", "zzz", "", func(r *upstream.Request, _ *runtime.Service) {
			r.Method, r.Body, r.ContentLength = []byte("PUT"), stream, 4*8192
		}},
		{"streamed in chunks", "0\r\n\r\n", ok(kilobyte()), func(r *upstream.Request, _ *runtime.Service) {
			r.Method, r.Body, r.ContentLength = []byte("POST"), stream, -1
		}},
		{"everything on", "\r\n\r\n", ok(kilobyte()), func(_ *upstream.Request, s *runtime.Service) {
			s.Call.Total, s.Call.Retry = s.Call.Idle, runtime.Retry{Attempts: 3, On: runtime.RetryConnect | runtime.RetryUnavailable, Budget: 20}
			s.Passive = &runtime.PassiveHealth{Failures: 3, Ejection: s.Call.Idle, MaxEjected: 50}
			s.Breaker = &runtime.Breaker{FailureRatio: 50, MinRequests: 10, Window: s.Call.Idle, Open: s.Call.Idle, Probes: 3}
			s.Balancer = runtime.Balancer{Algorithm: runtime.ConsistentHash, HashOn: runtime.HashHeader, HashName: "X-Request-Id"}
			s.Targets = append(s.Targets, runtime.Target{Address: "127.0.0.1:9", Weight: 0})
		}},
		{"peak EWMA", "\r\n\r\n", ok(kilobyte()), func(_ *upstream.Request, s *runtime.Service) {
			s.Balancer.Algorithm = runtime.PeakEWMA
			s.Targets = append(s.Targets, s.Targets...)
		}},
		{"least connections", "\r\n\r\n", ok(kilobyte()), func(_ *upstream.Request, s *runtime.Service) {
			s.Balancer.Algorithm = runtime.LeastConnections
			s.Targets = append(s.Targets, s.Targets...)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, "")
			var s *runtime.Service
			if tt.answer == "" {
				s = service(counting(t, 4*8192))
			} else {
				s = service(echoless(t, tt.end, tt.answer))
			}
			r := get(t, s, "/a")
			r.Header = benchHeader()
			tt.change(r, s)
			var resp upstream.Response
			for range 20 {
				once(t, g, r, &resp)
			}
			if n := testing.AllocsPerRun(300, func() { once(t, g, r, &resp) }); n > 0 {
				t.Errorf("%v allocations per call, want none", n)
			}
		})
	}
}

// counting answers after a head and so many bytes.
func counting(t testing.TB, body int) string {
	t.Helper()
	return listen(t, func(_ int, c net.Conn) {
		buf, have, want := make([]byte, 256<<10), 0, 0
		out := []byte(ok("done"))
		for {
			n, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
			if i := bytes.Index(buf[:have], []byte("\r\n\r\n")); i >= 0 {
				want = i + 4 + body
			}
			if want == 0 || have < want {
				continue
			}
			have, want = 0, 0
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}
