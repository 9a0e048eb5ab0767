package upstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
)

// listen answers connections one by one with handle, which is told the connection's number.
func listen(t *testing.T, handle func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(n, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func settings(t *testing.T) *runtime.Settings {
	t.Helper()
	rules, err := hostsvc.NewEgressRules(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Settings{Egress: rules}
}

func service(address string) *runtime.Service {
	return &runtime.Service{
		Key: "s", Targets: []runtime.Target{{Address: address, Weight: 1}}, Weight: 1,
		Connect: 5 * time.Second, ResponseHead: 5 * time.Second, Idle: 5 * time.Second, MaxIdle: 8, IdleTimeout: time.Minute,
	}
}

func call(t *testing.T, s *runtime.Service, path string) *upstream.Call {
	t.Helper()
	return &upstream.Call{Service: s, Settings: settings(t), Method: "GET", Path: path, Header: http.Header{}}
}

func read(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answer reads one request and answers with its request line.
func answer(c net.Conn, r *bufio.Reader) bool {
	line, err := r.ReadString('\n')
	if err != nil {
		return false
	}
	for {
		h, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if h == "\r\n" {
			break
		}
	}
	line = strings.TrimSpace(line)
	_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
	return err == nil
}

func TestTargetGoesOutByteForByte(t *testing.T) {
	t.Parallel()
	address := listen(t, func(_ int, c net.Conn) {
		for r := bufio.NewReader(c); answer(c, r); {
		}
	})
	m := upstream.NewManager()
	for _, path := range []string{"/", "/a%20b", "//evil.test/x", "/a//b", "/%2E%2E/x", "/a;b=c", "/a:b@c", "/*", "/%25%3F%23"} {
		resp, err := m.Do(t.Context(), call(t, service(address), path))
		if got, want := read(t, resp, err), "GET "+path+" HTTP/1.1"; got != want {
			t.Errorf("upstream got %q, want %q", got, want)
		}
	}
}

// A kept-alive connection that the upstream has closed meanwhile costs one repetition, a fresh one that breaks none.
func TestRepetition(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	closed := make(chan struct{})
	address := listen(t, func(n int, c net.Conn) {
		connections.Add(1)
		r := bufio.NewReader(c)
		answer(c, r)
		if n == 0 {
			_, _ = r.ReadString('\n') // the next request comes in, and the connection is closed without an answer
			close(closed)
			return
		}
		for answer(c, r) {
		}
	})
	m := upstream.NewManager()
	for range 2 {
		resp, err := m.Do(t.Context(), call(t, service(address), "/"))
		read(t, resp, err)
	}
	<-closed
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}

	var tries atomic.Int64
	broken := listen(t, func(_ int, c net.Conn) {
		tries.Add(1)
		_, _ = bufio.NewReader(c).ReadString('\n')
	})
	_, err := m.Do(t.Context(), call(t, &runtime.Service{
		Key: "b", Targets: []runtime.Target{{Address: broken, Weight: 1}}, Weight: 1, Connect: time.Second, ResponseHead: time.Second, Idle: time.Second,
	}, "/"))
	var e *upstream.Error
	if !errors.As(err, &e) || e.Status != 502 || tries.Load() != 1 {
		t.Errorf("Do() = %v after %d tries, want 502 after one", err, tries.Load())
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	address := listen(t, func(_ int, c net.Conn) {
		r := bufio.NewReader(c)
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
		<-block
	})
	m := upstream.NewManager()
	s := service(address)
	s.MaxConns, s.Connect = 1, 100*time.Millisecond
	resp, err := m.Do(t.Context(), call(t, s, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = m.Do(t.Context(), call(t, s, "/"))
	var e *upstream.Error
	if !errors.As(err, &e) || e.Status != 504 || e.Code != "connect_timeout" {
		t.Errorf("Do() beyond max_connections = %v, want 504 by connect_timeout", err)
	}
}
