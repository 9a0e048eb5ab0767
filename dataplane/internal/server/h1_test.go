package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// connection is a client's connection of which the test sees every byte.
type connection struct {
	net.Conn
	*bufio.Reader
	t *testing.T
}

func dial(t *testing.T, address string) *connection {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &connection{Conn: c, Reader: bufio.NewReader(c), t: t}
}

// Read reads through the buffer.
func (c *connection) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func (c *connection) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a response and its body.
func (c *connection) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.Reader, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read body after %q: %v", body, err)
	}
	return resp, string(body)
}

// ended fails the test unless the connection ends without another byte.
func (c *connection) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.Reader); err != nil || len(rest) > 0 {
		c.t.Errorf("after the answer came %q and %v, want the end", rest, err)
	}
}

const keepAlive = " HTTP/1.1\r\nHost: a.test\r\n"

func TestRequestsFollowEachOtherOnAConnection(t *testing.T) { overEngines(t, testRequestsFollow) }

func testRequestsFollow(t *testing.T, e server.Engine) {
	g := start(t, e)
	g.simple(echo(t).URL)
	c := dial(t, g.address("http"))
	c.send("\r\nGET /1" + keepAlive + "\r\nPOST /2" + keepAlive + "Content-Length: 3\r\n\r\nabc" +
		"POST /3" + keepAlive + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\n\r\nHEAD /4" + keepAlive + "\r\n")
	for i, want := range []string{"GET /1 ", "POST /2 ", "POST /3 "} {
		resp, body := c.answer("GET")
		if resp.StatusCode != 200 || !strings.HasPrefix(body, want) || resp.Header.Get("Date") == "" {
			t.Errorf("answer %d is %v %q, want %q", i+1, resp, body, want)
		}
		if sent := map[int]string{1: "abc", 2: "def"}[i]; !strings.HasSuffix(body, "\n\n"+sent) {
			t.Errorf("the upstream got %q, want the body %q", body, sent)
		}
	}
	if resp, body := c.answer("HEAD"); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD is answered %v %q", resp, body)
	}
	c.send("GET /5" + keepAlive + "Connection: close\r\n\r\n")
	if resp, _ := c.answer("GET"); !resp.Close {
		t.Error("the last answer does not announce the end")
	}
	c.ended()
}

// TestWhatFollowsABodyIsNotPartOfIt sends a body apart from its head, and the next request right behind it.
func TestWhatFollowsABodyIsNotPartOfIt(t *testing.T) { overEngines(t, testWhatFollowsABody) }

func testWhatFollowsABody(t *testing.T, e server.Engine) {
	g := start(t, e)
	g.simple(echo(t).URL)
	for _, framing := range []struct{ field, body string }{
		{"Content-Length: 5", "hello"}, {"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
	} {
		c := dial(t, g.address("http"))
		c.send("POST /1" + keepAlive + "Expect: 100-continue\r\n" + framing.field + "\r\n\r\n")
		for range 2 { // 100 Continue and an empty line
			if _, err := c.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		c.send(framing.body + "GET /2" + keepAlive + "\r\n")
		if _, body := c.answer("POST"); !strings.HasPrefix(body, "POST /1 ") || !strings.HasSuffix(body, "\n\nhello") {
			t.Errorf("%s: the upstream got %q", framing.field, body)
		}
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || !strings.HasPrefix(body, "GET /2 ") {
			t.Errorf("%s: the next request is answered %v %q", framing.field, resp, body)
		}
	}
}

func TestHTTP10KeepsConnectionsThatAskForIt(t *testing.T) { overEngines(t, testHTTP10) }

func testHTTP10(t *testing.T, e server.Engine) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_ = http.NewResponseController(w).Flush()
		}
		fmt.Fprint(w, "hello")
	}))
	t.Cleanup(up.Close)
	g := start(t, e)
	g.simple(up.URL)
	c := dial(t, g.address("http"))
	c.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
	if resp, body := c.answer("GET"); resp.Header.Get("Connection") != "keep-alive" || body != "hello" {
		t.Errorf("answered %v %q", resp.Header, body)
	}
	c.send("GET /stream HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n")
	if resp, body := c.answer("GET"); resp.TransferEncoding != nil || !resp.Close || body != "hello" {
		t.Errorf("a response without a length is answered %v %q, want it to end with the connection", resp, body)
	}
	c.ended()
}

func TestContinueIsSentOnlyToThoseWhoWait(t *testing.T) { overEngines(t, testContinue) }

func testContinue(t *testing.T, e server.Engine) {
	g := start(t, e)
	g.config(settings(&configv1.Settings{Limits: &configv1.RequestLimits{Body: 100}}), record("services", "up", service(echo(t).URL)), record("routes", "r", route()))
	c := dial(t, g.address("http"))
	c.send("POST /" + keepAlive + "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if line, err := c.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v, want to be asked for the body", line, err)
	}
	if _, err := c.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.send("abc")
	if resp, body := c.answer("POST"); resp.StatusCode != 200 || !strings.HasSuffix(body, "\nabc") {
		t.Errorf("answered %v %q", resp, body)
	}
	c.send("POST /" + keepAlive + "Content-Length: 101\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := c.answer("POST"); resp.StatusCode != 413 || !resp.Close {
		t.Errorf("a body that is too large is answered %v, want 413 and the end", resp)
	}
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	g := startWith(t, server.Config{Timeouts: server.Timeouts{Head: 300 * time.Millisecond, Idle: 300 * time.Millisecond}})
	g.simple(echo(t).URL)
	tests := []struct {
		name, sent string
		status     int // 0: closed without an answer
	}{
		{name: "nothing"},
		{name: "half a head", sent: "GET / HTTP/1.1\r\nHo", status: 408},
		{name: "nothing after a request", sent: "GET /" + keepAlive + "\r\n", status: 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, g.address("http"))
			c.send(tt.sent)
			if tt.status != 0 {
				if resp, _ := c.answer("GET"); resp.StatusCode != tt.status {
					t.Errorf("answered %v, want %d", resp, tt.status)
				}
			}
			c.ended()
		})
	}
}

// TestMalformedHeadsAreProblems refuses heads and says why in the form of all refusals.
func TestMalformedHeadsAreProblems(t *testing.T) {
	t.Parallel()
	g := start(t, server.Keyward)
	g.simple(echo(t).URL)
	for request, status := range map[string]int{
		"GET / HTTP/1.1\nHost: a.test\n\n":                                                     400,
		"GET /" + keepAlive + "A: 1\r\n 2\r\n\r\n":                                             400,
		"GET / HTTP/2.0\r\nHost: a.test\r\n\r\n":                                               505,
		"POST /" + keepAlive + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n":             501,
		"GET /" + strings.Repeat("a", 20_000) + keepAlive + "\r\n":                             414,
		"GET /" + keepAlive + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 70) + "x": 431,
	} {
		c := dial(t, g.address("http"))
		c.send(request)
		resp, body := c.answer("GET")
		if resp.StatusCode != status || resp.Header.Get("Content-Type") != "application/problem+json" || !resp.Close {
			t.Errorf("%.60q is answered %v %q, want %d as a problem, and the end", request, resp, body, status)
		}
	}
}

// TestTooManyConnections closes what is beyond the bound, and takes others when there is room again.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	g := startWith(t, server.Config{MaxConns: 2})
	g.simple(echo(t).URL)
	first, second := dial(t, g.address("http")), dial(t, g.address("http"))
	for _, c := range []*connection{first, second} {
		c.send("GET /" + keepAlive + "\r\n")
		c.answer("GET")
	}
	third := dial(t, g.address("http"))
	if _, err := third.ReadByte(); err == nil {
		t.Error("the third connection got an answer")
	}
	if got := g.server.Stats(); got.Open != 2 || got.Refused != 1 {
		t.Errorf("Stats() = %+v, want 2 open, 1 refused", got)
	}
	first.Close()
	for g.server.Stats().Open == 2 {
		if t.Context().Err() != nil {
			t.Fatal("a connection that was closed is counted still")
		}
	}
	fourth := dial(t, g.address("http"))
	fourth.send("GET /" + keepAlive + "\r\n")
	fourth.answer("GET")
}

func TestProxyProtocolNamesTheClient(t *testing.T) {
	t.Parallel()
	g := start(t, server.Keyward)
	s := &configv1.Settings{TrustedProxies: []string{"127.0.0.1/32"}}
	s.Listeners = map[string]*configv1.Listener{"http": {ProxyProtocol: true}}
	g.config(settings(s), record("services", "up", service(echo(t).URL)), record("routes", "r", route()))
	c := dial(t, g.address("http"))
	c.send("PROXY TCP4 192.0.2.7 192.0.2.2 5 6\r\nGET /" + keepAlive + "\r\n")
	if _, body := c.answer("GET"); !strings.Contains(body, "X-Forwarded-For: 192.0.2.7\r\n") {
		t.Errorf("the upstream got %q, want the client's address", body)
	}
	c = dial(t, g.address("http"))
	c.send("GET /" + keepAlive + "\r\n")
	if rest, _ := io.ReadAll(c); len(rest) > 0 {
		t.Errorf("a proxy that says nothing is answered %q", rest)
	}
}

// switching is an upstream that switches to the protocol it is asked for and says back what it is told.
func switching(t *testing.T) *httptest.Server {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\nhello ", r.Header.Get("Upgrade"))
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))
	t.Cleanup(up.Close)
	return up
}

func TestTunnel(t *testing.T) { overEngines(t, testTunnel) }

func testTunnel(t *testing.T, e server.Engine) {
	g := start(t, e)
	r := route()
	r.Upgrade = []string{"websocket"}
	g.config(settings(&configv1.Settings{}), record("services", "up", service(switching(t).URL)), record("routes", "r", r))
	c := dial(t, g.address("http"))
	c.send("GET /" + keepAlive + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
		t.Fatalf("answered %v, %v, want 101", resp, err)
	}
	c.send(" late")
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	if all, err := io.ReadAll(c); err != nil || string(all) != "hello early late" {
		t.Errorf("through the tunnel came %q, %v", all, err)
	}
}

// TestStreamsEndWithWhatAllowedThem cuts what had begun before it was forbidden.
func TestStreamsEndWithWhatAllowedThem(t *testing.T) { overEngines(t, testStreamsEnd) }

func testStreamsEnd(t *testing.T, e server.Engine) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			fmt.Fprint(w, "data: x\n\n")
			_ = http.NewResponseController(w).Flush()
			<-tick.C
		}
	}))
	t.Cleanup(endless.Close)
	tests := []struct {
		name   string
		route  func(r *configv1.Route)
		change func(g *gateway)
		code   string
	}{
		{name: "the route is gone", change: func(g *gateway) { g.config(settings(&configv1.Settings{})) }, code: "route_gone"},
		{name: "it is too old", route: func(r *configv1.Route) { r.MaxStreamAge = durationpb.New(time.Second) }, code: "stream_age"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, e)
			r := route()
			if tt.route != nil {
				tt.route(r)
			}
			g.config(settings(&configv1.Settings{}), record("services", "up", service(endless.URL)), record("routes", "r", r))
			c := dial(t, g.address("http"))
			c.send("GET /" + keepAlive + "\r\n")
			if _, err := c.ReadString('x'); err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(g)
			}
			_, _ = io.Copy(io.Discard, c)
			<-g.log.got
			g.log.mu.Lock()
			defer g.log.mu.Unlock()
			if line := g.log.all[0]; !strings.Contains(line, tt.code) || !strings.Contains(line, `"aborted":true`) {
				t.Errorf("log line is %s, want %s", line, tt.code)
			}
		})
	}
}

func TestClientGoneEndsTheCall(t *testing.T) { overEngines(t, testClientGone) }

func testClientGone(t *testing.T, e server.Engine) {
	asked, gone := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(up.Close)
	g := start(t, e)
	g.simple(up.URL)
	c := dial(t, g.address("http"))
	c.send("GET /" + keepAlive + "\r\n")
	<-asked
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case <-gone:
	case <-ctx.Done():
		t.Error("the upstream goes on working for nobody")
	}
}
