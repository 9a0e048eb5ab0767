// Package upstream forwards requests to the targets of services over kept-alive connections. Connections belong to a
// service and survive configuration changes that do not change it. It decides nothing about who may call; it gives each
// request at most one try, but for one repetition on a kept-alive connection that turned out to be closed. Called by the
// server.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	// maxResponseHead bounds what an upstream can make a gateway hold for one response head.
	maxResponseHead = 256 << 10
	sweepEvery      = time.Minute
	// unusedAfter is when connections of a service that nobody called for are given up.
	unusedAfter = 10 * time.Minute
)

// Manager keeps the connections of all services.
type Manager struct {
	now func() time.Time

	mu    sync.RWMutex
	pools map[poolKey]*pool // guarded by mu
}

// poolKey is equal for what may share connections: the same service, dialled under the same rules.
type poolKey struct{ service, egress string }

type pool struct {
	transport *http.Transport
	used      atomic.Int64 // Unix seconds of the last call
}

// NewManager returns a manager without connections.
func NewManager() *Manager {
	return &Manager{now: time.Now, pools: map[poolKey]*pool{}}
}

// Run gives up connections of services that are gone, until ctx ends; then it closes all that are idle.
func (m *Manager) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			m.sweep(time.Time{})
			return nil
		case now := <-t.C:
			m.sweep(now.Add(-unusedAfter))
		}
	}
}

// sweep forgets pools that were not used since the given time; the zero time means all.
func (m *Manager) sweep(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, p := range m.pools {
		if since.IsZero() || p.used.Load() < since.Unix() {
			delete(m.pools, k)
			p.transport.CloseIdleConnections()
		}
	}
}

func (m *Manager) pool(s *runtime.Service, g *runtime.Settings) *pool {
	k := poolKey{s.Key, g.EgressKey}
	m.mu.RLock()
	p := m.pools[k]
	m.mu.RUnlock()
	if p == nil {
		m.mu.Lock()
		if p = m.pools[k]; p == nil {
			p = &pool{transport: newTransport(s, g)}
			m.pools[k] = p
		}
		m.mu.Unlock()
	}
	p.used.Store(m.now().Unix())
	return p
}

func newTransport(s *runtime.Service, g *runtime.Settings) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	idle := s.MaxIdle
	if idle == 0 {
		idle = -1 // for net/http 0 means a default and a negative number none
	}
	return &http.Transport{
		DialContext:            hostsvc.NewDialer(g.Egress, s.Connect).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    s.Connect,
		ResponseHeaderTimeout:  s.ResponseHead,
		MaxIdleConnsPerHost:    idle,
		MaxConnsPerHost:        s.MaxConns,
		IdleConnTimeout:        s.IdleTimeout,
		MaxResponseHeaderBytes: maxResponseHead,
		DisableCompression:     true, // what the upstream sends is what the client gets
		Protocols:              protocols,
	}
}

// Call is a request to be forwarded.
type Call struct {
	Service  *runtime.Service
	Settings *runtime.Settings
	Method   string
	Path     string // as it is to be sent
	Query    []byte // nil: none
	Header   http.Header
	// ClientHost is the Host the client sent.
	ClientHost string
	// Body is nil without one. It is read until it ends or the call does.
	Body          io.Reader
	ContentLength int64 // -1 if unknown
}

// Error says why there is no response.
type Error struct {
	Status int    // to be answered: 502, 503 or 504; 0 if the client is gone
	Code   string // stable word for the log
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("call upstream: %s: %v", e.Code, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Causes of a call's end by time.
var (
	errConnect = errors.New("no connection in time")
	errIdle    = errors.New("nothing moved for too long")
	errTotal   = errors.New("the whole exchange took too long")
)

// Do forwards the call. The caller reads the response's body to its end or closes it; Close ends the call.
func (m *Manager) Do(ctx context.Context, c *Call) (*http.Response, error) {
	target, ok := pick(c.Service)
	if !ok {
		return nil, &Error{Status: 503, Code: "no_target", Err: errors.New("no target takes requests")}
	}
	client := ctx
	ctx, w := newWatch(ctx, c.Service)
	req := newRequest(ctx, c, target, w)
	w.start(c.Service.Connect, errConnect)
	resp, err := m.pool(c.Service, c.Settings).transport.RoundTrip(req)
	if err != nil {
		cause := context.Cause(ctx)
		w.end()
		return nil, classify(client, err, cause)
	}
	w.stop()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close()
		w.end()
		return nil, &Error{Status: 502, Code: "upstream_protocol", Err: errors.New("switched protocols without being asked")}
	}
	resp.Body = &responseBody{body: resp.Body, watch: w, idle: c.Service.Idle}
	return resp, nil
}

// classify says what a failed call is to the client.
func classify(client context.Context, err, cause error) *Error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(cause, errConnect):
		return &Error{Status: 504, Code: "connect_timeout", Err: cause}
	case errors.Is(cause, errIdle):
		return &Error{Status: 504, Code: "idle_timeout", Err: cause}
	case errors.Is(cause, errTotal):
		return &Error{Status: 504, Code: "total_timeout", Err: cause}
	case client.Err() != nil:
		return &Error{Code: "client_gone", Err: err}
	case errors.Is(err, hostsvc.ErrDenied):
		return &Error{Status: 502, Code: "egress_denied", Err: err}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Status: 504, Code: "upstream_timeout", Err: err}
	}
	return &Error{Status: 502, Code: "upstream_unreachable", Err: err}
}

// pick chooses a target by weight.
func pick(s *runtime.Service) (string, bool) {
	if s.Weight <= 0 {
		return "", false
	}
	if len(s.Targets) == 1 {
		return s.Targets[0].Address, true
	}
	n := rand.IntN(s.Weight)
	for _, t := range s.Targets {
		if n -= t.Weight; n < 0 {
			return t.Address, true
		}
	}
	return "", false
}
