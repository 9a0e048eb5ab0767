package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/testkit"
)

// wholePolicy needs the whole body. It stands in the place of request-size-limit, whose configuration says how much it can
// take. A body that begins with "no" it refuses, "as" it replaces by what comes after.
type wholePolicy struct{ limit int64 }

var seen = []byte("X-Seen")

var refuseBody = exchange.NewRefusal(403, "no", "No.")

func (w wholePolicy) Request(x *exchange.Exchange) policy.Verdict {
	b, ok := x.Body(w.limit)
	switch {
	case !ok:
		return policy.Stop
	case bytes.HasPrefix(b, []byte("no")):
		x.Refuse(refuseBody)
		return policy.Stop
	case bytes.HasPrefix(b, []byte("as")):
		x.ReplaceBody(b[2:])
	}
	x.Request.Header.Add(exchange.Header{Name: seen, Value: strconv.AppendInt(x.Alloc(20), int64(len(b)), 10)})
	return policy.Next
}

// endPolicy refuses a body at its end. It stands in the place of rate-limit.
type endPolicy struct{}

func (endPolicy) Request(*exchange.Exchange) policy.Verdict { return policy.Next }

func (endPolicy) Body(x *exchange.Exchange, _ []byte, last bool) policy.Verdict {
	if last {
		x.Refuse(refuseBody)
		return policy.Stop
	}
	return policy.Next
}

const wholeLimit = 400_000

// startWhole starts a gateway whose route r has a policy that needs whole bodies.
func startWhole(t *testing.T, c server.Config, url string, change func(r *configv1.Route, b *configv1.Binding)) *gateway {
	t.Helper()
	g := startWith(t, c)
	deps := compile.Deps{Host: hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler), Group: "default"}
	for _, f := range policies.All() {
		if f.Type == "request-size-limit" {
			f = policy.Of(func(cfg *policyv1.RequestSizeLimit, _ policy.Deps) (policy.Policy, error) {
				return wholePolicy{limit: int64(cfg.GetMax())}, nil
			})
		}
		if f.Type == "rate-limit" {
			f = policy.Of(func(*policyv1.RateLimit, policy.Deps) (policy.Policy, error) { return endPolicy{}, nil })
		}
		deps.Factories = append(deps.Factories, f)
	}
	g.compiler = compile.New(deps)
	r, b := route(), binding("request-size-limit", &policyv1.RequestSizeLimit{Max: proto.Uint64(wholeLimit)})
	r.Policies = []*configv1.Binding{b}
	if change != nil {
		change(r, b)
	}
	g.config(settings(&configv1.Settings{Limits: &configv1.RequestLimits{Body: 2_000_000}}), record("services", "up", service(url)), record("routes", "r", r))
	return g
}

func always(*configv1.Route, *configv1.Binding) {}

// report has refusals reported only.
func report(_ *configv1.Route, b *configv1.Binding) { b.Mode = configv1.Mode_MODE_REPORT }

// measured is an upstream that says what it got of a body, and how it was framed.
func measured(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		start := string(body[:min(len(body), 8)])
		fmt.Fprintf(w, "%s seen=%s got=%d %q length=%d %v sum=%s digest=%s", r.Method, r.Header.Get("X-Seen"), len(body), start,
			r.ContentLength, r.TransferEncoding, r.Trailer.Get("X-Sum"), r.Header.Get("Content-Digest"))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// chunks writes a body in chunks of at most size bytes.
func chunks(body string, size int, trailer string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n" + trailer + "\r\n"
}

func long(first string, n int) string { return first + strings.Repeat("x", n-len(first)) }

func TestBodiesAreReadAhead(t *testing.T) { overEngines(t, testReadAhead) }

func testReadAhead(t *testing.T, e server.Engine) {
	chunked := "Transfer-Encoding: chunked\r\n\r\n"
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }
	tests := []struct {
		name   string
		change func(*configv1.Route, *configv1.Binding)
		after  string // what follows "POST / HTTP/1.1, Host"
		want   string // in the answer
		ends   bool   // the connection does
	}{
		{"no body", always, "Content-Length: 0\r\n\r\n", `seen=0 got=0 "" length=0`, false},
		{"by length", always, length("hello"), `seen=5 got=5 "hello" length=5`, false},
		{"by length, long", always, length(long("hello", 300_000)), `seen=300000 got=300000 "helloxxx" length=300000`, false},
		{"in chunks", always, chunked + chunks("hello world", 6, ""), `seen=11 got=11 "hello wo" length=11`, false},
		{"in chunks, long", always, chunked + chunks(long("hello", 300_000), 70_000, ""), `seen=300000 got=300000 "helloxxx" length=300000`, false},
		{"empty, in chunks", always, chunked + "0\r\n\r\n", `seen=0 got=0 "" length=0`, false},
		{"with a trailer", always, "Trailer: X-Sum\r\n" + chunked + chunks("hello", 5, "X-Sum: 7\r\n"), `seen=5 got=5 "hello" length=-1 [chunked] sum=7`, false},
		{"as long as may be", always, length(long("a", wholeLimit)), `seen=400000 got=400000`, false},
		{"refused", always, length("nothing"), `"code":"no"`, false},
		{"refused, in chunks", always, chunked + chunks("nothing", 2, ""), `"code":"no"`, false},
		{"replaced", always, "Content-Digest: sha-256=:x:\r\n" + length("asnew"), `seen=5 got=3 "new" length=3 [] sum= digest=`, false},
		{"replaced, in chunks", always, chunked + chunks("asnew", 2, ""), `got=3 "new" length=3`, false},
		{"replaced with a trailer", always, "Trailer: X-Sum\r\n" + chunked + chunks("asnew", 2, "X-Sum: 7\r\n"), `got=3 "new" length=-1 [chunked] sum=7`, false},
		{"replaced by nothing", always, length("as"), `seen=2 got=0 "" length=0`, false},
		{"announced too long", always, "Content-Length: 400001\r\n\r\n", `"code":"body_too_large"`, true},
		{"too long in chunks", always, chunked + chunks(long("a", 1_000_000), 50_000, ""), `"code":"body_too_large"`, true},
		{"beyond the limit of the group", report, chunked + chunks(long("a", 2_000_001), 50_000, ""), `"status":413`, true},
		{"broken chunks", always, chunked + "2\r\nab\r\nxyz\r\n", `"code":"bad_body"`, true},
		{"reported: refused", report, length("nothing"), `seen= got=7 "nothing" length=7`, false},
		{"reported: not replaced", report, length("asnew"), `seen= got=5 "asnew" length=5`, false},
		{"reported: too long by length", report, length(long("hello", wholeLimit+1)), `seen= got=400001 "helloxxx" length=400001`, false},
		{
			"reported: too long in chunks", report, "Trailer: X-Sum\r\n" + chunked + chunks(long("hello", 900_000), 50_000, "X-Sum: 7\r\n"),
			`seen= got=900000 "helloxxx" length=-1 [chunked] sum=7`, false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startWhole(t, server.Config{Engine: e}, measured(t), tt.change)
			c := dial(t, g.address("http"))
			go func() { _, _ = io.WriteString(c.Conn, "POST /"+keepAlive+tt.after+"GET /next"+keepAlive+"\r\n") }()
			resp, body := c.answer("POST")
			if !strings.Contains(body, tt.want) {
				t.Errorf("answered %d %q, want %q", resp.StatusCode, body, tt.want)
			}
			if tt.ends {
				if !resp.Close {
					t.Error("the answer does not announce the end of the connection")
				}
				return
			}
			if resp, body := c.answer("GET"); !strings.HasPrefix(body, "GET ") {
				t.Errorf("the request after it is answered %v %q", resp, body)
			}
		})
	}
}

func TestBodiesThatComeInPiecesAreReadAhead(t *testing.T) { overEngines(t, testReadAheadInPieces) }

func testReadAheadInPieces(t *testing.T, e server.Engine) {
	g := startWhole(t, server.Config{Engine: e}, measured(t), nil)
	c := dial(t, g.address("http"))
	c.send("POST /" + keepAlive + "Content-Length: 6\r\nExpect: 100-continue\r\n\r\n")
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := c.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q, %v, want to be asked for the body", line, err)
		}
	}
	for _, piece := range []string{"ab", "cd", "ef"} {
		c.send(piece)
	}
	if _, body := c.answer("POST"); !strings.Contains(body, `seen=6 got=6 "abcdef" length=6`) {
		t.Errorf("answered %q", body)
	}
}

// TestWhatIsRefusedBeforeIsNotRead has a policy before that refuses: the body is not asked for.
func TestWhatIsRefusedBeforeIsNotRead(t *testing.T) { overEngines(t, testRefusedUnread) }

func testRefusedUnread(t *testing.T, e server.Engine) {
	g := startWhole(t, server.Config{Engine: e}, measured(t), func(r *configv1.Route, _ *configv1.Binding) {
		nobody := binding("ip-restriction", &policyv1.IpRestriction{Allow: []string{"192.0.2.0/24"}})
		r.Policies = append([]*configv1.Binding{nobody}, r.Policies...)
	})
	c := dial(t, g.address("http"))
	c.send("POST /" + keepAlive + "Content-Length: 6\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := c.answer("POST"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("answered %v, want 403 and not to be asked for the body", resp)
	}
}

func TestSlowBodiesAreNotReadAhead(t *testing.T) { overEngines(t, testSlowAhead) }

func testSlowAhead(t *testing.T, e server.Engine) {
	for name, timeouts := range map[string]*configv1.RouteTimeouts{
		"none of it comes": {Idle: durationpb.New(50 * time.Millisecond)},
		"it takes longer than all of the request may": {Total: durationpb.New(50 * time.Millisecond), Idle: durationpb.New(100 * time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startWhole(t, server.Config{Engine: e}, measured(t), func(r *configv1.Route, _ *configv1.Binding) { r.Timeouts = timeouts })
			c := dial(t, g.address("http"))
			c.send("POST /" + keepAlive + "Content-Length: 1000\r\n\r\nx")
			if resp, body := c.answer("POST"); resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
				t.Errorf("answered %v %q, want 408 and the end", resp, body)
			}
		})
	}
}

func TestClientsThatGoBeforeTheirBodyIsRead(t *testing.T) { overEngines(t, testGoneAhead) }

func testGoneAhead(t *testing.T, e server.Engine) {
	g := startWhole(t, server.Config{Engine: e}, "http://127.0.0.1:1", nil)
	c := dial(t, g.address("http"))
	c.send("POST /" + keepAlive + "Content-Length: 1000\r\n\r\nx")
	c.Close()
	<-g.log.got
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	if !strings.Contains(g.log.all[0], `"client_gone"`) {
		t.Errorf("the log says %s, want client_gone", g.log.all[0])
	}
}

func TestMemoryForBodiesIsBounded(t *testing.T) { overEngines(t, testBodyMemory) }

func testBodyMemory(t *testing.T, e server.Engine) {
	g := startWhole(t, server.Config{Engine: e, BodyMemory: 200_000}, measured(t), nil)
	// Two that come to nothing hold what they have sent, until there is no more for the third.
	var held []*connection
	for range 2 {
		c := dial(t, g.address("http"))
		c.send("POST /" + keepAlive + "Content-Length: 100000\r\n\r\n" + long("a", 60_000))
		held = append(held, c)
	}
	testkit.Await(t, 10*time.Second, func() error {
		if n := g.server.Stats().BodyBytes; n < 128<<10 {
			return fmt.Errorf("%d bytes are held", n)
		}
		return nil
	})
	third := dial(t, g.address("http"))
	go func() {
		_, _ = io.WriteString(third.Conn, "POST /"+keepAlive+"Content-Length: 100000\r\n\r\n"+long("a", 100_000))
	}()
	if resp, body := third.answer("POST"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(body, `"code":"body_memory"`) {
		t.Errorf("answered %v %q, want 503", resp, body)
	}
	for _, c := range held {
		c.Close()
	}
	testkit.Await(t, 10*time.Second, func() error {
		if n := g.server.Stats().BodyBytes; n != 0 {
			return fmt.Errorf("%d bytes are held", n)
		}
		return nil
	})
}

// TestTheEndOfABodyIsShown has a policy look at pieces behind one that reads ahead: as a whole, and, where that may not be
// had, what was read and the rest.
func TestTheEndOfABodyIsShown(t *testing.T) { overEngines(t, testEndIsShown) }

func testEndIsShown(t *testing.T, e server.Engine) {
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, long("a", n)) }
	for _, tt := range []struct {
		name, after string
		memory      int64
	}{
		{"whole", length(10), 0},
		{"no memory for all", "Expect: 100-continue\r\n" + length(10), 1},
		{"too long by length", length(wholeLimit + 1), 0},
		{"too long in chunks", "Transfer-Encoding: chunked\r\n\r\n" + chunks(long("a", wholeLimit+1), 50_000, ""), 0},
		{"no memory", length(100_000), 1},
		{"no memory for the second piece", length(100_000), 64 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := startWhole(t, server.Config{Engine: e, BodyMemory: tt.memory}, measured(t), func(r *configv1.Route, b *configv1.Binding) {
				report(r, b)
				r.Policies = append(r.Policies, binding("rate-limit", &policyv1.RateLimit{}))
			})
			c := dial(t, g.address("http"))
			head, body, _ := strings.Cut(tt.after, "\r\n\r\n")
			c.send("POST /" + keepAlive + head + "\r\n\r\n")
			if strings.HasPrefix(head, "Expect") { // the body comes apart from its head, which is not to be had otherwise
				for range 2 {
					if _, err := c.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
			}
			go func() { _, _ = io.WriteString(c.Conn, body) }()
			if resp, body := c.answer("POST"); resp.StatusCode != http.StatusForbidden {
				t.Errorf("answered %d %q, want 403 at the end of the body", resp.StatusCode, body)
			}
		})
	}
}

// TestBodiesOfOtherRoutesAreNotRead streams more than there is memory for.
func TestBodiesOfOtherRoutesAreNotRead(t *testing.T) { overEngines(t, testStreamedBeside) }

func testStreamedBeside(t *testing.T, e server.Engine) {
	g := startWhole(t, server.Config{Engine: e, BodyMemory: 1}, measured(t), func(r *configv1.Route, _ *configv1.Binding) { r.Policies = nil })
	c := dial(t, g.address("http"))
	go func() {
		_, _ = io.WriteString(c.Conn, "POST /"+keepAlive+"Content-Length: 1900000\r\n\r\n"+long("a", 1_900_000))
	}()
	if _, body := c.answer("POST"); !strings.Contains(body, "seen= got=1900000") {
		t.Errorf("answered %q", body)
	}
}

// TestBodiesOverHTTP2AreReadAhead has no framing of its own but what HTTP/2 gives.
func TestBodiesOverHTTP2AreReadAhead(t *testing.T) {
	t.Parallel()
	c := server.Config{Certificates: certificates(t), Listeners: []server.Listener{{Name: "https", Address: "127.0.0.1:0", TLS: true}}}
	g := startWhole(t, c, measured(t), nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	tests := []struct {
		name, body string
		length     int64
		want       string
		status     int
	}{
		{"by length", "hello", 5, `seen=5 got=5 "hello" length=5`, 200},
		{"of unknown length", "hello", -1, `seen=5 got=5 "hello" length=-1 [chunked] sum=7`, 200},
		{"long", long("hello", 300_000), 300_000, `seen=300000 got=300000`, 200},
		{"refused", "nothing", -1, `"code":"no"`, 403},
		{"announced too long", long("a", wholeLimit+1), wholeLimit + 1, `"code":"body_too_large"`, 413},
		{"too long", long("a", wholeLimit+1), -1, `"code":"body_too_large"`, 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+g.address("https")+"/", io.NopCloser(strings.NewReader(tt.body)))
			if err != nil {
				t.Fatal(err)
			}
			if req.ContentLength = tt.length; tt.length < 0 {
				req.Trailer = http.Header{"X-Sum": {"7"}}
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.ProtoMajor != 2 || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("answered %s %d %q, want %d %q", resp.Proto, resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
}

// TestBodiesReadAheadAreSentAgain has an upstream that drops its first connection after the request: what may be repeated
// is, now also with a body that came in chunks.
func TestBodiesReadAheadAreSentAgain(t *testing.T) { overEngines(t, testSentAgain) }

func testSentAgain(t *testing.T, e server.Engine) {
	for method, status := range map[string]int{"PUT": 200, "POST": 502} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			g := startWhole(t, server.Config{Engine: e}, "http://"+dropsFirst(t), func(r *configv1.Route, _ *configv1.Binding) {
				r.Retries = &configv1.RouteRetries{Attempts: proto.Uint32(2)}
			})
			c := dial(t, g.address("http"))
			c.send(method + " /" + keepAlive + "Transfer-Encoding: chunked\r\n\r\n" + chunks("hello", 2, ""))
			if resp, body := c.answer(method); resp.StatusCode != status {
				t.Errorf("answered %d %q, want %d", resp.StatusCode, body, status)
			}
		})
	}
}

// dropsFirst closes its first connection once a body has come, and answers on the others.
func dropsFirst(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for first := true; ; first = false {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			var got []byte
			for buf := make([]byte, 1024); !bytes.HasSuffix(got, []byte("hello")); {
				n, err := c.Read(buf)
				if got = append(got, buf[:n]...); err != nil {
					break
				}
			}
			if !first {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			_ = c.Close()
		}
	}()
	return ln.Addr().String()
}
