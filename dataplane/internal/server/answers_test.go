package server_test

import (
	"fmt"
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

// TestAnOpenBreakerSaysWhenToComeBack tells the client, and not as if the service had no targets.
func TestAnOpenBreakerSaysWhenToComeBack(t *testing.T) { overEngines(t, testOpenBreaker) }

func testOpenBreaker(t *testing.T, e server.Engine) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(up.Close)
	g := start(t, e)
	s := service(up.URL)
	s.CircuitBreaker = &configv1.CircuitBreaker{
		FailureRatio: 50, MinRequests: 1, Window: durationpb.New(10 * time.Second), Open: durationpb.New(time.Minute),
	}
	g.config(settings(&configv1.Settings{}), record("services", "up", s), record("routes", "r", route()))
	var resp *http.Response
	var body string
	for range 5 {
		if resp, body = get(t, g.address("http"), "/"); resp.StatusCode == http.StatusServiceUnavailable {
			break
		}
	}
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `"circuit_open"`) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("answered %v %q, want 503 circuit_open with Retry-After", resp, body)
	}
}

// TestMalformedRequestsAreLoggedAsTheGroupSays: they have an address, and it is hidden if the group hides addresses.
func TestMalformedRequestsAreLoggedAsTheGroupSays(t *testing.T) {
	t.Parallel()
	for form, want := range map[configv1.ClientIpForm]string{
		configv1.ClientIpForm_CLIENT_IP_FORM_FULL: `"client_ip":"127.0.0.1"`, configv1.ClientIpForm_CLIENT_IP_FORM_TRUNCATED: `"client_ip":"127.0.0.0"`,
	} {
		g := start(t, server.Keyward)
		g.config(settings(&configv1.Settings{AccessLog: &configv1.AccessLog{ClientIp: form}}))
		raw(t, g.address("http"), "GET /\r\n\r\n")
		<-g.log.got
		g.log.mu.Lock()
		if line := g.log.all[0]; !strings.Contains(line, want) || strings.Contains(line, "127.0.0.1") != strings.Contains(want, "127.0.0.1") {
			t.Errorf("log line is %s, want %s", line, want)
		}
		g.log.mu.Unlock()
	}
}

// TestInterimResponsesHaveNoLength, which some upstreams give them (RFC 9110 section 8.6).
func TestInterimResponsesHaveNoLength(t *testing.T) { overEngines(t, testInterim) }

func testInterim(t *testing.T, e server.Engine) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			c.Close()
		}
	}()
	g := start(t, e)
	g.simple("http://" + ln.Addr().String())
	got := raw(t, g.address("http"), "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	hints, rest, _ := strings.Cut(got, "\r\n\r\n")
	if !strings.HasPrefix(hints, "HTTP/1.1 103 ") || !strings.Contains(hints, "Link: </a>") || strings.Contains(hints, "Content-Length") || !strings.HasSuffix(rest, "ok") {
		t.Errorf("got %q, want hints without a length, and the answer", got)
	}
}
