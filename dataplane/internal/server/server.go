// Package server takes requests from the network, runs each through the runtime's chain and forwards it. It owns the
// listeners, the limits on what clients may send, the trust in proxies, and the draining of connections. It knows no
// policy and no configuration format; what it may do with a request is all in the runtime it loads once per request.
//
// HTTP/1.1 is our own (h1.go, h1wire.go), one goroutine for each connection; HTTP/2 is net/http's, behind adaptor.go. Both
// are wires (wire.go) under the same way of a request (call.go, forward.go). With Engine NetHTTP, net/http reads HTTP/1.1
// too, behind strict.go, which refuses what it would repair.
package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/accesslog"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/sockets"
	"keyward.dev/dataplane/internal/upstream"
	"keyward.dev/shared/certfile"
	"keyward.dev/shared/run"
)

const (
	// maxHeadBytes is what the wire accepts at most; settings bound it further.
	maxHeadBytes = 1 << 20
	// quietPeriod without a request ends the first part of a drain, in which connections are told to go elsewhere.
	quietPeriod = 500 * time.Millisecond
	// defaultBodyMemory is for bodies that are read ahead.
	defaultBodyMemory = 256 << 20
)

// Listener is an address to serve. TLS says whether it speaks HTTPS.
type Listener struct {
	Name, Address string
	TLS           bool
}

// ParseListener reads "name=address", where the address is host:port, or fd:socket for a socket that is handed over. The name says the protocol: http or https, also with a suffix as in https-internal.
func ParseListener(s string) (Listener, error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok || address == "" {
		return Listener{}, fmt.Errorf("listener %q is not name=address", s)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return Listener{}, fmt.Errorf("listener %s: address is neither host:port nor fd:socket: %w", name, err)
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

// Engine reads HTTP/1.1.
type Engine string

// Engines.
const (
	Keyward Engine = "keyward"
	NetHTTP Engine = "net/http"
)

// Timeouts bound how long clients may take. 0 means the default.
type Timeouts struct {
	// Head bounds the wait for a request's head, and for the first one of a connection. 10s.
	Head time.Duration
	// Idle is how long a connection without a request is kept. 75s.
	Idle time.Duration
	// Write is how long a client may take none of what is sent. 30s.
	Write time.Duration
	// Linger bounds the wait for what is left of a body that nobody wants. 5s.
	Linger time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Head: cmp.Or(t.Head, 10*time.Second), Idle: cmp.Or(t.Idle, 75*time.Second),
		Write: cmp.Or(t.Write, 30*time.Second), Linger: cmp.Or(t.Linger, 5*time.Second),
	}
}

// Config is what a server is made from.
type Config struct {
	Listeners    []Listener
	Certificates *certfile.Certificate // shown over TLS where the runtime has none; nil: none
	Runtime      *runtime.Holder
	Upstreams    *upstream.Manager
	Sweeper      *conn.Sweeper
	Observers    []Observer
	DrainTimeout time.Duration
	Timeouts     Timeouts
	Engine       Engine // empty: Keyward
	// Sockets listens; nil: on addresses only.
	Sockets *sockets.Sockets
	// Loaded is closed when there is a configuration to serve with. Sockets that others may have too are not touched before.
	Loaded <-chan struct{}
	// MaxConns bounds the clients' connections whatever the settings say, e.g. by how many files may be open; 0: not.
	MaxConns int
	// BodyMemory bounds the bytes of all request bodies that are held at once because policies need them whole. 0: 256 MiB.
	BodyMemory int64
	Log        *slog.Logger
}

// Server serves a gateway's listeners.
type Server struct {
	config   Config
	refusals *refusals
	goOn     []byte // 100 Continue
	bound    []*bound
	date     dateClock
	streams  streams
	conns    connections
	caps     caps
	shake    *handshakes
	calls    sync.Pool
	bodies   bodyMemory

	draining atomic.Bool  // responses announce the end of their connection
	closing  atomic.Bool  // connections without a request end
	active   atomic.Int64 // exchanges under way
	last     atomic.Int64 // when the last one began, in Unix nanoseconds
}

// Listen binds every listener. Until Run, connections wait.
func Listen(ctx context.Context, c Config) (*Server, error) {
	c.Timeouts = c.Timeouts.withDefaults()
	if c.Sockets == nil {
		c.Sockets = &sockets.Sockets{}
	}
	s := &Server{config: c, refusals: newRefusals(), goOn: []byte("HTTP/1.1 100 Continue\r\n\r\n")}
	s.bodies.limit = cmp.Or(c.BodyMemory, defaultBodyMemory)
	s.calls.New = func() any { return newCall(s) }
	s.shake = newHandshakes(c.Runtime, c.Certificates)
	for _, l := range c.Listeners {
		b, err := s.bind(ctx, l)
		if err != nil {
			s.close((*bound).isAny)
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		s.bound = append(s.bound, b)
	}
	return s, nil
}

func (s *Server) take() *call {
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = newCall(s)
	}
	return c
}

func (s *Server) give(c *call) {
	s.streams.remove(c)
	c.reset()
	s.calls.Put(c)
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

func (s *Server) close(which func(*bound) bool) {
	for _, b := range s.bound {
		if which(b) {
			_ = b.ln.Close()
		}
	}
}

func (b *bound) isAny() bool    { return true }
func (b *bound) isShared() bool { return b.shared }

// Stats are the server's connections.
type Stats struct {
	Open, Handshakes int64
	// Refused were closed at once because there were too many.
	Refused uint64
	// BodyBytes is the memory of request bodies that are held because policies need them whole.
	BodyBytes int64
}

// Stats returns how things are now.
func (s *Server) Stats() Stats {
	return Stats{
		Open: s.caps.open.Load(), Handshakes: s.caps.handshakes.Load(), Refused: s.caps.refused.Load(),
		BodyBytes: s.bodies.used.Load(),
	}
}

// HandshakeFailures returns how many TLS handshakes have failed, by reason.
func (s *Server) HandshakeFailures() map[string]uint64 { return s.shake.failures() }

// Run serves until ctx ends, and then until every exchange has ended or the drain timeout is over.
func (s *Server) Run(ctx context.Context) error {
	around, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	tasks := []run.Task{
		func(ctx context.Context) error { return s.streams.run(ctx, s.config.Runtime) },
		func(inner context.Context) error {
			defer end()
			return s.drain(ctx, inner)
		},
	}
	for _, b := range s.bound {
		s.config.Log.InfoContext(ctx, "listening", "listener", b.Name, "address", b.ln.Addr().String())
		tasks = append(tasks, b.accept, b.serveHTTP)
	}
	if err := run.Group(around, tasks...); err != nil {
		return fmt.Errorf("serve requests: %w", err)
	}
	return nil
}

// drain waits for ctx to end, or around, because something has failed. Then it serves on for a while with every answer
// announcing the end of its connection, until no request has come for a quiet period, at most half of the drain timeout;
// and then it closes listeners and idle connections and waits for what is under way.
func (s *Server) drain(ctx, around context.Context) error {
	select {
	case <-ctx.Done():
	case <-around.Done():
	}
	s.draining.Store(true)
	s.config.Log.InfoContext(ctx, "draining", "active", s.active.Load())
	s.close((*bound).isShared) // another gateway has what comes there, or it waits for the next
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainTimeout)
	defer cancel()
	s.awaitQuiet(end)
	s.closing.Store(true)
	s.close((*bound).isAny)
	tasks := []run.Task{func(context.Context) error {
		s.conns.drain(end)
		return nil
	}}
	for _, b := range s.bound {
		tasks = append(tasks, func(ctx context.Context) error {
			if err := b.http.Shutdown(end); err != nil {
				s.config.Log.WarnContext(ctx, "drain timeout, connections are cut", "listener", b.Name, "active", s.active.Load())
				return b.http.Close()
			}
			return nil
		})
	}
	return run.Group(context.WithoutCancel(end), tasks...)
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
