package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	// A connection over which nothing came for pingAfter is asked for a sign of life, and given up after pingTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// How much an HTTP/2 upstream may send before it is passed on.
	streamWindow     = 512 << 10
	connectionWindow = 16 << 20
)

// netHTTP speaks HTTP/1.1 or HTTP/2 with net/http's transport.
type netHTTP struct{}

// try implements transporter.
func (netHTTP) try(c *call) *failure {
	s := newNetStream(c)
	if !c.resp.hold(s) {
		s.close()
		return c.gone()
	}
	resp, err := c.view.roundTripper().RoundTrip(s.request())
	s.headCame()
	if err != nil {
		f := s.failed(err)
		s.close()
		return f
	}
	s.resp = resp
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if f := s.switchOver(); f != nil {
			s.close()
			return f
		}
	}
	s.conclude()
	c.stream = s
	return nil
}

// roundTripper returns the service's transport. There is one for all its targets.
func (v *view) roundTripper() http.RoundTripper {
	s := v.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transport.of == nil || s.transport.pool != v.conf.Pool {
		s.transport.close()
		s.transport.of, s.transport.pool = s.newTransport(v.conf), v.conf.Pool
	}
	return s.transport.of
}

func (s *service) newTransport(conf *runtime.Service) *http.Transport {
	idle := conf.Pool.MaxIdle
	if idle == 0 {
		idle = -1 // for net/http 0 means a default and a negative number none
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(conf.Protocol == runtime.HTTP1)
	protocols.SetHTTP2(conf.Protocol == runtime.HTTP2 && conf.TLS != nil)
	protocols.SetUnencryptedHTTP2(conf.Protocol == runtime.HTTP2 && conf.TLS == nil)
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c, _, err := s.dial(ctx, address, host)
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

// netStream is an exchange by net/http's transport.
type netStream struct {
	call   *call
	ctx    context.Context //nolint:containedctx // of this one exchange
	cancel context.CancelCauseFunc
	total  *time.Timer
	up     limit // on what is sent, and on the time to the head
	down   limit // on what is received
	body   *netBody
	resp   *http.Response
	buf    *[pumpPiece]byte
	late   error // comes after the piece that was handed out with it
	broken bool
	trail  exchange.Headers

	mu      sync.Mutex
	socket  net.Conn // guarded by mu: nil before there is a connection
	wrote   bool     // guarded by mu: the head of the request
	came    bool     // guarded by mu: something of the answer
	settled bool     // guarded by mu: RoundTrip has returned
}

func newNetStream(c *call) *netStream {
	s := &netStream{call: c}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(c.ctx))
	s.up.end, s.down.end = s.cancel, s.cancel
	if c.ends != 0 {
		s.total = time.AfterFunc(c.within(0), func() { s.cancel(errTotal) })
	}
	s.up.start(c.opts.Connect, errConnect)
	return s
}

// Abort implements conn.Aborter.
func (s *netStream) Abort() { s.cancel(errAborted) }

// request writes down what is sent. The path goes out byte for byte as it was matched.
func (s *netStream) request() *http.Request {
	c, r := s.call, s.call.req
	u := &url.URL{Scheme: "http", Host: c.target.Address(), RawQuery: string(r.Query), ForceQuery: r.Query != nil && len(r.Query) == 0}
	if c.view.conf.TLS != nil {
		u.Scheme = "https"
	}
	if path := string(r.Path); strings.HasPrefix(path, "//") {
		// Opaque would make it an absolute form; this keeps it too, at the cost of decoding it.
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path)
	} else {
		u.Opaque = path
	}
	req := &http.Request{
		Method: string(r.Method), URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: s.header(), Host: string(c.view.appendHost(nil, r, c.target)), Body: http.NoBody,
	}
	if r.Body != nil {
		s.setBody(req)
	}
	return req.WithContext(httptrace.WithClientTrace(s.ctx, s.trace()))
}

func (s *netStream) header() http.Header {
	r := s.call.req
	h := make(http.Header, len(r.Header)+2)
	for _, f := range r.Header {
		if !ours(f.Name) {
			name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			h[name] = append(h[name], string(f.Value))
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // else net/http would name itself
	}
	switch http2 := s.call.view.conf.Protocol == runtime.HTTP2; {
	case http2:
		h["Te"] = []string{"trailers"} // gRPC asks for it, and it is true
	case len(r.Upgrade) > 0:
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{string(r.Upgrade)}
	}
	return h
}

func (s *netStream) trace() *httptrace.ClientTrace {
	locked := func(f func()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	}
	return &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			locked(func() { s.socket = i.Conn })
			s.up.start(s.call.opts.ResponseHead, errHead) // an HTTP/2 connection may have no place for another stream yet
			if i.Reused {
				s.call.view.stats.reused.Add(1)
			}
		},
		WroteHeaders: func() {
			locked(func() { s.wrote = true })
			if s.body == nil {
				s.up.start(s.call.opts.ResponseHead, errHead)
			}
		},
		GotFirstResponseByte: func() { locked(func() { s.came = true }) },
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			locked(func() { s.informational(status, h) })
			return nil
		},
	}
}

// informational passes an interim response on, as long as the call waits for the answer.
func (s *netStream) informational(status int, h textproto.MIMEHeader) {
	if s.settled || status == http.StatusContinue || status == http.StatusSwitchingProtocols || s.call.req.Informational == nil {
		return
	}
	fields := headers(http.Header(h))
	httpwire.DropHopByHop(&fields)
	s.call.req.Informational(status, fields)
}

// headCame ends the waiting for the head.
func (s *netStream) headCame() {
	s.mu.Lock()
	s.settled = true
	s.mu.Unlock()
	s.up.stopFor(errHead)
}

// failed says why there is no response.
func (s *netStream) failed(err error) *failure {
	c := s.call
	if s.body != nil {
		if own := s.body.failed(); own != nil {
			return fail(0, "request_body", own)
		}
	}
	if f := s.tooLate(); f != nil {
		return f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == nil {
		return c.unconnected(err)
	}
	f := fail(502, "upstream_closed", fmt.Errorf("read response head: %w", err))
	f.blame, f.unsent = true, !s.wrote && (s.body == nil || !s.body.touched())
	if !s.came {
		f.why = runtime.RetryReset
	} else if !closed(err) {
		f.Code = "upstream_protocol"
	}
	return f
}

// closed says whether the error is the end of a connection, not nonsense that came over it.
func closed(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

// tooLate says which time has passed, or that the exchange was aborted; nil if neither.
func (s *netStream) tooLate() *failure {
	var f *failure
	switch cause := context.Cause(s.ctx); {
	case s.call.resp.isAborted():
		return s.call.gone()
	case errors.Is(cause, errTotal):
		f = fail(504, "total_timeout", cause)
	case errors.Is(cause, errConnect):
		return unreached(504, "connect_timeout", cause)
	case errors.Is(cause, errIdle):
		f = fail(504, "idle_timeout", cause)
	case errors.Is(cause, errHead):
		f = fail(504, "upstream_timeout", cause)
		f.why = runtime.RetryTimeout
	default:
		return nil
	}
	f.blame = true
	return f
}

// limit ends an exchange that does not get on. Only one thing is waited for at a time.
type limit struct {
	end context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil before the first start
	cause error       // guarded by mu: of what is waited for; nil: nothing
}

// start ends the exchange with cause after d, unless stopped; 0: never.
func (l *limit) start(d time.Duration, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 {
		return
	}
	l.cause = cause
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.expire)
		return
	}
	l.timer.Reset(d)
}

func (l *limit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cause = nil
	if l.timer != nil {
		l.timer.Stop()
	}
}

// stopFor stops if that is what is waited for.
func (l *limit) stopFor(cause error) {
	l.mu.Lock()
	match := l.cause == cause //nolint:errorlint // one of ours, as it was given
	l.mu.Unlock()
	if match {
		l.stop()
	}
}

func (l *limit) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		l.end(l.cause)
	}
}
