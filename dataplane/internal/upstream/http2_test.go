package upstream_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// http2 serves handle over HTTP/2 and returns the service. connections counts.
func http2(t *testing.T, overTLS bool, handle http.HandlerFunc) (s *runtime.Service, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	server := &http.Server{Handler: handle, Protocols: new(http.Protocols), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}}
	s = service(l.Addr().String())
	s.Protocol = runtime.HTTP2
	if overTLS {
		leaf := newAuthority(t).issue("127.0.0.1")
		server.Protocols.SetHTTP2(true)
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}})
		s.TLS = &runtime.TLS{}
	} else {
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return s, connections
}

func eachHTTP2(t *testing.T, handle http.HandlerFunc, f func(t *testing.T, g *gateway, s *runtime.Service, connections *atomic.Int64)) {
	t.Helper()
	for _, overTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", overTLS), func(t *testing.T) {
			t.Parallel()
			s, n := http2(t, overTLS, handle)
			f(t, start(t, ""), s, n)
		})
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	eachHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %s te=%s up=%s", r.Proto, r.Method, r.RequestURI, r.Host, r.Header.Get("Te"), r.Header.Get("Upgrade")))
		w.Header().Set(http.TrailerPrefix+"X-Sum", fmt.Sprint(len(body), r.Trailer))
		_, _ = w.Write(body)
	}, func(t *testing.T, g *gateway, s *runtime.Service, connections *atomic.Int64) {
		large := strings.Repeat("0123456789", 100_000)
		streamed, announced := newPieces(large[:300_000], large[300_000:]), newPieces("a", "b")
		announced.trailer = exchange.Headers{field("X-Sum", "7")}
		for _, tt := range []struct {
			body   upstream.Body
			length int64
			want   string
			sum    string
		}{
			{nil, 0, "", "0 map[]"},
			{whole("abc"), 3, "abc", "3 map[]"},
			{whole(large), int64(len(large)), large, "1000000 map[]"},
			{streamed, -1, large, "1000000 map[]"},
			{announced, -1, "ab", "2 map[X-Sum:[7] X-Void:[]]"},
		} {
			r := post(t, s, "/a%2Fb", tt.body, tt.length)
			if tt.body == upstream.Body(announced) {
				r.Header.Add(field("Trailer", "x-sum, X-Void"))
			}
			r.Query, r.Upgrade = []byte("x=y"), []byte("websocket")
			a := g.do(r)
			seen := "HTTP/2.0 POST /a%2Fb?x=y " + s.Targets[0].Address + " te=trailers up="
			if a.err != nil || a.body != tt.want || a.header["X-Seen"] != seen || !maps.Equal(a.trailer, map[string]string{"X-Sum": tt.sum}) || !a.sent {
				t.Errorf("%v header %v sent %t, want %q trailer %q", a, a.header, a.sent, shorten(tt.want), tt.sum)
			}
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				body := strings.Repeat(fmt.Sprint(i), 10_000)
				if a := g.do(post(t, s, "/", whole(body), int64(len(body)))); a.body != body {
					t.Errorf("request %d: %v", i, a)
				}
			})
		}
		wg.Wait()
		if n := connections.Load(); n > 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// Both directions of a stream flow for as long as they like, as gRPC needs it.
func TestHTTP2BothDirections(t *testing.T) {
	t.Parallel()
	eachHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		_ = ctl.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = ctl.Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}, func(t *testing.T, g *gateway, s *runtime.Service, _ *atomic.Int64) {
		b := newPieces("one", "two", "three")
		b.wait = make(chan struct{}, 1)
		var resp upstream.Response
		if err := g.Do(t.Context(), post(t, s, "/", b, -1), &resp); err != nil {
			t.Fatal(err)
		}
		defer resp.Close()
		if !resp.Flush() {
			t.Error("a stream is not to be flushed")
		}
		for _, want := range []string{"one", "two", "three"} {
			b.wait <- struct{}{}
			if piece, err := resp.Next(); err != nil || string(piece) != want {
				t.Fatalf("got %q, %v, want %q", piece, err, want)
			}
		}
		b.wait <- struct{}{}
		if _, err := resp.Next(); !errors.Is(err, io.EOF) || string(resp.Trailer().Get("Grpc-Status")) != "0" || !resp.Sent() {
			t.Errorf("Next() = %v, trailer %v, sent %t", err, resp.Trailer(), resp.Sent())
		}
	})
}

func TestHTTP2BreaksOff(t *testing.T) {
	t.Parallel()
	eachHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/before" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, g *gateway, s *runtime.Service, _ *atomic.Int64) {
		for path, code := range map[string]string{"/before": "upstream_protocol", "/after": "upstream_aborted"} {
			if a := g.do(get(t, s, path)); a.status != 502 || !oneOf(a.code, code, "upstream_closed") {
				t.Errorf("%s: %v, want 502 %s", path, a, code)
			}
		}
	})
}

// A client that goes away ends its stream at the upstream, and no other.
func TestHTTP2Abort(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 10)
	eachHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	}, func(t *testing.T, g *gateway, s *runtime.Service, connections *atomic.Int64) {
		for _, early := range []bool{true, false} {
			var resp upstream.Response
			if err := g.Do(t.Context(), get(t, s, "/"), &resp); err != nil {
				t.Fatal(err)
			}
			if early {
				resp.Close()
			} else {
				time.AfterFunc(20*time.Millisecond, resp.Abort)
				for err := error(nil); err == nil; {
					if _, err = resp.Next(); errors.Is(err, io.EOF) {
						t.Error("a clean end")
					}
				}
				resp.Close()
			}
			select {
			case <-ended:
			case <-time.After(testkit.Deadline):
				t.Error("the upstream's stream has not ended")
			}
			if a := g.do(get(t, s, "/quick")); a.err != nil {
				t.Error(a)
			}
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestHTTP2Timeouts(t *testing.T) {
	t.Parallel()
	eachHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "hello")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}, func(t *testing.T, g *gateway, s *runtime.Service, _ *atomic.Int64) {
		for path, code := range map[string]string{"/": "upstream_timeout", "/body": "idle_timeout"} {
			o := s.Call
			if o.Idle = 100 * time.Millisecond; path == "/" {
				o.ResponseHead = 100 * time.Millisecond
			}
			r := get(t, s, path)
			r.Options = &o
			if a := g.do(r); a.status != 504 || a.code != code {
				t.Errorf("%s: %v, want 504 %s", path, a, code)
			}
		}
	})
}

// Who does not speak HTTP/2 is not spoken to in HTTP/1.1 instead.
func TestHTTP2IsNotGuessed(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	leaf := newAuthority(t).issue("127.0.0.1")
	s := service(listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, func(_ int, c net.Conn) {
		answerAll(c, func(*http.Request, string) string { return ok("x") })
	}))
	s.Protocol, s.TLS = runtime.HTTP2, &runtime.TLS{}
	if a := g.do(get(t, s, "/")); a.status != 502 || a.code != "upstream_tls" {
		t.Errorf("%v, want 502 upstream_tls", a)
	}
	plain := service(answering(t, func(*http.Request, string) string { return ok("x") }))
	plain.Key, plain.Protocol = "plain", runtime.HTTP2
	if a := g.do(get(t, plain, "/")); a.status != 502 {
		t.Errorf("%v, want 502", a)
	}
}
