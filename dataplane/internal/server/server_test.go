package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/testkit"
)

func TestForward(t *testing.T) { overEngines(t, testForward) }

func testForward(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	g.simple(echo(t).URL)
	resp, body := get(t, g.address("http"), "/a/%41?x=1;y", "X-Forwarded-For", "1.2.3.4", "Forwarded", "for=1.2.3.4", "X-Real-Ip", "1.2.3.4",
		"X-Forwarded-Port", "1", "Connection", "X-Drop", "X-Drop", "1", "Proxy-Authorization", "x")
	if resp.StatusCode != 200 || !strings.HasPrefix(body, "GET /a/A?x=1;y 127.0.0.1:") {
		t.Errorf("answer %d %q", resp.StatusCode, body)
	}
	for _, want := range []string{"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "Via: 1.1 keyward\r\n", "X-Forwarded-Host: " + g.address("http")} {
		if !strings.Contains(body, want) {
			t.Errorf("upstream did not get %q:\n%s", want, body)
		}
	}
	for _, no := range []string{"1.2.3.4", "X-Drop", "Proxy-Auth", "X-Forwarded-Port", "Accept-Encoding: gzip\r\nAccept"} {
		if strings.Contains(body, no) {
			t.Errorf("upstream got %q:\n%s", no, body)
		}
	}
	if resp.Header.Get("X-Upstream") != "yes" || resp.Header.Get("X-Secret-Hop") != "" {
		t.Errorf("response header is %v", resp.Header)
	}
}

func TestRefusalsAreProblemsWithTheIDOfTheLog(t *testing.T) {
	overEngines(t, testRefusalsAreProblemsWithTheIDOfTheLog)
}

func testRefusalsAreProblemsWithTheIDOfTheLog(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	resp, _ := get(t, g.address("http"), "/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("without a runtime: %d, want 503 with Retry-After", resp.StatusCode)
	}
	g.config()
	resp, _ = get(t, g.address("http"), "/")
	if resp.StatusCode != 403 {
		t.Errorf("without settings: %d, want 403: https is required by default", resp.StatusCode)
	}
	g.config(settings(&configv1.Settings{}))
	resp, body := get(t, g.address("http"), "/secret?key=in-the-query", "X-Api-Key", "s3cret")
	var p struct{ Instance, Code string }
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 404 || p.Code != "no_route" ||
		resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answer %d %q: %v", resp.StatusCode, body, err)
	}
	for range 3 {
		<-g.log.got
	}
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	line := g.log.all[len(g.log.all)-1]
	if !strings.Contains(line, strings.TrimPrefix(p.Instance, "urn:uuid:")) || strings.Contains(line, "in-the-query") || strings.Contains(line, "s3cret") {
		t.Errorf("log line does not carry id %s, or shows a secret: %s", p.Instance, line)
	}
}

func TestAdmission(t *testing.T) { overEngines(t, testAdmission) }

func testAdmission(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	up := echo(t)
	r := route()
	r.Hosts = []string{"a.test"}
	r.Methods = []string{"GET", "POST"}
	g.config(settings(&configv1.Settings{Limits: &configv1.RequestLimits{Headers: 5, Head: 1024, Uri: 64, Body: 10}}),
		record("services", "up", service(up.URL)), record("routes", "r", r))
	const head = " HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n"
	tests := []struct {
		name, request string
		status        int
		contains      string
	}{
		{name: "ok", request: "GET /" + head + "\r\n", status: 200},
		{name: "host in upper case with port", request: "GET / HTTP/1.1\r\nHost: A.TEST.:81\r\nConnection: close\r\n\r\n", status: 200},
		{name: "absolute form", request: "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", status: 200, contains: "GET /x "},
		{name: "bad host", request: "GET / HTTP/1.1\r\nHost: a_test!\r\nConnection: close\r\n\r\n", status: 400},
		{name: "no host", request: "GET / HTTP/1.0\r\n\r\n", status: 400},
		{name: "other host", request: "GET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n", status: 404},
		{name: "asterisk", request: "OPTIONS *" + head + "\r\n", status: 400},
		{name: "connect", request: "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nConnection: close\r\n\r\n", status: 501},
		{name: "encoded slash", request: "GET /a%2fb" + head + "\r\n", status: 400},
		{name: "above root", request: "GET /../x" + head + "\r\n", status: 400},
		{name: "dots", request: "GET /x/../y" + head + "\r\n", status: 200, contains: "GET /y "},
		{name: "method", request: "DELETE /" + head + "\r\n", status: 405, contains: "\r\nAllow: GET, POST\r\n"},
		{name: "uri", request: "GET /" + strings.Repeat("a", 64) + head + "\r\n", status: 414},
		{name: "fields", request: "GET /" + head + strings.Repeat("X: 1\r\n", 6) + "\r\n", status: 431},
		{name: "head", request: "GET /" + head + "X: " + strings.Repeat("a", 1024) + "\r\n\r\n", status: 431},
		{name: "body", request: "POST /" + head + "Content-Length: 11\r\n\r\n12345678901", status: 413},
		{name: "chunked body", request: "POST /" + head + "Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n", status: 413},
		{name: "body that fits", request: "POST /" + head + "Transfer-Encoding: chunked\r\n\r\na\r\n1234567890\r\n0\r\n\r\n", status: 200, contains: "1234567890"},
		{name: "websocket", request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", status: 501},
		{name: "h2c upgrade is ignored", request: "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", status: 200},
		{name: "two hosts", request: "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\nConnection: close\r\n\r\n", status: 400},
		{name: "two lengths", request: "POST /" + head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", status: 400},
		{name: "space before colon", request: "GET /" + head + "X : 1\r\n\r\n", status: 400},
		{name: "unknown transfer coding", request: "POST /" + head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", status: 501},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, g.address("http"), tt.request)
			if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) && !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.0 %d ", tt.status)) || !strings.Contains(got, tt.contains) {
				t.Errorf("answer to %q is\n%s\nwant %d and %q", tt.request, got, tt.status, tt.contains)
			}
		})
	}
}

// What follows a request whose length is ambiguous never reaches the upstream as a request of its own.
func TestSmuggling(t *testing.T) { overEngines(t, testSmuggling) }

func testSmuggling(t *testing.T, e server.Engine) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.RequestURI)
	}))
	defer up.Close()
	g := start(t, e)
	r := route()
	r.Paths = []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/open"}}}
	g.config(settings(&configv1.Settings{}), record("services", "up", service(up.URL)), record("routes", "r", r))
	for _, head := range []string{
		"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 50\r\n",
		"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
		"Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n",
	} {
		raw(t, g.address("http"), "POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+head+"\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range seen {
		if s != "/open" {
			t.Errorf("upstream got %s", s)
		}
	}
}

func TestTrustedProxies(t *testing.T) { overEngines(t, testTrustedProxies) }

func testTrustedProxies(t *testing.T, e server.Engine) {
	t.Parallel()
	up := echo(t)
	for _, tt := range []struct {
		name    string
		trusted []string
		header  []string
		status  int
		gets    string
	}{
		{name: "nobody is trusted", header: []string{"X-Forwarded-For", "192.0.2.1"}, status: 403},
		{name: "the right-most that is not trusted", trusted: []string{"127.0.0.1", "10.0.0.0/8"}, header: []string{"X-Forwarded-For", "198.51.100.1, 192.0.2.1", "X-Forwarded-For", "10.0.0.1"}, status: 200, gets: "X-Forwarded-For: 198.51.100.1, 192.0.2.1, 10.0.0.1, 127.0.0.1"},
		{name: "a forged left part", trusted: []string{"127.0.0.1"}, header: []string{"X-Forwarded-For", "192.0.2.1, 198.51.100.1"}, status: 403},
		{name: "with port", trusted: []string{"127.0.0.1"}, header: []string{"X-Forwarded-For", "192.0.2.1:4711"}, status: 200},
		{name: "unreadable", trusted: []string{"127.0.0.1"}, header: []string{"X-Forwarded-For", "192.0.2.1, unknown"}, status: 403},
		{name: "scheme", trusted: []string{"127.0.0.1"}, header: []string{"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https"}, status: 200, gets: "X-Forwarded-Proto: https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, e)
			r := route()
			r.Policies = []*configv1.Binding{binding("ip-restriction", &policyv1.IpRestriction{Allow: []string{"192.0.2.0/24"}})}
			g.config(settings(&configv1.Settings{TrustedProxies: tt.trusted}), record("services", "up", service(up.URL)), record("routes", "r", r))
			resp, body := get(t, g.address("http"), "/", tt.header...)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.gets) {
				t.Errorf("answer %d, want %d with %q:\n%s", resp.StatusCode, tt.status, tt.gets, body)
			}
		})
	}
}

func TestRewriteAndHost(t *testing.T) { overEngines(t, testRewriteAndHost) }

func testRewriteAndHost(t *testing.T, e server.Engine) {
	t.Parallel()
	up := echo(t)
	address := strings.TrimPrefix(up.URL, "http://")
	prefix := func(p string) []*configv1.PathMatch {
		return []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: p}}}
	}
	for _, tt := range []struct {
		name    string
		service *configv1.Service
		route   *configv1.Route
		path    string
		want    string
	}{
		{name: "path of the service", service: &configv1.Service{Url: up.URL + "/base/"}, route: &configv1.Route{}, path: "/x?q", want: "GET /base/x?q " + address},
		{name: "strip", service: &configv1.Service{Url: up.URL}, route: &configv1.Route{Paths: prefix("/p"), Rewrite: &configv1.Rewrite{StripPrefix: true}}, path: "/p/x", want: "GET /x "},
		{name: "strip all", service: &configv1.Service{Url: up.URL}, route: &configv1.Route{Paths: prefix("/p"), Rewrite: &configv1.Rewrite{StripPrefix: true}}, path: "/p", want: "GET / "},
		{name: "strip and add", service: &configv1.Service{Url: up.URL + "/base"}, route: &configv1.Route{Paths: prefix("/p/"), Rewrite: &configv1.Rewrite{StripPrefix: true, Prefix: "/v2"}}, path: "/p/x/", want: "GET /base/v2/x/ "},
		{name: "add", service: &configv1.Service{Url: up.URL}, route: &configv1.Route{Rewrite: &configv1.Rewrite{Prefix: "/v2/"}}, path: "/", want: "GET /v2/ "},
		{name: "preserve", service: &configv1.Service{Url: up.URL, HostHeader: "preserve"}, route: &configv1.Route{}, path: "/", want: "GET / Client.test:99\n"},
		{name: "literal", service: &configv1.Service{Url: up.URL, HostHeader: "api.internal"}, route: &configv1.Route{}, path: "/", want: "GET / api.internal\n"},
		{name: "empty query", service: &configv1.Service{Url: up.URL}, route: &configv1.Route{}, path: "/a?", want: "GET /a? "},
		{name: "escapes", service: &configv1.Service{Url: up.URL}, route: &configv1.Route{}, path: "/a%20b%3a%c3%a9", want: "GET /a%20b%3A%C3%A9 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, e)
			tt.service.Name, tt.route.Name, tt.route.Service = "up", "r", "up"
			g.config(settings(&configv1.Settings{}), record("services", "up", tt.service), record("routes", "r", tt.route))
			got := raw(t, g.address("http"), "GET "+tt.path+" HTTP/1.1\r\nHost: Client.test:99\r\nConnection: close\r\n\r\n")
			if !strings.Contains(got, "\r\n"+tt.want) && !strings.Contains(got, "\n"+tt.want) {
				t.Errorf("upstream got other than %q:\n%s", tt.want, got)
			}
		})
	}
}

func TestUpstreamFaults(t *testing.T) { overEngines(t, testUpstreamFaults) }

func testUpstreamFaults(t *testing.T, e server.Engine) {
	t.Parallel()
	block := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		<-block
	}))
	t.Cleanup(hang.Close)
	t.Cleanup(func() { close(block) })
	nobody := "http://" + testkit.Addr(t) // nobody else gets that port
	short := &configv1.Timeouts{Connect: durationpb.New(time.Second), ResponseHead: durationpb.New(50 * time.Millisecond), Idle: durationpb.New(50 * time.Millisecond)}
	for _, tt := range []struct {
		name    string
		service *configv1.Service
		set     *configv1.Settings
		status  int
	}{
		{name: "refused", service: &configv1.Service{Url: nobody}, status: 502},
		{name: "no answer in time", service: &configv1.Service{Url: hang.URL, Timeouts: short}, status: 504},
		{name: "total", service: &configv1.Service{Url: hang.URL, Timeouts: &configv1.Timeouts{Total: durationpb.New(50 * time.Millisecond)}}, status: 504},
		{name: "egress rules", service: &configv1.Service{Url: hang.URL}, set: &configv1.Settings{UpstreamNetworks: &configv1.UpstreamNetworks{Deny: []string{"127.0.0.0/8"}}}, status: 502},
		{name: "metadata address", service: &configv1.Service{Url: "http://169.254.169.254"}, status: 502},
		{name: "no weight", service: &configv1.Service{Targets: []*configv1.Target{{Address: "127.0.0.1:1", Weight: proto.Uint32(0)}}}, status: 503},
		{name: "certificate of nobody", service: &configv1.Service{Url: selfSigned(t)}, status: 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, e)
			tt.service.Name = "up"
			if tt.set == nil {
				tt.set = &configv1.Settings{}
			}
			g.config(settings(tt.set), record("services", "up", tt.service), record("routes", "r", route()))
			resp, body := get(t, g.address("http"), "/")
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("answer %d %s, want %d and a problem", resp.StatusCode, body, tt.status)
			}
		})
	}
	t.Run("breaks off in the middle", func(t *testing.T) {
		t.Parallel()
		g := start(t, e)
		s := service(hang.URL)
		s.Timeouts = short
		g.config(settings(&configv1.Settings{}), record("services", "up", s), record("routes", "r", route()))
		got := raw(t, g.address("http"), "GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
		if !strings.Contains(got, "half") || strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("answer is %q, want it cut after what came", got)
		}
	})
}

func selfSigned(t *testing.T) string {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	t.Cleanup(s.Close)
	return s.URL
}

func TestBodyPolicyAbortsTheUpstream(t *testing.T) { overEngines(t, testBodyPolicyAbortsTheUpstream) }

func testBodyPolicyAbortsTheUpstream(t *testing.T, e server.Engine) {
	t.Parallel()
	aborted := make(chan error, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		aborted <- err
	}))
	defer up.Close()
	g := start(t, e)
	r := route()
	r.Policies = []*configv1.Binding{binding("request-size-limit", &policyv1.RequestSizeLimit{Max: proto.Uint64(4)})}
	g.config(settings(&configv1.Settings{}), record("services", "up", service(up.URL)), record("routes", "r", r))
	got := raw(t, g.address("http"), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("answer is\n%s\nwant 413", got)
	}
	select {
	case err := <-aborted:
		if err == nil {
			t.Error("the upstream took the body for whole")
		}
	case <-time.After(5 * time.Second):
		// the request was given up before the upstream was called: as good
	}
}

func TestWeights(t *testing.T) { overEngines(t, testWeights) }

func testWeights(t *testing.T, e server.Engine) {
	t.Parallel()
	var counts [2]int
	var mu sync.Mutex
	var targets []*configv1.Target
	for i, w := range []uint32{300, 100} {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			counts[i]++
			mu.Unlock()
		}))
		t.Cleanup(s.Close)
		targets = append(targets, &configv1.Target{Address: strings.TrimPrefix(s.URL, "http://"), Weight: &w})
	}
	g := start(t, e)
	g.config(settings(&configv1.Settings{}), record("services", "up", &configv1.Service{Name: "up", Targets: targets}), record("routes", "r", route()))
	for range 400 {
		get(t, g.address("http"), "/")
	}
	if counts[0] < 240 || counts[0] > 360 {
		t.Errorf("targets of weight 3:1 got %v of 400", counts)
	}
}

func TestConnectionsSurvivePushes(t *testing.T) { overEngines(t, testConnectionsSurvivePushes) }

func testConnectionsSurvivePushes(t *testing.T, e server.Engine) {
	t.Parallel()
	var mu sync.Mutex
	peers := map[string]bool{}
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
	}))
	defer up.Close()
	g := start(t, e)
	for i := range 5 {
		r := route()
		r.Description = fmt.Sprint(i)
		g.config(settings(&configv1.Settings{}), record("services", "up", service(up.URL)), record("routes", "r", r))
		get(t, g.address("http"), "/")
	}
	if len(peers) != 1 {
		t.Errorf("upstream saw %d connections over 5 pushes that did not change the service, want 1", len(peers))
	}
}
