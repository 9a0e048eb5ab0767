package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keyward.dev/shared/testkit"
)

// Peer is an upstream made of somebody else's software, which says what it took requests for.
type Peer struct {
	Name, Addr string
	// Take returns what was seen since it was called last, up to and with the next request for /next, in the order of
	// its end: method, target, Host and body. Requests that the peer did not take for whole are left out.
	Take func() []Seen
}

// GoPeer is net/http's server.
func GoPeer(t testing.TB) *Peer {
	t.Helper()
	var mu sync.Mutex
	var seen []Seen
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		one := sighting(r.Method, r.RequestURI, r.Host, string(body))
		one.Fields = append(one.Fields, Field{"Path", r.URL.Path})
		seen = append(seen, one)
		mu.Unlock()
		w.Header().Set("X-Seen", r.RequestURI)
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return &Peer{"go", s.Listener.Addr().String(), func() []Seen {
		mu.Lock()
		defer mu.Unlock()
		out := seen
		seen = nil
		return out
	}}
}

func sighting(method, target, host, body string) Seen {
	return Seen{Message: &Message{Line: method + " " + target + " HTTP/1.1", Fields: []Field{{"Host", host}}, Body: body}}
}

// HAProxyPeer is haproxy in front of net/http's server. Where haproxy is not installed only the full run insists on it:
// elsewhere the peer is nil.
func HAProxyPeer(t testing.TB) *Peer {
	t.Helper()
	if _, err := program("haproxy"); err != nil && !Full() {
		t.Logf("NOT RUN with haproxy: %v; make setup FULL=1 installs it", err)
		return nil
	}
	origin := GoPeer(t)
	addr, dir := testkit.Addr(t), t.TempDir()
	conf := fmt.Sprintf(`global
	maxconn 2000
	tune.bufsize 262144
	tune.http.maxhdr 1000
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend in
	bind %s
	default_backend out
backend out
	server origin %s
`, addr, origin.Addr)
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	startPeer(t, "haproxy", addr, "-db", "-f", file)
	return &Peer{"haproxy", addr, origin.Take}
}

// NginxPeer is nginx; what it took a request for is in its log. It reads bodies because it passes requests on.
func NginxPeer(t testing.TB) *Peer {
	t.Helper()
	addrs, dir := testkit.Addrs(t, 2), t.TempDir()
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error;
events { worker_connections 1024; }
http {
	%[2]s
	log_format seen escape=json '{"method":"$request_method","target":"$request_uri","path":"$uri","host":"$http_host","body":"$request_body","status":"$status"}';
	keepalive_requests 1000000; client_body_buffer_size 2m; client_max_body_size 32m; large_client_header_buffers 8 256k; merge_slashes off;
	server { listen %[3]s; access_log %[1]s/seen seen; location / { proxy_pass http://%[4]s; proxy_http_version 1.1; } }
	server { listen %[4]s; access_log off; default_type text/plain; location = /next { add_header X-Seen /next; return 200 ok; } location / { return 200 ok; } }
}
`, dir, nginxTemp(dir), addrs[0], addrs[1])
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	startPeer(t, "nginx", addrs[0], "-p", dir, "-c", file)
	log, err := os.Open(filepath.Join(dir, "seen"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	r := &nginxLog{t: t, r: bufio.NewReader(log)}
	return &Peer{"nginx", addrs[0], r.take}
}

// nginxLog reads nginx's log as it grows.
type nginxLog struct {
	t    testing.TB
	r    *bufio.Reader
	line string // begun
}

// take reads up to the next request for /next, which nginx may log a little after it has answered it.
func (l *nginxLog) take() []Seen {
	var out []Seen
	testkit.Await(l.t, 5*time.Second, func() error {
		for {
			more, err := l.r.ReadString('\n')
			l.line += more
			if err != nil {
				return fmt.Errorf("nginx has not logged the request for /next: %w", err)
			}
			var e struct{ Method, Target, Path, Host, Body, Status string }
			if err := json.Unmarshal([]byte(l.line), &e); err != nil {
				l.t.Errorf("nginx logged %q: %v", l.line, err)
			}
			l.line = ""
			if e.Status == "400" || e.Status == "499" || e.Status == "408" {
				continue // nginx did not take it for a request
			}
			seen := sighting(e.Method, e.Target, e.Host, e.Body)
			seen.Fields = append(seen.Fields, Field{"Path", e.Path})
			out = append(out, seen)
			if e.Target == "/next" {
				return nil
			}
		}
	})
	return out
}

// program finds a program of the system's, also where Debian puts servers and an ordinary user's PATH does not look.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", fmt.Errorf("%s is not installed: %w", name, err)
	}
	return path, nil
}

// startPeer starts a program of the system's and waits until it listens.
func startPeer(t testing.TB, name, addr string, args ...string) {
	t.Helper()
	path, err := program(name)
	if err != nil {
		t.Fatalf("%v: run make setup FULL=1", err)
	}
	StartServer(t, path, addr, args...)
}

// StartServer starts a program that serves at the address, and waits until it does.
func StartServer(t testing.TB, path, addr string, args ...string) {
	t.Helper()
	p := NewProcess(t, filepath.Base(path), path, nil, args...)
	p.Start()
	p.awaitListening(addr)
}

// awaitListening waits until the process listens.
func (p *Process) awaitListening(addr string) {
	p.t.Helper()
	p.await(10*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
}
