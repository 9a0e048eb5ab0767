package conformance_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"keyward.dev/e2e/harness"
)

// TestStreams is what goes on for long: tunnels, events and calls in both directions.
func TestStreams(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	for _, engine := range harness.Engines() {
		runSuites(t, c, engine, "strict", []namedSuite{{"websocket", webSocket}, {"switching", switching}, {"events", events}, {"grpc", interop}})
	}
}

// webSocket sends frames of 64 KiB and pings through a tunnel, in both directions.
func webSocket(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(-1)
		for {
			kind, message, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			if string(message) == "ping me" { // answered by the other side while it reads
				ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
				reading := conn.CloseRead(ctx)
				if err := conn.Ping(reading); err == nil {
					_ = conn.Write(ctx, kind, []byte("pong"))
				}
				cancel()
				return
			}
			if conn.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(up.Close)
	s.serve("ws", strings.TrimPrefix(up.URL, "http://"), "", ", upgrade: [websocket]")
	return func(t *testing.T) {
		for _, url := range []string{"ws://" + s.HTTP, "wss://" + s.HTTPS} {
			echo(t, s, url)
		}
	}
}

func echo(t *testing.T, s *site, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Cert.Roots, ServerName: "ws.test", MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	dial := func() *websocket.Conn {
		conn, _, err := websocket.Dial(ctx, url+"/echo", &websocket.DialOptions{Host: "ws.test", HTTPClient: client, Subprotocols: []string{"echo"}})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		conn.SetReadLimit(-1)
		return conn
	}
	conn := dial()
	defer conn.CloseNow()
	if conn.Subprotocol() != "echo" {
		t.Errorf("%s: subprotocol %q", url, conn.Subprotocol())
	}
	began := time.Now()
	for n := range 50 {
		message := bytes.Repeat([]byte{byte(n)}, 64<<10)
		if err := conn.Write(ctx, websocket.MessageBinary, message); err != nil {
			t.Fatalf("%s: frame %d: %v", url, n, err)
		}
		if _, got, err := conn.Read(ctx); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%s: frame %d came back as %d bytes: %v", url, n, len(got), err)
		}
	}
	t.Logf("%s: %v", url, time.Since(began))
	if err := conn.Write(ctx, websocket.MessageText, []byte("ping me")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(ctx); err != nil || string(got) != "pong" {
		t.Errorf("%s: the upstream's ping was not answered: %q, %v", url, got, err)
	}
	second := dial()
	defer second.CloseNow()
	if err := second.Ping(second.CloseRead(ctx)); err != nil {
		t.Errorf("%s: the client's ping was not answered: %v", url, err)
	}
	if err := second.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("%s: the tunnel did not close in order: %v", url, err)
	}
}

// switching is what an upstream can answer to the wish to switch. Only 101 for the protocol that was asked for makes a
// tunnel; after anything else the client's bytes are requests, and are judged as such.
func switching(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	w := harness.NewWitness(t)
	s.serve("a", w.Addr, "", ", upgrade: [websocket]")
	s.forbid("a", "/canary")
	const wish = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
	trials := []trial{
		{name: "426", send: get(wish) + canary, reply: "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n", answers: 2, want: noSwitch(426)},
		{name: "400", send: get(wish) + canary, reply: "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", answers: 2, want: noSwitch(400)},
		{name: "200", send: get(wish) + canary, answers: 2, want: noSwitch(200)},
		{name: "200 with the fields of a switch", send: get(wish) + canary, reply: "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", answers: 2, want: noSwitch(200)},
		{name: "101 for another protocol", send: get(wish) + canary, reply: switched + "Upgrade: h2c\r\n\r\n" + evil, answers: 2, want: noSwitch(502)},
		{name: "101 for none", send: get(wish) + canary, reply: switched + "\r\n" + evil, answers: 2, want: noSwitch(502)},
		{name: "101 without a wish", send: get("") + canary, reply: switched + "Upgrade: websocket\r\n\r\n" + evil, answers: 2, want: noSwitch(502)},
		{name: "101 for a wish without the option", send: get("Upgrade: websocket\r\n") + canary, reply: switched + "Upgrade: websocket\r\n\r\n" + evil, answers: 2, want: noSwitch(502)},
		{name: "101 in HTTP/1.0", send: head("GET /x HTTP/1.0", wish), reply: switched + "Upgrade: websocket\r\n\r\n" + evil, want: noSwitch(502)},
		{name: "a wish for another protocol", send: get("Connection: upgrade\r\nUpgrade: foo\r\n"), want: and(served(), withheld("Upgrade", "Connection"))},
		{name: "a wish", send: get(wish), want: and(forwarded("Upgrade", "websocket"), forwarded("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))},
	}
	return func(t *testing.T) {
		b := &bench{addr: s.HTTP, host: host, witness: w}
		for _, tr := range trials {
			t.Run(tr.name, func(t *testing.T) {
				b.judge(t, tr, differences[s.engine]["switching/"+tr.name])
			})
		}
	}
}

// noSwitch is an answer with the status, after which the connection either ends or the next request is judged like any other.
func noSwitch(status int) check {
	return func(o *outcome) error {
		got := []int{}
		for _, a := range o.answers {
			got = append(got, a.Status())
		}
		if !slices.Equal(got, []int{status}) && !slices.Equal(got, []int{status, 403}) || o.broken != nil {
			return fmt.Errorf("answered %v%s, want %d and at most a 403 after it", got, o.ending(), status)
		}
		return noCanary(o)
	}
}

const (
	eventCount = 40
	eventEvery = 20 * time.Millisecond
	eventBound = 50 * time.Millisecond
)

// events measures how long server-sent events are under way.
func events(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		ctl := http.NewResponseController(w)
		ticker := time.NewTicker(eventEvery)
		defer ticker.Stop()
		for range eventCount {
			fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano())
			if ctl.Flush() != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(up.Close)
	s.serve("sse", strings.TrimPrefix(up.URL, "http://"), "", "")
	return func(t *testing.T) {
		for _, h2 := range []bool{false, true} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Cert.Roots, ServerName: "sse.test", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: h2}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.HTTPS+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "sse.test"
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if late := delays(t, resp.Body); len(late) != eventCount || late[len(late)/2] > eventBound {
				t.Errorf("%s: %d events, half of them under way for less than %v; want %d and %v", resp.Proto, len(late), late[len(late)/2], eventCount, eventBound)
			}
			resp.Body.Close()
		}
	}
}

// delays returns how long each event was under way, shortest first.
func delays(t *testing.T, body io.Reader) []time.Duration {
	t.Helper()
	out := []time.Duration{0}[:0]
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		var sent int64
		if _, err := fmt.Sscanf(lines.Text(), "data: %d", &sent); err == nil {
			out = append(out, time.Since(time.Unix(0, sent)))
		}
	}
	if err := lines.Err(); err != nil || len(out) == 0 {
		t.Fatalf("%d events: %v", len(out), err)
	}
	slices.Sort(out)
	return out
}
