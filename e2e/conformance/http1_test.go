// Package conformance holds the gateway's HTTP/1.1 against RFC 9112, with raw bytes on real sockets: framing is a security
// boundary, and what is ambiguous has to be refused, never repaired.
package conformance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"keyward.dev/e2e/harness"
)

// upstream remembers what reaches it.
type upstream struct {
	addr string

	mu   sync.Mutex
	seen []string // guarded by mu: method and target of requests that came whole
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			u.mu.Lock()
			u.seen = append(u.seen, fmt.Sprintf("%s %s %q", r.Method, r.RequestURI, body))
			u.mu.Unlock()
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	u.addr = s.Listener.Addr().String()
	return u
}

// take returns what was seen since it was called last.
func (u *upstream) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"

// post is a request whose framing fields are given, with a body after which a second request stands.
func post(fields, body string) string {
	return "POST /x HTTP/1.1\r\nHost: a.test\r\n" + fields + "\r\n" + body + smuggled
}

func get(lines string) string { return "GET /x HTTP/1.1\r\n" + lines + "\r\n" }

// refused are requests that nobody may read in two ways. Each is answered 400 (501 for an unknown coding, 505 for an unknown version), or not at all, and the connection is closed:
// nothing after it is taken for a request.
var refused = []struct{ name, bytes string }{
	{"Content-Length and Transfer-Encoding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
	{"Transfer-Encoding and Content-Length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")},
	{"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")},
	{"the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")},
	{"a list of lengths", post("Content-Length: 5, 5\r\n", "hello")},
	{"a signed length", post("Content-Length: +5\r\n", "hello")},
	{"a negative length", post("Content-Length: -5\r\n", "hello")},
	{"a hexadecimal length", post("Content-Length: 0x5\r\n", "hello")},
	{"a length with a space in it", post("Content-Length: 5 5\r\n", "hello")},
	{"an empty length", post("Content-Length:\r\n", "")},
	{"a length beyond all bounds", post("Content-Length: 99999999999999999999999\r\n", "hello")},
	{"an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")},
	{"identity", post("Transfer-Encoding: identity\r\n", "hello")},
	{"chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")},
	{"chunked not last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")},
	{"two Transfer-Encoding fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
	{"a quoted coding", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")},
	{"chunked after a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")},
	{"a space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")},
	{"a tab before the colon", post("Content-Length\t: 5\r\n", "hello")},
	{"a folded field", post("X-A: b\r\n Content-Length: 5\r\n", "")},
	{"a folded length", post("Content-Length:\r\n 5\r\n", "hello")},
	{"chunked in HTTP/1.0", strings.Replace(post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), "HTTP/1.1", "HTTP/1.0", 1)},
	{"a bare LF after a field", post("X-A: b\nContent-Length: 5\r\n", "hello")},
	{"a bare LF after the request line", "GET /x HTTP/1.1\nHost: a.test\r\n\r\n" + smuggled},
	{"bare LFs everywhere", "GET /x HTTP/1.1\nHost: a.test\n\n" + smuggled},
	{"a bare LF ends the head", "GET /x HTTP/1.1\r\nHost: a.test\r\n\n" + smuggled},
	{"a bare CR in a value", get("Host: a.test\r\nX-A: b\rc\r\n")},
	{"a bare CR that hides a field", get("Host: a.test\r\nX-A: b\rContent-Length: 5\r\n") + "hello"},
	{"a null in a value", get("Host: a.test\r\nX-A: b\x00c\r\n")},
	{"a control character in a value", get("Host: a.test\r\nX-A: b\x01c\r\n")},
	{"a name that is no token", get("Host: a.test\r\nX A: b\r\n")},
	{"a name with a parenthesis", get("Host: a.test\r\nX(A): b\r\n")},
	{"a name beyond ASCII", get("Host: a.test\r\nX\xe9: b\r\n")},
	{"an empty name", get("Host: a.test\r\n: b\r\n")},
	{"a line without a colon", get("Host: a.test\r\nnonsense\r\n")},
	{"a space before the first field", "GET /x HTTP/1.1\r\n Host: a.test\r\n\r\n"},
	{"no Host", get("")},
	{"an empty Host", get("Host:\r\n")},
	{"two Hosts", get("Host: a.test\r\nHost: b.test\r\n")},
	{"the same Host twice", get("Host: a.test\r\nhost: a.test\r\n")},
	{"a Host with a path", get("Host: a.test/x\r\n")},
	{"a Host with a user", get("Host: b.test@a.test\r\n")},
	{"a Host with a space", get("Host: a.test b.test\r\n")},
	{"a list of Hosts", get("Host: a.test, b.test\r\n")},
	{"a Host with junk for a port", get("Host: a.test:80x\r\n")},
	{"absolute-form that disagrees", "GET http://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"absolute-form with a user", "GET http://u@a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"two spaces in the request line", "GET  /x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a tab in the request line", "GET\t/x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a space in the target", "GET /x y HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a space at the end of the request line", "GET /x HTTP/1.1 \r\nHost: a.test\r\n\r\n"},
	{"no version", "GET /x\r\nHost: a.test\r\n\r\n"},
	{"a version in lower case", "GET /x http/1.1\r\nHost: a.test\r\n\r\n"},
	{"a method that is no token", "G(T /x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a fragment in the target", "GET /x#y HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a target beyond ASCII", "GET /\xe9 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a control character in the target", "GET /\x01 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a relative target", "GET x HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"an asterisk for GET", "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"half an escape", "GET /%4 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a chunk size with a sign", post("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n")},
	{"a chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n")},
	{"a chunk size with a space before it", post("Transfer-Encoding: chunked\r\n", " 5\r\nhello\r\n0\r\n\r\n")},
	{"a chunk size beyond all bounds", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff5\r\nhello\r\n0\r\n\r\n")},
	{"an empty chunk size", post("Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n")},
	{"a chunk that is longer than its size", post("Transfer-Encoding: chunked\r\n", "3\r\nhello\r\n0\r\n\r\n")},
	{"a chunk size that ends in a bare LF", post("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n")},
	{"a chunk that ends in a bare LF", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\n0\r\n\r\n")},
	{"a bare CR in a chunk extension", post("Transfer-Encoding: chunked\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n")},
	{"a last chunk that ends in a bare LF", post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\n\r\n")},
}

// TestAmbiguousRequestsAreRefused sends each on a connection of its own.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	t.Parallel()
	u, g := start(t)
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			answers, err := harness.RawTo(g.HTTP, tt.bytes)
			if err != nil {
				t.Fatalf("the connection: %v", err)
			}
			for i, a := range answers {
				if lawful := []int{http.StatusBadRequest, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported}; !slices.Contains(lawful, a.StatusCode) {
					t.Errorf("answer %d is %d, want 400", i+1, a.StatusCode)
				}
				if i == 0 && !a.Close && a.Header.Get("Connection") != "close" {
					t.Error("the refusal does not announce that the connection is closed")
				}
			}
			if len(answers) > 1 {
				t.Errorf("%d answers: something after the request was taken for a request", len(answers))
			}
			if seen := u.take(); len(seen) > 0 {
				t.Errorf("the upstream got %q", seen)
			}
		})
	}
}

func start(t *testing.T) (*upstream, *harness.Gateway) {
	t.Helper()
	u := newUpstream(t)
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(fmt.Sprintf(`group: default
settings: {require_https: false}
services: [{name: s, url: "http://%s"}]
routes: [{name: a, service: s, hosts: [a.test]}, {name: any, service: s, hosts: ["[::1]"]}]
`, u.addr)))
	return u, g
}

// TestLawfulRequestsAreServed is the other side: what looks odd and is right.
func TestLawfulRequestsAreServed(t *testing.T) {
	t.Parallel()
	u, g := start(t)
	const last = "Connection: close\r\n"
	for _, tt := range []struct {
		name, bytes string
		seen        []string
	}{
		{"plain", get("Host: a.test\r\n" + last), []string{`GET /x ""`}},
		{"field names in any case, no space, much space", get("hOST:a.test\r\nX-A: \t b \t \r\nX-Empty:\r\n" + last), []string{`GET /x ""`}},
		{"an empty line before", "\r\n" + get("Host: a.test\r\n"+last), []string{`GET /x ""`}},
		{"absolute-form that agrees", "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n" + last + "\r\n", []string{`GET /x ""`}},
		{"a body", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n" + last + "\r\nhello", []string{`POST /x "hello"`}},
		{"leading zeros in the length", "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 005\r\n" + last + "\r\nhello", []string{`POST /x "hello"`}},
		{"chunks", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n" + last + "\r\n2\r\nhe\r\n3;ext=\"a b\"\r\nllo\r\n000\r\n\r\n", []string{`POST /x "hello"`}},
		{"chunks with trailers", "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n" + last + "\r\n5\r\nhello\r\n0\r\nX-T: v\r\n\r\n", []string{`POST /x "hello"`}},
		{
			"three in a row", "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhelloGET /3 HTTP/1.1\r\nHost: a.test\r\n" + last + "\r\n",
			[]string{`GET /1 ""`, `POST /2 "hello"`, `GET /3 ""`},
		},
		{"a port in Host", get("Host: a.test:8080\r\n" + last), []string{`GET /x ""`}},
		{"HTTP/1.0 with a Host", "GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n", []string{`GET /x ""`}},
		{"a method of one's own", "BREW /x HTTP/1.1\r\nHost: a.test\r\n" + last + "\r\n", []string{`BREW /x ""`}},
		{"Expect: 100-continue", "POST /x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + last + "\r\nhello", []string{`POST /x "hello"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := g.Raw(t, tt.bytes)
			if len(answers) != len(tt.seen) {
				t.Fatalf("%d answers, want %d", len(answers), len(tt.seen))
			}
			for i, a := range answers {
				if a.StatusCode != http.StatusOK {
					t.Errorf("answer %d: %d", i+1, a.StatusCode)
				}
			}
			if seen := u.take(); strings.Join(seen, ",") != strings.Join(tt.seen, ",") {
				t.Errorf("the upstream got %q, want %q", seen, tt.seen)
			}
		})
	}
}

// TestHopByHopFieldsStopAtTheGateway looks at what is forwarded, byte for byte.
func TestHopByHopFieldsStopAtTheGateway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heads := make(chan string, 8)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64<<10)
			n, _ := conn.Read(buf)
			heads <- string(buf[:n])
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Secret-Hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nX-Kept: 1\r\n\r\nok")
			conn.Close()
		}
	}()
	c := harness.New(t, harness.Options{})
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(fmt.Sprintf("group: default\nsettings: {require_https: false}\nservices: [{name: s, url: \"http://%s\"}]\nroutes: [{name: a, service: s, hosts: [a.test]}]\n", l.Addr())))
	answers := g.Raw(t, get("Host: a.test\r\nConnection: close, X-Hop, Authorization\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X-T\r\nProxy-Connection: close\r\n"+
		"Proxy-Authorization: x\r\nUpgrade: h2c\r\nX-Kept: 1\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n"))
	if len(answers) != 1 || answers[0].StatusCode != http.StatusOK {
		t.Fatalf("answers: %v", answers)
	}
	head := strings.ToLower(<-heads)
	for _, name := range []string{"x-hop:", "keep-alive:", "proxy-connection:", "proxy-authorization:", "upgrade:", "trailer:"} {
		if strings.Contains(head, "\r\n"+name) {
			t.Errorf("%s was forwarded:\n%s", name, head)
		}
	}
	if !strings.Contains(head, "\r\nx-kept: 1\r\n") {
		t.Errorf("X-Kept was not forwarded:\n%s", head)
	}
	// The test is no trusted proxy: what it says of the client is not believed and not passed on as if it were.
	if strings.Contains(head, "1.2.3.4") {
		t.Errorf("the upstream is told a client address that nobody vouches for:\n%s", head)
	}
	if !strings.Contains(head, "x-forwarded-for: 127.0.0.1") {
		t.Errorf("the upstream is not told the client's address:\n%s", head)
	}
	h := answers[0].Header
	if h.Get("X-Secret-Hop") != "" || h.Get("Keep-Alive") != "" || h.Get("X-Kept") != "1" {
		t.Errorf("the answer's fields: %v", h)
	}
}
