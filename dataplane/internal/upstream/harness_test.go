package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/testkit"
)

// TestMain fails if goroutines of the package are left over when all tests have ended.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leftovers(); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

func leftovers() string {
	deadline := time.Now().Add(10 * time.Second)
	for {
		var b strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
		var ours []string
		for g := range strings.SplitSeq(b.String(), "\n\n") {
			if strings.Contains(g, "internal/upstream") && !strings.Contains(g, "upstream_test.leftovers") {
				ours = append(ours, g)
			}
		}
		if len(ours) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(ours, "\n\n")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// engines are the two ways to speak HTTP/1.1.
var engines = []string{"", upstream.EngineNetHTTP}

func eachEngine(t *testing.T, f func(t *testing.T, engine string)) {
	t.Helper()
	for _, e := range engines {
		t.Run("engine "+map[string]string{"": "own"}[e]+strings.ReplaceAll(e, "/", " "), func(t *testing.T) {
			t.Parallel()
			f(t, e)
		})
	}
}

// gateway is a manager that runs.
type gateway struct {
	*upstream.Manager
	t       testing.TB
	sweeper *conn.Sweeper
}

func start(t testing.TB, engine string, roots ...string) *gateway {
	t.Helper()
	return startWith(t, upstream.Config{Engine: engine, FileRoots: roots})
}

// startWith runs a manager until the test ends, and fails the test if connections are left open then.
func startWith(t testing.TB, c upstream.Config) *gateway {
	t.Helper()
	g := &gateway{t: t, sweeper: conn.NewSweeper()}
	c.Sweeper, c.Log = g.sweeper, testkit.Logger(t)
	g.Manager = upstream.NewManager(c)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.sweeper.Run(ctx) })
	wg.Go(func() { _ = g.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		testkit.Await(t, 10*time.Second, func() error {
			if n := g.sweeper.Len(); n > 0 {
				return fmt.Errorf("%d connections are left open", n)
			}
			return nil
		})
	})
	return g
}

// listen answers connections one by one with handle, which is told the connection's number.
func listen(t testing.TB, handle func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, handle)
	return l.Addr().String()
}

func serve(t testing.TB, l net.Listener, handle func(n int, c net.Conn)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(n, c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// answering answers each request with what answer gives for it; empty ends the connection.
func answering(t testing.TB, answer func(r *http.Request, body string) string) string {
	t.Helper()
	return listen(t, func(_ int, c net.Conn) { answerAll(c, answer) })
}

func answerAll(c net.Conn, answer func(r *http.Request, body string) string) {
	in := bufio.NewReader(c)
	for {
		r, body, err := readRequest(in)
		if err != nil {
			return
		}
		out := answer(r, body)
		if _, err := io.WriteString(c, out); err != nil || out == "" {
			return
		}
	}
}

func readRequest(in *bufio.Reader) (*http.Request, string, error) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(r.Body)
	return r, string(body), err
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func settings(t testing.TB) *runtime.Settings {
	t.Helper()
	rules, err := hostsvc.NewEgressRules(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &runtime.Settings{Egress: rules}
}

func service(addresses ...string) *runtime.Service {
	s := &runtime.Service{
		Name: "s", Key: "s",
		Call: runtime.CallOptions{
			Connect: 5 * time.Second, ResponseHead: 5 * time.Second, Idle: 5 * time.Second, Retry: runtime.Retry{Attempts: 1},
		},
		Pool: runtime.Pool{MaxIdle: 64, IdleTimeout: time.Minute},
	}
	for _, a := range addresses {
		s.Targets = append(s.Targets, runtime.Target{Address: a, Weight: 100})
		s.Weight += 100
	}
	return s
}

func get(t testing.TB, s *runtime.Service, path string) *upstream.Request {
	t.Helper()
	return &upstream.Request{Service: s, Settings: settings(t), Method: []byte("GET"), Path: []byte(path), Host: []byte("client.test")}
}

func post(t testing.TB, s *runtime.Service, path string, b upstream.Body, length int64) *upstream.Request {
	t.Helper()
	r := get(t, s, path)
	r.Method, r.Body, r.ContentLength = []byte("POST"), b, length
	return r
}

// answer is a response that was read to its end.
type answer struct {
	status  int
	header  map[string]string
	body    string
	trailer map[string]string
	err     error // of Do or Next
	code    string
	sent    bool
}

func (a answer) String() string {
	return fmt.Sprintf("%d %q code %q trailer %v: %v", a.status, shorten(a.body), a.code, a.trailer, a.err)
}

func shorten(s string) string {
	if len(s) > 100 {
		return s[:50] + "..." + s[len(s)-50:]
	}
	return s
}

// do sends a request and reads the answer.
func (g *gateway) do(r *upstream.Request) answer {
	g.t.Helper()
	var resp upstream.Response
	return g.doWith(r, &resp)
}

func (g *gateway) doWith(r *upstream.Request, resp *upstream.Response) answer {
	if err := g.Do(context.WithoutCancel(g.t.Context()), r, resp); err != nil {
		return failed(err)
	}
	defer resp.Close()
	a := answer{status: resp.Status, header: fields(resp.Header)}
	for {
		piece, err := resp.Next()
		a.body += string(piece)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f := failed(err)
			a.err, a.code, a.status = f.err, f.code, f.status
			return a
		}
	}
	a.trailer, a.sent = fields(resp.Trailer()), resp.Sent()
	return a
}

func failed(err error) answer {
	a := answer{err: err}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		a.status, a.code = e.Status, e.Code
	}
	return a
}

func fields(h exchange.Headers) map[string]string {
	out := map[string]string{}
	for _, f := range h {
		name := http.CanonicalHeaderKey(string(f.Name))
		if v, ok := out[name]; ok {
			out[name] = v + ", " + string(f.Value)
		} else {
			out[name] = string(f.Value)
		}
	}
	return out
}

// pieces is a body that comes in pieces.
type pieces struct {
	mu      sync.Mutex
	list    []string
	end     error // after the last; nil: io.EOF
	trailer exchange.Headers
	aborted chan struct{} // made by newPieces
	once    sync.Once
	// wait, if not nil, is received from before each piece
	wait chan struct{}
}

func newPieces(list ...string) *pieces {
	return &pieces{list: list, aborted: make(chan struct{})}
}

func (b *pieces) Whole() ([]byte, bool) { return nil, false }

func (b *pieces) Next() ([]byte, error) {
	if b.wait != nil {
		select {
		case <-b.wait:
		case <-b.aborted:
			return nil, errors.New("aborted")
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == 0 {
		if b.end != nil {
			return nil, b.end
		}
		return nil, io.EOF
	}
	piece := []byte(b.list[0])
	b.list = b.list[1:]
	return piece, nil
}

func (b *pieces) Trailer() exchange.Headers { return b.trailer }
func (b *pieces) Abort()                    { b.once.Do(func() { close(b.aborted) }) }

// whole is a body that is in memory.
type whole string

func (b whole) Whole() ([]byte, bool)     { return []byte(b), true }
func (b whole) Next() ([]byte, error)     { panic("Next of a body that is whole") }
func (b whole) Trailer() exchange.Headers { return nil }
func (b whole) Abort()                    {}

func field(name, value string) exchange.Header {
	return exchange.Header{Name: []byte(name), Value: []byte(value)}
}

func oneOf(s string, list ...string) bool { return slices.Contains(list, s) }
