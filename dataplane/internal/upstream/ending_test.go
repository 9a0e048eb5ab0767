package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

const short = 60 * time.Millisecond

// silent says something and then nothing, until the peer closes.
func silent(t *testing.T, said string) string {
	t.Helper()
	return listen(t, func(_ int, c net.Conn) {
		in := bufio.NewReader(c)
		if said != "" {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			fmt.Fprint(c, said)
		}
		_, _ = io.Copy(io.Discard, in)
	})
}

// unread takes connections and reads nothing from them.
func unread(t *testing.T) string {
	t.Helper()
	end := make(chan struct{})
	address := listen(t, func(_ int, c net.Conn) { <-end })
	t.Cleanup(func() { close(end) })
	return address
}

// unanswering is an address where nobody takes connections: its queue is full.
func unanswering(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	backlogOfOne(t, raw)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var d net.Dialer
		if c, err := d.DialContext(ctx, "tcp", l.Addr().String()); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return l.Addr().String()
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 16<<20)
	tests := []struct {
		name, code string
		address    func(t *testing.T) string
		change     func(o *runtime.CallOptions)
		body       func() upstream.Body
	}{
		{"connect", "connect_timeout", unanswering, func(o *runtime.CallOptions) { o.Connect = short }, nil},
		{"total while connecting", "total_timeout", unanswering, func(o *runtime.CallOptions) { o.Total = short }, nil},
		{"head", "upstream_timeout", func(t *testing.T) string { return silent(t, "") }, func(o *runtime.CallOptions) { o.ResponseHead = short }, nil},
		{
			"head after interim ones", "upstream_timeout", func(t *testing.T) string { return silent(t, "HTTP/1.1 103 Early Hints\r\n\r\n") },
			func(o *runtime.CallOptions) { o.ResponseHead = short }, nil,
		},
		{
			"head after half of it", "upstream_timeout", func(t *testing.T) string { return silent(t, "HTTP/1.1 200 OK\r\nX: ") },
			func(o *runtime.CallOptions) { o.ResponseHead = short }, nil,
		},
		{
			"head after a streamed body", "upstream_timeout", func(t *testing.T) string { return silent(t, "") },
			func(o *runtime.CallOptions) { o.ResponseHead = short }, func() upstream.Body { return newPieces("a", "b") },
		},
		{
			"total before the head", "total_timeout", func(t *testing.T) string { return silent(t, "") },
			func(o *runtime.CallOptions) { o.Total = short }, nil,
		},
		{
			"idle in the body", "idle_timeout", func(t *testing.T) string { return silent(t, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello") },
			func(o *runtime.CallOptions) { o.Idle = short }, nil,
		},
		{
			"total in the body", "total_timeout", func(t *testing.T) string { return silent(t, "HTTP/1.1 200 OK\r\n\r\nhello") },
			func(o *runtime.CallOptions) { o.Total = short }, nil,
		},
		{
			"idle while sending", "idle_timeout", unread,
			func(o *runtime.CallOptions) { o.Idle = short }, func() upstream.Body { return newPieces(huge, huge) },
		},
		{
			"idle while sending from memory", "idle_timeout", unread,
			func(o *runtime.CallOptions) { o.Idle = short }, func() upstream.Body { return whole(huge) },
		},
		{
			"total while sending", "total_timeout", unread,
			func(o *runtime.CallOptions) { o.Total = short }, func() upstream.Body { return newPieces(huge, huge) },
		},
		{
			"total while the client sends", "total_timeout", unread,
			func(o *runtime.CallOptions) { o.Total = short }, func() upstream.Body {
				b := newPieces("a")
				b.wait = make(chan struct{})
				return b
			},
		},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				g := start(t, engine)
				s := service(tt.address(t))
				r := get(t, s, "/")
				if tt.body != nil {
					r = post(t, s, "/", tt.body(), -1)
				}
				o := s.Call
				tt.change(&o)
				r.Options = &o
				began := time.Now()
				a := g.do(r)
				if a.status != 504 || a.code != tt.code {
					t.Errorf("%v, want 504 %s", a, tt.code)
				}
				if d := time.Since(began); d < short || d > 20*time.Second {
					t.Errorf("it took %s", d)
				}
			})
		}
	})
}

// A slow exchange that moves on is not cut: only standing still is.
func TestSlowIsNotIdle(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			if _, _, err := readRequest(bufio.NewReader(c)); err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
			for range 10 {
				<-time.After(100 * time.Millisecond)
				fmt.Fprint(c, "x")
			}
		}))
		s.Call.Idle = 500 * time.Millisecond
		if a := g.do(get(t, s, "/")); a.body != "xxxxxxxxxx" {
			t.Errorf("%v", a)
		}
	})
}

// The time between reads of the upstream does not run while the client takes its time.
func TestSlowClientsAreNotTheUpstreamsFault(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(*http.Request, string) string { return ok(strings.Repeat("x", 300<<10)) }))
		s.Call.Idle, s.Call.ResponseHead = 150*time.Millisecond, 2*time.Second
		var resp upstream.Response
		if err := g.Do(t.Context(), get(t, s, "/"), &resp); err != nil {
			t.Fatal(err)
		}
		defer resp.Close()
		n := 0
		for {
			piece, err := resp.Next()
			if n += len(piece); errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n < 100<<10 {
				<-time.After(400 * time.Millisecond)
			}
		}
		if n != 300<<10 {
			t.Errorf("%d bytes", n)
		}
	})
}
