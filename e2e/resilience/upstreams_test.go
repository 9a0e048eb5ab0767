package resilience_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

const brokenDocument = `group: GROUP
settings: {require_https: false, limits: {body: 1GiB}}
services:
  - {name: killed, targets: ["KILLED"], pool: {idle_timeout: 1s}, timeouts: {idle: 10s}}
  - {name: odd, targets: ["ODD"], pool: {idle_timeout: 1s}, timeouts: {idle: 500ms, response_head: 20s}}
routes:
  - {name: killed, service: killed, hosts: [killed.test]}
  - {name: odd, service: odd, hosts: [odd.test]}
`

// TestUpstreamsAndClientsThatBreakOff takes the one or the other away in the middle of things, with every engine. What is not
// whole is never passed on as whole, nobody waits for longer than was said, and the gateway is left with what it had.
func TestUpstreamsAndClientsThatBreakOff(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	for _, engine := range harness.Engines() {
		group := strings.ReplaceAll(engine, "/", "-")
		c.CreateGroup(group)
		b := &broken{nginx: testkit.Addr(t), odd: newOdd(t)}
		revision := c.Apply(strings.NewReplacer("GROUP", group, "KILLED", b.nginx, "ODD", b.odd.addr).Replace(brokenDocument))
		b.Edge = c.StartEdge(t, group, engine, "killed.test", "odd.test")
		b.AwaitRevision(revision)
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			before, err := b.Usage()
			if err != nil {
				t.Fatal(err)
			}
			t.Run("an upstream is killed", b.upstreamKilled)
			for _, protocol := range []string{"http", "https", "h2"} {
				t.Run("over "+protocol, func(t *testing.T) {
					client := b.client(t, protocol)
					t.Run("an upstream breaks off by force", func(t *testing.T) { b.upstreamResets(t, client) })
					t.Run("an upstream stalls", func(t *testing.T) { b.upstreamStalls(t, client) })
					t.Run("a client goes while the upstream thinks", func(t *testing.T) { b.clientGoes(t, client) })
					t.Run("a client goes while it sends", func(t *testing.T) { b.senderGoes(t, client) })
					t.Run("an upstream answers early", func(t *testing.T) { b.earlyAnswer(t, client) })
					t.Run("both speak at once", func(t *testing.T) { b.bothSpeak(t, client) })
				})
			}
			b.AwaitUsage(t, 30*time.Second, before)
		})
	}
}

// broken is a gateway with upstreams that break.
type broken struct {
	*harness.Edge
	nginx string
	odd   *odd
}

// client speaks to the gateway in a protocol. It keeps no connection after the test.
func (b *broken) client(t *testing.T, protocol string) *http.Client {
	t.Helper()
	addr := b.HTTPS
	if protocol == "http" {
		addr = b.HTTP
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol != "h2")
	protocols.SetHTTP2(protocol == "h2")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: b.Cert.Roots, MinVersion: tls.VersionTLS12}, Protocols: protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: scheme{protocol, transport}, Timeout: 30 * time.Second}
}

// scheme has requests sent over TLS or not.
type scheme struct {
	protocol string
	next     *http.Transport
}

// RoundTrip sends the request.
func (s scheme) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme = "https"
	if s.protocol == "http" {
		r.URL.Scheme = "http"
	}
	return s.next.RoundTrip(r)
}

// upstreamKilled kills nginx while it sends, in both of its framings and to clients of every protocol.
func (b *broken) upstreamKilled(t *testing.T) {
	nginx := harness.SlowNginx(t, b.nginx)
	var bodies []io.ReadCloser
	for _, protocol := range []string{"http", "https", "h2"} {
		for _, path := range []string{"/length", "/chunks"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://killed.test"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "gzip") // which nginx does not know the length of
			resp, err := b.client(t, protocol).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if chunks := resp.ContentLength < 0; chunks != (path == "/chunks") || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s, length %d", path, resp.Status, resp.ContentLength)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 512)); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			bodies = append(bodies, resp.Body)
		}
	}
	nginx.Kill()
	began := time.Now()
	for i, body := range bodies {
		if n, err := io.Copy(io.Discard, body); err == nil {
			t.Errorf("answer %d ended in order after another %d bytes", i, n)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took the clients %v to learn of it", took)
	}
}

// upstreamResets is an answer that ends with its connection, which ends by force.
func (b *broken) upstreamResets(t *testing.T, client *http.Client) {
	resp := b.call(t, client, "/reset", nil)
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the answer ended in order after %d bytes", n)
	}
}

// upstreamStalls is an answer that does not go on, for longer than the service's timeout.
func (b *broken) upstreamStalls(t *testing.T, client *http.Client) {
	began := time.Now()
	resp := b.call(t, client, "/stall", nil)
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if took := time.Since(began); err == nil || took > 5*time.Second {
		t.Errorf("after %d bytes and %v: %v; want an error soon after 500ms", n, took, err)
	}
}

// clientGoes is a client that does not wait. The upstream learns of it.
func (b *broken) clientGoes(t *testing.T, client *http.Client) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://odd.test/think", nil)
		if err != nil {
			return
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Error("the upstream answered")
		}
	}()
	await(t, b.odd.arrived, "the request to arrive")
	cancel()
	await(t, b.odd.gone, "the upstream to learn that the client has gone")
	<-ended
}

// senderGoes is a client that goes in the middle of its body.
func (b *broken) senderGoes(t *testing.T, client *http.Client) {
	ctx, cancel := context.WithCancel(t.Context())
	body, feed := io.Pipe()
	defer feed.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://odd.test/take", body)
		if err != nil {
			return
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := feed.Write(make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	await(t, b.odd.arrived, "the request to arrive")
	cancel()
	await(t, b.odd.gone, "the upstream to learn that the body will not end")
	feed.Close() // net/http's client may wait for it
	<-ended
}

// earlyAnswer is an answer that comes before the body was sent. The client gets it, and is not made to send the rest.
func (b *broken) earlyAnswer(t *testing.T, client *http.Client) {
	body, feed := io.Pipe()
	defer feed.Close()
	go func() { _, _ = feed.Write(make([]byte, 1<<20)) }() // and no more, and no end
	began := time.Now()
	resp := b.call(t, client, "/early", body)
	resp.Body.Close()
	if took := time.Since(began); resp.StatusCode != http.StatusForbidden || took > 2*time.Second {
		t.Errorf("answered %d after %v, want 403 at once", resp.StatusCode, took)
	}
}

// bothSpeak is a body that is answered piece by piece while it is sent.
func (b *broken) bothSpeak(t *testing.T, client *http.Client) {
	body, feed := io.Pipe()
	go func() { _, _ = io.WriteString(feed, "first ") }()
	resp := b.call(t, client, "/echo", body)
	defer resp.Body.Close()
	for i, next := range []string{"second", "third ", ""} {
		got := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			t.Fatalf("piece %d came back as %q: %v", i, got, err)
		}
		if next == "" {
			feed.Close()
		} else if _, err := io.WriteString(feed, next); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last piece came %q, %v", rest, err)
	}
}

// call sends a request to the upstream that behaves oddly.
func (b *broken) call(t *testing.T, client *http.Client, path string, body io.Reader) *http.Response {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://odd.test"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp
}

// odd is an upstream that does everything but answer in order.
type odd struct {
	addr string
	// arrived and gone get a value when a request has come, and when its client was found gone.
	arrived, gone chan struct{}
}

func newOdd(t *testing.T) *odd {
	t.Helper()
	o := &odd{arrived: make(chan struct{}, 16), gone: make(chan struct{}, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 10_000))
		_ = rw.Flush()
		<-time.After(100 * time.Millisecond) // what was sent is to arrive: a reset overtakes it
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10000")
		_, _ = w.Write(make([]byte, 5000))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/think", func(_ http.ResponseWriter, r *http.Request) {
		o.arrived <- struct{}{}
		<-r.Context().Done()
		o.gone <- struct{}{}
	})
	mux.HandleFunc("/take", func(_ http.ResponseWriter, r *http.Request) {
		o.arrived <- struct{}{}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			o.gone <- struct{}{}
		}
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		_ = ctl.EnableFullDuplex()
		piece := make([]byte, 6)
		for {
			if _, err := io.ReadFull(r.Body, piece); err != nil {
				return
			}
			if _, err := w.Write(piece); err != nil || ctl.Flush() != nil {
				return
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	o.addr = s.Listener.Addr().String()
	return o
}

// clientGone is how soon an upstream has to learn that its client has gone.
const clientGone = 2 * time.Second

func await(t *testing.T, what <-chan struct{}, name string) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(clientGone):
		t.Fatalf("waited in vain for %s", name)
	}
}
