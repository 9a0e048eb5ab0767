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

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
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
				if d := time.Since(began); d < short || d > 3*time.Second {
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

// client is both ends of a client's connection.
func client(t *testing.T, g *gateway) (ours *conn.Conn, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours = conn.New(c, g.sweeper)
	t.Cleanup(func() { theirs.Close(); ours.Close() })
	return ours, theirs
}

// stages are places where an exchange may wait.
func stages(t *testing.T) map[string]func() (*runtime.Service, upstream.Body) {
	return map[string]func() (*runtime.Service, upstream.Body){
		"connecting": func() (*runtime.Service, upstream.Body) { return service(unanswering(t)), nil },
		"for a connection": func() (*runtime.Service, upstream.Body) {
			s := service(silent(t, ""))
			s.Pool.MaxConns = 1
			return s, nil
		},
		"for the head": func() (*runtime.Service, upstream.Body) { return service(silent(t, "")), nil },
		"for the body": func() (*runtime.Service, upstream.Body) {
			return service(silent(t, "HTTP/1.1 200 OK\r\n\r\nhello")), nil
		},
		"for the client": func() (*runtime.Service, upstream.Body) {
			b := newPieces("x")
			b.wait = make(chan struct{})
			return service(silent(t, "")), b
		},
		"for the upstream to read": func() (*runtime.Service, upstream.Body) {
			return service(unread(t)), newPieces(strings.Repeat("x", 32<<20))
		},
	}
}

// An exchange that nobody waits for any more ends at once, wherever it is.
func TestAborting(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for name, stage := range stages(t) {
			for _, how := range []string{"abort", "client", "context"} {
				t.Run(name+" by "+how, func(t *testing.T) {
					t.Parallel()
					g := start(t, engine)
					s, b := stage()
					r := get(t, s, "/")
					if b != nil {
						r = post(t, s, "/", b, -1)
					}
					if s.Pool.MaxConns == 1 {
						hold(t, g, s)
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var resp upstream.Response
					end := map[string]func(){"abort": resp.Abort, "context": cancel}[how]
					want := "client_gone"
					switch how {
					case "abort":
						want = "aborted"
					case "client":
						var theirs net.Conn
						r.Client, theirs = client(t, g)
						end = func() { theirs.Close() }
					}
					time.AfterFunc(100*time.Millisecond, end)
					began := time.Now()
					a := failed(g.Do(ctx, r, &resp))
					for a.err == nil {
						var err error
						if _, err = resp.Next(); errors.Is(err, io.EOF) {
							t.Fatal("a clean end")
						}
						a = failed(err)
					}
					resp.Close()
					if a.status != 0 || a.code != want {
						t.Errorf("%v, want %s", a, want)
					}
					if d := time.Since(began); d > 3*time.Second {
						t.Errorf("it took %s", d)
					}
				})
			}
		}
	})
}

// hold keeps the only connection of a service busy until the test ends.
func hold(t *testing.T, g *gateway, s *runtime.Service) {
	t.Helper()
	connected := make(chan struct{}, 1)
	s.Targets[0].Address = listen(t, func(_ int, c net.Conn) {
		connected <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
	})
	var resp upstream.Response
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Do(context.WithoutCancel(t.Context()), get(t, s, "/"), &resp)
	}()
	t.Cleanup(func() { resp.Abort(); <-done })
	<-connected
}

// Abort concerns one exchange: neither the next on the same Response nor the next on the same connection.
func TestAbortDoesNotReachTheNextExchange(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(_ *http.Request, _ string) string { return ok("x") }))
		var one, other upstream.Response
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // somebody who always comes too late, or just in time
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					one.Abort()
				}
			}
		}()
		for range 200 {
			g.doWith(get(t, s, "/"), &one)
			if a := g.doWith(get(t, s, "/"), &other); a.err != nil || a.body != "x" {
				t.Errorf("another exchange got %v", a)
			}
		}
		close(stop)
		<-done
		if a := g.doWith(get(t, s, "/"), &one); a.err != nil {
			t.Errorf("the next exchange got %v", a)
		}
	})
}

// Whoever closes before the end gets no connection back into the pool, and leaves nothing behind.
func TestClosingEarly(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(r *http.Request, _ string) string {
			if r.URL.Path == "/long" {
				return ok(strings.Repeat("x", 1<<20))
			}
			return ok("short")
		}))
		for _, pieces := range []int{0, 1} {
			var resp upstream.Response
			if err := g.Do(t.Context(), get(t, s, "/long"), &resp); err != nil {
				t.Fatal(err)
			}
			for range pieces {
				if _, err := resp.Next(); err != nil {
					t.Fatal(err)
				}
			}
			resp.Close()
			resp.Close()
			if _, err := resp.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("Next after Close = %v", err)
			}
			if a := g.do(get(t, s, "/")); a.body != "short" {
				t.Errorf("the next request got %v", a)
			}
		}
	})
}

// What was sent on before Abort is not touched: the callback for interim responses never runs after Do.
func TestInterimResponsesEndWithDo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			if _, _, err := readRequest(bufio.NewReader(c)); err != nil {
				return
			}
			for {
				if _, err := fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
			}
		}))
		over := false
		r := get(t, s, "/")
		r.Informational = func(int, exchange.Headers) {
			if over {
				t.Error("called after Do")
			}
		}
		var resp upstream.Response
		time.AfterFunc(20*time.Millisecond, resp.Abort)
		err := g.Do(t.Context(), r, &resp)
		over = true
		if err == nil {
			t.Error("Do() = nil")
		}
	})
}
