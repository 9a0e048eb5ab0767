package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

func TestDrainAnnouncesAndFinishes(t *testing.T) { overEngines(t, testDrainAnnouncesAndFinishes) }

func testDrainAnnouncesAndFinishes(t *testing.T, e server.Engine) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
		_, _ = io.WriteString(w, "done")
	}))
	defer up.Close()
	g := start(t, e)
	g.simple(up.URL)
	idle, err := net.Dial("tcp", g.address("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	reader := bufio.NewReader(idle)
	ask := func() *http.Response {
		t.Helper()
		if _, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp
	}
	if ask().Close {
		t.Error("connection ends before the drain")
	}
	slow := make(chan string, 1)
	go func() { slow <- raw(t, g.address("http"), "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") }()
	<-entered
	g.stop()
	for !g.server.Draining() {
		select {
		case <-t.Context().Done():
			return
		default:
		}
	}
	if resp := ask(); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("answer while draining is %d, close %v, want 200 that announces the end", resp.StatusCode, resp.Close)
	}
	close(release)
	if got := <-slow; !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, "done") {
		t.Errorf("request under way got %q", got)
	}
}

func TestHTTPS(t *testing.T) { overEngines(t, testHTTPS) }

func testHTTPS(t *testing.T, e server.Engine) {
	t.Parallel()
	up := echo(t)
	g := start(t, e, server.Listener{Name: "http", Address: "127.0.0.1:0"}, server.Listener{Name: "https", Address: "127.0.0.1:0", TLS: true})
	g.config(settings(&configv1.Settings{RequireHttps: new(true)}), record("services", "up", service(up.URL)), record("routes", "r", route()))
	if resp, _ := get(t, g.address("http"), "/"); resp.StatusCode != 403 {
		t.Errorf("plain http is answered %d, want 403", resp.StatusCode)
	}
	for _, h2 := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols}}
		resp, err := client.Post("https://"+g.address("https")+"/x?y=1", "text/plain", bytes.NewReader([]byte("hello")))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if resp.StatusCode != 200 || (resp.ProtoMajor == 2) != h2 || !strings.Contains(string(body), "POST /x?y=1 ") ||
			!strings.HasSuffix(string(body), "hello") || !strings.Contains(string(body), "X-Forwarded-Proto: https") {
			t.Errorf("h2=%v: %s %d\n%s", h2, resp.Proto, resp.StatusCode, body)
		}
	}
}

// A client that does not send the rest of a body nobody wants is not waited for.
func TestSlowBodyOfARefusedRequest(t *testing.T) { overEngines(t, testSlowBodyOfARefusedRequest) }

func testSlowBodyOfARefusedRequest(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	g.config(settings(&configv1.Settings{}))
	c, err := net.Dial("tcp", g.address("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	all, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 404 ") || time.Since(began) > 15*time.Second {
		t.Errorf("connection ended after %v with %v and %q", time.Since(began), err, all)
	}
}

// Clients that keep to what they are told see no failure while the gateway goes away under load.
func TestNoRequestFailsWhileDraining(t *testing.T) { overEngines(t, testNoRequestFailsWhileDraining) }

func testNoRequestFailsWhileDraining(t *testing.T, e server.Engine) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer up.Close()
	g := start(t, e)
	g.simple(up.URL)
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				conn, err := net.Dial("tcp", g.address("http"))
				if err != nil {
					return // gone: somebody else serves
				}
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				reader := bufio.NewReader(conn)
				for {
					if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
						t.Errorf("write: %v", err)
						return
					}
					resp, err := http.ReadResponse(reader, nil)
					if err != nil {
						t.Errorf("connection ended without being announced: %v", err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					if resp.StatusCode != 200 {
						t.Errorf("answer %d", resp.StatusCode)
					}
					if resp.Close {
						_ = conn.Close()
						break
					}
				}
				select {
				case <-stopped:
					return // told to leave: as a load balancer would
				default:
				}
			}
		})
	}
	for range 50 {
		get(t, g.address("http"), "/")
	}
	g.stop()
	for !g.server.Draining() {
		select {
		case <-t.Context().Done():
			return
		default:
		}
	}
	close(stopped)
	wg.Wait()
}

// An upstream that answers before it has read the body does not hold the client, nor the other way round.
func TestEarlyResponse(t *testing.T) { overEngines(t, testEarlyResponse) }

func testEarlyResponse(t *testing.T, e server.Engine) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTeapot)
	}))
	defer up.Close()
	g := start(t, e)
	g.simple(up.URL)
	c, err := net.Dial("tcp", g.address("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(4 * time.Second)) // less than what is waited for the rest of the body
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("answer is %v, %v, want the upstream's", resp, err)
	}
}

// A body that was read to its end does not cost the connection.
func TestAnswersToBodiesKeepTheConnection(t *testing.T) { overEngines(t, testAnswersToBodies) }

func testAnswersToBodies(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	g.simple(echo(t).URL)
	c := dial(t, g.address("http"))
	for _, request := range []string{
		"Content-Length: 5\r\n\r\nhello", "Content-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000),
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "Content-Length: 1\r\n\r\nx",
	} {
		c.send("POST / HTTP/1.1\r\nHost: a\r\n" + request)
		if resp, body := c.answer(http.MethodPost); resp.StatusCode != http.StatusOK || resp.Close {
			t.Errorf("%.30q: %d, closing %t: %.100s", request, resp.StatusCode, resp.Close, body)
		}
	}
}

func TestSlowBodyIsGivenUp(t *testing.T) { overEngines(t, testSlowBodyIsGivenUp) }

func testSlowBodyIsGivenUp(t *testing.T, e server.Engine) {
	t.Parallel()
	up := echo(t)
	g := start(t, e)
	s := service(up.URL)
	s.Timeouts = &configv1.Timeouts{Idle: durationpb.New(100 * time.Millisecond)}
	g.config(settings(&configv1.Settings{}), record("services", "up", s), record("routes", "r", route()))
	c, err := net.Dial("tcp", g.address("http"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
		t.Errorf("answer is %v, %v, want 408 and the end of the connection", resp, err)
	}
}
