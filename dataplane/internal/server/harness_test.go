package server_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/upstream"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// lines collects access log lines.
type lines struct {
	mu   sync.Mutex
	all  []string
	got  chan struct{}
	mute atomic.Bool // nothing is collected, for those who count allocations
}

func (l *lines) Observe(x *exchange.Exchange, o accesslog.Outcome) {
	if l.mute.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(accesslog.Append(nil, x, o)))
	select {
	case l.got <- struct{}{}:
	default:
	}
}

// gateway is a server under test.
type gateway struct {
	t        *testing.T
	server   *server.Server
	holder   runtime.Holder
	compiler *compile.Compiler
	log      *lines
	stop     context.CancelFunc
	done     chan error
}

// overEngines runs a test over each of what speaks HTTP/1.1: they are to be no different.
func overEngines(t *testing.T, test func(t *testing.T, e server.Engine)) {
	t.Helper()
	t.Parallel()
	for _, e := range []server.Engine{server.Keyward, server.NetHTTP} {
		t.Run(string(e), func(t *testing.T) { test(t, e) })
	}
}

func start(t *testing.T, e server.Engine, listeners ...server.Listener) *gateway {
	t.Helper()
	c := server.Config{Engine: e, Listeners: listeners}
	for _, l := range c.Listeners {
		if l.TLS {
			c.Certificates = certificates(t)
		}
	}
	return startWith(t, c)
}

// startWith starts a gateway with what c says, and the rest as in all tests.
func startWith(t *testing.T, c server.Config, responders ...*revocation.Cache) *gateway {
	t.Helper()
	sweeper := conn.NewSweeper()
	g := &gateway{t: t, log: &lines{got: make(chan struct{}, 100)}, done: make(chan error, 1)}
	log := slog.New(slog.DiscardHandler)
	deps := compile.Deps{Factories: policies.All(), Host: hostsvc.New(hostsvc.Config{}), Log: log, Group: "default"}
	if len(responders) > 0 {
		deps.Responders = responders[0]
	}
	g.compiler = compile.New(deps)
	if len(c.Listeners) == 0 {
		c.Listeners = []server.Listener{{Name: "http", Address: "127.0.0.1:0"}}
	}
	c.Runtime, c.Sweeper, c.Observers, c.DrainTimeout, c.Log = &g.holder, sweeper, []server.Observer{g.log}, 4*time.Second, log
	c.Upstreams = upstream.NewManager(upstream.Config{
		Sweeper: sweeper, Log: log, Registry: prometheus.NewRegistry(), Engine: string(cmp.Or(c.Engine, server.Keyward)),
	})
	var err error
	if g.server, err = server.Listen(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g.stop = cancel
	go func() { _ = sweeper.Run(t.Context()) }()
	go func() { g.done <- g.server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-g.done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return g
}

func (g *gateway) address(name string) string { return g.server.Addresses()[name] }

func (g *gateway) config(records ...statetest.Record) {
	g.t.Helper()
	rt, faults := g.compiler.Build(statetest.Set(g.t, records...), nil)
	if len(faults) > 0 {
		g.t.Fatalf("faults: %v", faults)
	}
	g.holder.Store(rt)
}

func record(kind, name string, m proto.Message) statetest.Record {
	return statetest.Record{Kind: kind, UID: kind + "-" + name, Name: name, Resource: m}
}

func settings(s *configv1.Settings) statetest.Record {
	if s.RequireHttps == nil {
		s.RequireHttps = new(false)
	}
	return record("settings", "settings", s)
}

func service(url string) *configv1.Service { return &configv1.Service{Name: "up", Url: url} }

func route() *configv1.Route { return &configv1.Route{Name: "r", Service: "up"} }

func binding(policyType string, cfg proto.Message) *configv1.Binding {
	a, err := anypb.New(cfg)
	if err != nil {
		panic(err)
	}
	return &configv1.Binding{Type: policyType, Config: a}
}

// simple configures one route to url.
func (g *gateway) simple(url string) {
	g.config(settings(&configv1.Settings{}), record("services", "up", service(url)), record("routes", "r", route()))
}

// echo answers with what it got.
func echo(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Upstream", "yes")
		w.Header().Set("Connection", "X-Secret-Hop")
		w.Header().Set("X-Secret-Hop", "1")
		fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
		_ = r.Header.Write(w)
		fmt.Fprintf(w, "\n%s", body)
	}))
	t.Cleanup(s.Close)
	return s
}

// raw sends bytes and returns what comes back until the connection ends or the time is over.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(c)
	return string(all)
}

func get(t *testing.T, address, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req, header...)
}

func do(t *testing.T, req *http.Request, header ...string) (*http.Response, string) {
	t.Helper()
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}
