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
					if d := time.Since(began); d > 20*time.Second {
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
