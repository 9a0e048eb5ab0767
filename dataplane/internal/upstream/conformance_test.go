package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

func TestTargetGoesOutByteForByte(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(listen(t, func(_ int, c net.Conn) {
			for in := bufio.NewReader(c); ; {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				for h := line; h != "\r\n" && err == nil; {
					h, err = in.ReadString('\n')
				}
				fmt.Fprint(c, ok(strings.TrimSpace(line)))
			}
		}))
		for _, path := range []string{"/", "/a%20b", "//evil.test/x", "/a//b", "/%2E%2E/x", "/a;b=c", "/a:b@c", "/*", "/%25%3F%23"} {
			for _, query := range []string{"-", "", "a=b", "?", "a=%20&b"} {
				r, want := get(t, s, path), path
				if query != "-" {
					r.Query, want = []byte(query), path+"?"+query
				}
				if a := g.do(r); a.body != "GET "+want+" HTTP/1.1" {
					t.Errorf("upstream got %q, want %q", a.body, want)
				}
			}
		}
	})
}

func TestRequestHead(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(r *http.Request, body string) string {
			return ok(fmt.Sprintf("%s %d%v%v%s", r.Host, r.ContentLength, r.TransferEncoding, r.Header, body))
		}))
		r := post(t, s, "/", whole("abc"), -1)
		r.Header = exchange.Headers{
			field("X-A", "1"), field("X-A", "2"), field("Content-Length", "99"), field("Transfer-Encoding", "chunked"),
			field("Host", "evil.test"), field("Connection", "close"), field("Expect", "100-continue"), field("Upgrade", "x"),
		}
		want := s.Targets[0].Address + " 3[]map[Content-Length:[3] X-A:[1 2]]abc"
		if a := g.do(r); a.body != want {
			t.Errorf("upstream got %q, want %q", a.body, want)
		}
		for _, tt := range []struct {
			method, want string
			body         upstream.Body
			length       int64
		}{
			{"GET", " 0[]map[]", nil, 0},
			{"POST", " 0[]map[Content-Length:[0]]", nil, 0},
			{"POST", " 2[]map[Content-Length:[2]]ab", newPieces("a", "b"), 2},
			{"POST", " -1[chunked]map[]ab", newPieces("a", "b"), -1},
			{"PUT", " -1[chunked]map[]", newPieces(), -1},
		} {
			r := post(t, s, "/", tt.body, tt.length)
			r.Method = []byte(tt.method)
			if a := g.do(r); a.body != s.Targets[0].Address+tt.want {
				t.Errorf("%s: upstream got %q, want %q", tt.method, a.body, tt.want)
			}
		}
	})
}

// message is a response as it goes over the wire, and what it means.
type message struct {
	name, raw, method string
	status            int
	body              string
	trailer           map[string]string
	length            int64 // 0: that of the body
	toClose           bool  // its end is that of the connection
	reused            bool  // the connection is used again
}

func messages() []message {
	return []message{
		{name: "by length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", status: 200, body: "hello", reused: true},
		{name: "empty", raw: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, reused: true},
		{
			name: "in chunks", raw: "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
			status: 201, body: "hello!", length: -1, reused: true,
		},
		{
			name: "trailer", raw: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\n\r\n",
			status: 200, body: "ab", trailer: map[string]string{"X-Sum": "7"}, length: -1, reused: true,
		},
		{name: "until close", raw: "HTTP/1.1 200 OK\r\n\r\nhello", status: 200, body: "hello", length: -1, toClose: true},
		{name: "HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", status: 200, body: "ab"},
		{name: "HTTP/1.0 kept", raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab", status: 200, body: "ab", reused: true},
		{name: "closing", raw: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", status: 200, body: "ab"},
		{name: "no reason", raw: "HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno", status: 404, body: "no", reused: true},
		{name: "HEAD", method: "HEAD", raw: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", status: 200, length: 5, reused: true},
		{name: "204", raw: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reused: true, length: -2},
		{name: "304", raw: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", status: 304, reused: true, length: -2},
		{
			name: "interim ones", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" +
				"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
			status: 200, body: "ab", reused: true,
		},
	}
}

// A response means the same however it is split; its connection is used again only if both sides know where it ends.
func TestResponsesInPieces(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, m := range messages() {
			for _, piece := range []int{1, 3, 7, 1000} {
				t.Run(fmt.Sprintf("%s by %d", m.name, piece), func(t *testing.T) {
					t.Parallel()
					var connections atomic.Int64
					g := start(t, engine)
					s := service(listen(t, func(_ int, c net.Conn) {
						connections.Add(1)
						in := bufio.NewReader(c)
						for {
							if _, _, err := readRequest(in); err != nil {
								return
							}
							for i := 0; i < len(m.raw); i += piece {
								if _, err := io.WriteString(c, m.raw[i:min(i+piece, len(m.raw))]); err != nil {
									return
								}
							}
							if m.toClose {
								return
							}
						}
					}))
					for range 3 {
						m.check(t, g, s)
					}
					if n := connections.Load(); (n == 1) != m.reused {
						t.Errorf("%d connections for 3 requests, want reuse %t", n, m.reused)
					}
				})
			}
		}
	})
}

func (m message) check(t *testing.T, g *gateway, s *runtime.Service) {
	t.Helper()
	r := get(t, s, "/")
	if m.method != "" {
		r.Method = []byte(m.method)
	}
	var resp upstream.Response
	a := g.doWith(r, &resp)
	if a.err != nil || a.status != m.status || a.body != m.body || !maps.Equal(a.trailer, m.trailer) {
		t.Fatalf("got %v, want %d %q trailer %v", a, m.status, m.body, m.trailer)
	}
	want := m.length
	if want == 0 {
		want = int64(len(m.body))
	}
	if resp.ContentLength != want && want != -2 {
		t.Errorf("ContentLength = %d, want %d", resp.ContentLength, want)
	}
}

// A response that is cut off at any place is an error, unless its end is that of the connection; a reset always is.
func TestCutResponses(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, m := range messages() {
			for _, reset := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s reset %t", m.name, reset), func(t *testing.T) {
					t.Parallel()
					g := start(t, engine)
					var cut atomic.Int64
					s := service(listen(t, func(_ int, c net.Conn) {
						if _, _, err := readRequest(bufio.NewReader(c)); err != nil {
							return
						}
						_, _ = io.WriteString(c, m.raw[:cut.Load()])
						if tcp, ok := c.(*net.TCPConn); ok && reset {
							_ = tcp.SetLinger(0)
						}
					}))
					end := strings.LastIndex(m.raw, "\r\n\r\n") + 4
					for i := range len(m.raw) {
						cut.Store(int64(i))
						r := get(t, s, "/")
						if m.method != "" {
							r.Method = []byte(m.method)
						}
						a := g.do(r)
						if mayEnd := m.toClose && !reset && i >= end; (a.err == nil) != mayEnd {
							t.Errorf("cut after %q: %v, want error %t", m.raw[:i], a, !mayEnd)
						}
						if a.err != nil && a.status != 502 {
							t.Errorf("cut after %q: %v, want 502", m.raw[:i], a)
						}
					}
				})
			}
		}
	})
}

func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	const okay = "Content-Length: 2\r\n\r\nab"
	tests := []struct {
		name, raw string
		only      bool // our own engine is stricter
	}{
		{name: "nonsense", raw: "SSH-2.0-OpenSSH\r\n\r\n"},
		{name: "no version", raw: "200 OK\r\n" + okay},
		{name: "HTTP/2", raw: "HTTP/2.0 200 OK\r\n" + okay, only: true},
		{name: "status", raw: "HTTP/1.1 20 OK\r\n" + okay},
		{name: "leading line", raw: "\r\nHTTP/1.1 200 OK\r\n" + okay},
		{name: "bare LF", raw: "HTTP/1.1 200 OK\nContent-Length: 2\n\nab", only: true},
		{name: "space before colon", raw: "HTTP/1.1 200 OK\r\nX : y\r\n" + okay, only: true},
		{name: "folded", raw: "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n" + okay, only: true},
		{name: "two lengths", raw: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + okay},
		{name: "same length twice", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + okay, only: true},
		{name: "listed length", raw: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab"},
		{name: "signed length", raw: "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab"},
		{name: "length and chunks", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + okay, only: true},
		{name: "unknown coding", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
		{name: "bad chunk", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"},
		{name: "bad chunk end", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"},
		{name: "framing in a trailer", raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", only: true},
		{name: "many fields", raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 2000) + okay, only: true},
		{name: "long head", raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 300<<10) + "\r\n" + okay},
		{name: "endless interim", raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 12000) + "HTTP/1.1 200 OK\r\n" + okay},
		{name: "unasked switch", raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{name: "body after 204", raw: "HTTP/1.1 204 No Content\r\n" + okay, only: true},
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				if tt.only && engine != "" {
					t.Skip("net/http understands it")
				}
				g := start(t, engine)
				a := g.do(get(t, service(answering(t, func(*http.Request, string) string { return tt.raw })), "/"))
				if a.err == nil || a.status != 502 || !oneOf(a.code, "upstream_protocol", "upstream_closed", "upstream_aborted") {
					t.Errorf("%v, want 502", a)
				}
				if engine == "" && a.code != "upstream_protocol" {
					t.Errorf("code is %s, want upstream_protocol", a.code)
				}
			})
		}
	})
}

func TestInterimResponsesArePassedOn(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		s := service(answering(t, func(*http.Request, string) string {
			return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n" +
				"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		}))
		var got []string
		r := get(t, s, "/")
		r.Informational = func(status int, h exchange.Headers) { got = append(got, fmt.Sprint(status, fields(h))) }
		if a := g.do(r); a.err != nil || a.status != 200 {
			t.Fatalf("%v", a)
		}
		if want := "[103 map[Link:</a>] 102 map[]]"; fmt.Sprint(got) != want {
			t.Errorf("passed on %v, want %s", got, want)
		}
	})
}

func TestHopByHopFieldsAreRemoved(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		g := start(t, engine)
		a := g.do(get(t, service(answering(t, func(*http.Request, string) string {
			return "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\nSet-Cookie: a\r\n" +
				"Set-Cookie: b\r\nContent-Length: 0\r\n\r\n"
		})), "/"))
		want := map[string]string{"X-End": "2", "Set-Cookie": "a, b", "Content-Length": "0"}
		if !maps.Equal(a.header, want) {
			t.Errorf("header %v, want %v", a.header, want)
		}
	})
}
