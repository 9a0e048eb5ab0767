package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// broken are ways in which a target fails a request. tries counts those that reached it.
func broken(t *testing.T, how string, tries *atomic.Int64) string {
	t.Helper()
	if how == "refuse" {
		return testkit.Addr(t)
	}
	return listen(t, func(_ int, c net.Conn) {
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		tries.Add(1)
		switch how {
		case "close":
		case "half a head":
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX:")
		case "silent":
			_, _ = io.Copy(io.Discard, in)
		case "503":
			fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, in)
		case "503 in chunks":
			fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n")
			_, _ = io.Copy(io.Discard, in)
		case "long 503":
			fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n", 1<<20)
			_, _ = io.Copy(io.Discard, in)
		}
	})
}

const all = runtime.RetryConnect | runtime.RetryReset | runtime.RetryTimeout | runtime.RetryBadGateway | runtime.RetryUnavailable | runtime.RetryGatewayTimeout

// A request is sent again only for a reason that is listed, and if the target cannot have acted on it or may act twice.
func TestRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		how, method string
		on          runtime.RetryOn
		methods     []string
		body        func() upstream.Body
		again       bool
		only        bool // by our own engine
	}{
		{how: "refuse", method: "GET", on: all, again: true},
		{how: "refuse", method: "POST", on: all, again: true},
		{how: "refuse", method: "POST", on: all, again: true, body: func() upstream.Body { return whole("x") }},
		{how: "refuse", method: "POST", on: all, again: true, body: func() upstream.Body { return newPieces("x") }},
		{how: "refuse", method: "GET", on: all &^ runtime.RetryConnect},
		{how: "close", method: "GET", on: all, again: true},
		{how: "close", method: "GET", on: all &^ runtime.RetryReset},
		{how: "close", method: "POST", on: all},
		{how: "close", method: "PATCH", on: all},
		{how: "close", method: "DELETE", on: all, again: true},
		{how: "close", method: "PUT", on: all, again: true, body: func() upstream.Body { return whole("x") }},
		{how: "close", method: "PUT", on: all, body: func() upstream.Body { return newPieces("x") }},
		{how: "close", method: "POST", on: all, methods: []string{"POST"}, again: true, body: func() upstream.Body { return whole("x") }},
		{how: "close", method: "GET", on: all, methods: []string{"POST"}},
		{how: "close", method: "GET", on: all, methods: []string{}},
		{how: "half a head", method: "GET", on: all, only: true},
		{how: "silent", method: "GET", on: all, again: true},
		{how: "silent", method: "GET", on: all &^ runtime.RetryTimeout},
		{how: "silent", method: "POST", on: all},
		{how: "503", method: "GET", on: all, again: true},
		{how: "503", method: "GET", on: all &^ runtime.RetryUnavailable},
		{how: "503", method: "POST", on: all},
		{how: "503 in chunks", method: "GET", on: all},
		{how: "long 503", method: "GET", on: all},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s %s on %b methods %v body %t", tt.how, tt.method, tt.on, tt.methods, tt.body != nil), func(t *testing.T) {
				t.Parallel()
				if tt.only && engine != "" {
					t.Skip("net/http does not tell")
				}
				g := start(t, engine)
				var bad, good atomic.Int64
				s := service(broken(t, tt.how, &bad), answering(t, func(*http.Request, string) string { good.Add(1); return ok("fine") }))
				o := s.Call
				o.ResponseHead = 300 * time.Millisecond
				o.Retry = runtime.Retry{Attempts: 2, On: tt.on, Methods: tt.methods, Budget: 100}
				for range 4 { // some of them begin with the good one
					r := get(t, s, "/")
					if tt.body != nil {
						r = post(t, s, "/", tt.body(), 1)
					}
					r.Method, r.Options = []byte(tt.method), &o
					var resp upstream.Response
					if err := g.Do(t.Context(), r, &resp); err == nil {
						if resp.Status == 503 && tt.again {
							t.Error("answered 503, want another try")
						}
						resp.Close()
					} else if tt.again {
						t.Errorf("Do() = %v, want another try", err)
					}
				}
				if n := good.Load(); (n == 4) != tt.again {
					t.Errorf("%d of 4 requests reached the good target, want all: %t", n, tt.again)
				}
			})
		}
	})
}

// The target that failed is not tried twice while there is another, and not more often than configured.
func TestAttempts(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for attempts, want := range []int64{1, 1, 2, 3, 4} {
			g := start(t, engine)
			var tries [3]atomic.Int64
			s := service(broken(t, "close", &tries[0]), broken(t, "close", &tries[1]), broken(t, "close", &tries[2]))
			s.Call.Retry = runtime.Retry{Attempts: attempts, On: all, Budget: 100}
			a := g.do(get(t, s, "/"))
			n, most := int64(0), int64(0)
			for i := range tries {
				n, most = n+tries[i].Load(), max(most, tries[i].Load())
			}
			if a.status != 502 || n != want || most > 1 && want <= 3 {
				t.Errorf("%d attempts: %v after %d tries, at most %d at one target", attempts, a, n, most)
			}
		}
	})
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		var tries atomic.Int64
		s := service(broken(t, "close", &tries))
		s.Call.Retry = runtime.Retry{Attempts: 2, On: all, Budget: 20}
		const requests = 300
		for range requests {
			g.do(get(t, s, "/"))
		}
		if n := tries.Load() - requests; n < 30 || n > 30+requests/5 {
			t.Errorf("%d retries for %d requests, want about a fifth", n, requests)
		}
	})
}

// A kept connection that the upstream has closed meanwhile costs nothing; a fresh one that breaks is a failure.
func TestRepetition(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		body         upstream.Body
		again        bool
	}{
		{"GET", "GET", nil, true},
		{"PUT", "PUT", whole("x"), true},
		{"POST", "POST", whole("x"), false},
		{"POST without body", "POST", nil, false},
		{"PUT of a stream", "PUT", newPieces("x"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, "")
			var connections atomic.Int64
			s := service(listen(t, func(n int, c net.Conn) {
				connections.Add(1)
				in := bufio.NewReader(c)
				for i := 0; n > 0 || i == 0; i++ {
					if _, _, err := readRequest(in); err != nil {
						return
					}
					fmt.Fprint(c, ok("x"))
				}
				_, _, _ = readRequest(in) // another request comes in, and the connection is closed without an answer
			}))
			if a := g.do(get(t, s, "/")); a.err != nil {
				t.Fatal(a)
			}
			r := post(t, s, "/", tt.body, 1)
			if r.Method = []byte(tt.method); tt.body == nil {
				r.ContentLength = 0
			}
			a := g.do(r)
			if (a.err == nil) != tt.again || a.err != nil && a.status != 502 {
				t.Errorf("%v, want it repeated: %t", a, tt.again)
			}
			if n := connections.Load(); (n == 2) != tt.again {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Repetitions end: an upstream that closes every kept connection gets a new one in the end.
func TestRepetitionsAreFew(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	var connections, requests atomic.Int64
	release := make(chan struct{})
	s := service(listen(t, func(_ int, c net.Conn) {
		connections.Add(1)
		in := bufio.NewReader(c)
		for i := range 2 {
			if _, _, err := readRequest(in); err != nil {
				return
			}
			requests.Add(1)
			if i == 0 {
				<-release
				fmt.Fprint(c, ok("x"))
			}
		}
	}))
	done := make(chan answer)
	const kept = 10
	for range kept {
		go func() { done <- g.do(get(t, s, "/")) }()
	}
	testkit.Await(t, testkit.Deadline, func() error {
		if n := requests.Load(); n < kept {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	close(release)
	for range kept {
		if a := <-done; a.err != nil {
			t.Error(a)
		}
	}
	if a := g.do(get(t, s, "/")); a.err != nil {
		t.Errorf("%v, want a new connection in the end", a)
	}
	if n := connections.Load(); n != kept+1 {
		t.Errorf("%d connections", n)
	}
	if n := requests.Load(); n > kept+3 {
		t.Errorf("%d requests, want %d and a few", n, kept)
	}
}

// A connection whose end has come is not even tried.
func TestClosedConnectionsAreNotTried(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	closed := make(chan struct{}, 1)
	var requests atomic.Int64
	s := service(listen(t, func(_ int, c net.Conn) {
		if _, _, err := readRequest(bufio.NewReader(c)); err == nil {
			requests.Add(1)
			fmt.Fprint(c, ok("x"))
		}
		c.Close()
		closed <- struct{}{}
	}))
	for range 5 { // a POST could not be repeated
		if a := g.do(post(t, s, "/", whole("x"), 1)); a.err != nil {
			t.Fatal(a)
		}
		<-closed
	}
	if n := requests.Load(); n != 5 {
		t.Errorf("%d requests", n)
	}
}

// A request that would look like another one to the upstream is not sent at all.
func TestForgedHeadsAreNotSent(t *testing.T) {
	t.Parallel()
	g := start(t, "")
	s := service(answering(t, func(*http.Request, string) string { t.Error("it was sent"); return "" }))
	for name, change := range map[string]func(r *upstream.Request){
		"value":  func(r *upstream.Request) { r.Header = append(r.Header, field("X", "a\r\nY: b")) },
		"LF":     func(r *upstream.Request) { r.Header = append(r.Header, field("X", "a\nY: b")) },
		"CR":     func(r *upstream.Request) { r.Header = append(r.Header, field("X", "a\rb")) },
		"NUL":    func(r *upstream.Request) { r.Header = append(r.Header, field("X", "a\x00b")) },
		"name":   func(r *upstream.Request) { r.Header = append(r.Header, field("X: a\r\nY", "b")) },
		"path":   func(r *upstream.Request) { r.Path = []byte("/ HTTP/1.1\r\nX: y\r\n") },
		"space":  func(r *upstream.Request) { r.Path = []byte("/a b") },
		"query":  func(r *upstream.Request) { r.Query = []byte("a b") },
		"method": func(r *upstream.Request) { r.Method = []byte("GET /x HTTP/1.1\r\n") },
		"host": func(r *upstream.Request) {
			c := *s
			c.Host = runtime.HostPreserve
			r.Service, r.Host = &c, []byte("a\r\nX: y")
		},
		"upgrade": func(r *upstream.Request) { r.Upgrade = []byte(strings.Repeat("x\n", 2)) },
	} {
		r := get(t, s, "/")
		change(r)
		if a := g.do(r); a.status != 502 || a.code != "request_forged" {
			t.Errorf("%s: %v, want 502 request_forged", name, a)
		}
	}
}
