// Package server takes requests from the network, runs each through the runtime's chain and forwards it. It owns the
// listeners, the limits on what clients may send, the trust in proxies, and the draining of connections. It knows no
// policy and no configuration format; what it may do with a request is all in the runtime it loads once per request.
//
// The wire is net/http's here, for HTTP/1.1 and HTTP/2 alike; adaptor.go is the only place that reads its requests, and
// strict.go refuses HTTP/1.1 messages that it would repair.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/certfile"
	"keyward.dev/shared/run"
)

const (
	// maxHeadBytes is what the wire accepts at most; settings bound it further.
	maxHeadBytes      = 1 << 20
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 75 * time.Second
	// writeTimeout bounds how long a client may take no bytes at all. A deadline is set before each write and never taken
	// back: the wire flushes what is left after the exchange.
	writeTimeout = 30 * time.Second
	// lingerTimeout bounds how long the wire waits for what is left of a body that nobody wants.
	lingerTimeout = 5 * time.Second
	// quietPeriod without a request ends the first part of a drain, in which connections are told to go elsewhere.
	quietPeriod = 500 * time.Millisecond
)

// Listener is an address to serve. TLS says whether it speaks HTTPS.
type Listener struct {
	Name, Address string
	TLS           bool
}

// ParseListener reads "name=address". The name says the protocol: http or https, also with a suffix as in https-internal.
func ParseListener(s string) (Listener, error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok || address == "" {
		return Listener{}, fmt.Errorf("listener %q is not name=address", s)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return Listener{}, fmt.Errorf("listener %s: address is not host:port: %w", name, err)
	}
	switch protocol, _, _ := strings.Cut(name, "-"); protocol {
	case "http":
		return Listener{Name: name, Address: address}, nil
	case "https":
		return Listener{Name: name, Address: address, TLS: true}, nil
	}
	return Listener{}, fmt.Errorf("listener %s: name begins neither with http nor with https", name)
}

// Observer is told of every exchange at its end. It must not block, nor keep the exchange.
type Observer interface {
	Observe(x *exchange.Exchange, o accesslog.Outcome)
}

// Config is what a server is made from.
type Config struct {
	Listeners    []Listener
	Certificates *certfile.Certificate // needed for TLS listeners
	Runtime      *runtime.Holder
	Upstreams    *upstream.Manager
	Observers    []Observer
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// Server serves a gateway's listeners.
type Server struct {
	config   Config
	refusals *refusals
	bound    []bound
	draining atomic.Bool
	active   atomic.Int64 // exchanges under way
	last     atomic.Int64 // when the last one began, in Unix nanoseconds
	calls    sync.Pool
}

type bound struct {
	Listener
	ln   *strictListener
	http *http.Server
}

// Listen binds every listener. Until Run, connections wait.
func Listen(ctx context.Context, c Config) (*Server, error) {
	s := &Server{config: c, refusals: newRefusals()}
	s.calls.New = func() any { return &call{server: s} }
	for _, l := range c.Listeners {
		b, err := s.bind(ctx, l)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		s.bound = append(s.bound, b)
	}
	return s, nil
}

func (s *Server) bind(ctx context.Context, l Listener) (bound, error) {
	if l.TLS && s.config.Certificates == nil {
		return bound{}, errors.New("a TLS listener needs a certificate")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", l.Address)
	if err != nil {
		return bound{}, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(l.TLS)
	h := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, l.TLS) }),
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true,
	}
	if l.TLS {
		h.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: s.config.Certificates.Get, NextProtos: []string{"h2", "http/1.1"},
		}
	}
	return bound{Listener: l, ln: newStrictListener(ln, h.TLSConfig), http: h}, nil
}

// Addresses returns the bound address of every listener by its name.
func (s *Server) Addresses() map[string]string {
	out := map[string]string{}
	for _, b := range s.bound {
		out[b.Name] = b.ln.Addr().String()
	}
	return out
}

// Draining reports whether the server is going away.
func (s *Server) Draining() bool { return s.draining.Load() }

// Active returns how many exchanges are under way.
func (s *Server) Active() int64 { return s.active.Load() }

func (s *Server) close() {
	for _, b := range s.bound {
		_ = b.ln.Close()
	}
}

// Run serves until ctx ends, and then until every exchange has ended or the drain timeout is over.
func (s *Server) Run(ctx context.Context) error {
	tasks := []run.Task{s.drain}
	for _, b := range s.bound {
		tasks = append(tasks, b.ln.Run, func(ctx context.Context) error {
			s.config.Log.InfoContext(ctx, "listening", "listener", b.Name, "address", b.ln.Addr().String())
			err := b.http.Serve(b.ln)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", b.Name, err)
		})
	}
	if err := run.Group(ctx, tasks...); err != nil {
		return fmt.Errorf("serve requests: %w", err)
	}
	return nil
}

// drain waits for ctx to end. Then it serves on for a while with every answer announcing the end of its connection, until
// no request has come for a quiet period, at most half of the drain timeout; and then it closes listeners and idle
// connections and waits for what is under way.
func (s *Server) drain(ctx context.Context) error {
	<-ctx.Done()
	s.draining.Store(true)
	s.config.Log.InfoContext(ctx, "draining", "active", s.active.Load())
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	s.awaitQuiet(end)
	var tasks []run.Task
	for _, b := range s.bound {
		tasks = append(tasks, func(ctx context.Context) error {
			if err := b.http.Shutdown(end); err != nil {
				s.config.Log.WarnContext(ctx, "drain timeout, connections are cut", "listener", b.Name, "active", s.active.Load())
				return b.http.Close()
			}
			return nil
		})
	}
	return run.Group(end, tasks...)
}

func (s *Server) awaitQuiet(end context.Context) {
	quiet := min(quietPeriod, s.config.DrainTimeout/4)
	latest, cancel := context.WithTimeout(end, s.config.DrainTimeout/2)
	defer cancel()
	began := time.Now()
	for {
		lastRequest := time.Unix(0, s.last.Load())
		if lastRequest.Before(began) {
			lastRequest = began
		}
		left := quiet - time.Since(lastRequest)
		if left <= 0 {
			return
		}
		t := time.NewTimer(left)
		select {
		case <-latest.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// serve gives an exchange to a request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, tls bool) {
	s.active.Add(1)
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = &call{server: s}
	}
	defer func() {
		s.active.Add(-1)
		v := recover()
		abort := c.end(v)
		c.reset()
		s.calls.Put(c)
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	c.tls = tls
	c.begin(w, r)
	s.last.Store(c.x.Timings.Received.UnixNano())
	c.run(r.Context())
}
