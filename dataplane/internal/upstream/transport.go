package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"keyward.dev/dataplane/internal/runtime"
)

// transport is net/http's, for one way to configure it.
type transport struct {
	of      *http.Transport
	pool    runtime.Pool
	view    *view              // that used it last; guarded by the service's mu
	targets map[string]*target // by address; guarded by the service's mu
	calls   atomic.Int64       // under way
	spent   atomic.Bool        // it gets no more of them
}

// close has connections end when their exchanges have.
func (t *transport) close() {
	if t != nil {
		t.spent.Store(true)
		t.of.CloseIdleConnections()
	}
}

// leave ends a call. net/http itself would leave the connections of HTTP/2 that were in use at close to their idle timeout.
func (t *transport) leave() {
	if t != nil && t.calls.Add(-1) == 0 && t.spent.Load() {
		t.of.CloseIdleConnections()
	}
}

// suits says whether the view can use it: it shares connections by address alone. It takes up what is new.
func (t *transport) suits(v *view) bool {
	if t == nil || t.pool != v.conf.Pool {
		return false
	}
	if t.view == v {
		return true
	}
	for _, one := range v.targets {
		if known := t.targets[one.Address()]; known != nil && known != one {
			return false
		}
	}
	t.take(v)
	return true
}

func (t *transport) take(v *view) {
	t.view = v
	for _, one := range v.targets {
		t.targets[one.Address()] = one
	}
}

// enter begins a call with the service's transport, which ends with leave. There is one for all its targets.
func (v *view) enter() *transport {
	s := v.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.transport.suits(v) {
		s.transport.close()
		t := &transport{pool: v.conf.Pool, targets: map[string]*target{}}
		t.of = s.newTransport(v.conf, func(address string) *target {
			s.mu.Lock()
			defer s.mu.Unlock()
			return t.targets[address]
		})
		t.take(v)
		s.transport = t
	}
	s.transport.calls.Add(1)
	return s.transport
}

// newTransport returns a transport that dials what find finds, and nothing else.
func (s *service) newTransport(conf *runtime.Service, find func(address string) *target) *http.Transport {
	idle := conf.Pool.MaxIdle
	if idle == 0 {
		idle = -1 // for net/http 0 means a default and a negative number none
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(conf.Protocol == runtime.HTTP1)
	protocols.SetHTTP2(conf.Protocol == runtime.HTTP2 && conf.TLS != nil)
	protocols.SetUnencryptedHTTP2(conf.Protocol == runtime.HTTP2 && conf.TLS == nil)
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		t := find(address)
		if t == nil {
			return nil, fmt.Errorf("dial upstream: %s is none of the service's targets", address)
		}
		c, _, err := s.dial(ctx, t)
		return c, err
	}
	return &http.Transport{
		DialContext: dial, DialTLSContext: dial, MaxIdleConnsPerHost: idle, MaxConnsPerHost: conf.Pool.MaxConns,
		IdleConnTimeout: conf.Pool.IdleTimeout, MaxResponseHeaderBytes: maxResponseHead, Protocols: protocols,
		DisableCompression: true, // what the upstream sends is what the client gets
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connectionWindow,
		},
	}
}
