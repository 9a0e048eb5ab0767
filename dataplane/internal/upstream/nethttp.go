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
	s.transport = c.view.enter()
	resp, err := s.transport.of.RoundTrip(s.request()) //nolint:bodyclose // close of the stream does it
	s.headCame()
	if err != nil {
		f := s.failed(err)
		s.close()
		return f
	}
	s.resp = resp
	if resp.StatusCode < 101 || resp.StatusCode > 599 { // net/http takes any number
		f := fail(502, "upstream_protocol", errStatus)
		f.blame = true
		s.close()
		return f
	}
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

// netStream is an exchange by net/http's transport, which may go on with it on goroutines of its own when the call has
// ended already: those use nothing of the call.
type netStream struct {
	call      *call
	transport *transport // nil before it is tried
	opts      *runtime.CallOptions
	stats     *stats
	ctx       context.Context //nolint:containedctx // of this one exchange
	cancel    context.CancelCauseFunc
	all       limit    // on everything
	up        limit    // on what is sent, and on the time to the head
	down      limit    // on what is received
	body      *netBody // nil without one
	resp      *http.Response
	buf       *[pumpPiece]byte
	late      error // comes after the piece that was handed out with it
	trail     exchange.Headers

	switched bool // the connection is a tunnel now

	mu      sync.Mutex
	socket  net.Conn // guarded by mu: nil before there is a connection
	wrote   bool     // guarded by mu: the head of the request
	came    bool     // guarded by mu: something of the answer
	settled bool     // guarded by mu: RoundTrip has returned
	interim int      // guarded by mu: bytes of interim responses
}

func newNetStream(c *call) *netStream {
	s := &netStream{call: c, opts: c.opts, stats: &c.view.stats}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(c.ctx))
	s.body = newNetBody(s)
	s.all.stream, s.up.stream, s.down.stream = s, s, s
	s.all.start(c.within(0), errTotal)
	s.up.start(c.opts.Connect, errConnect)
	return s
}

// Abort implements conn.Aborter.
func (s *netStream) Abort() { s.end(errAborted) }

// end ends the exchange. The transport waits for a Read of the body that it has begun.
func (s *netStream) end(cause error) {
	s.cancel(cause)
	if s.body != nil {
		s.body.abort()
	}
}

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
	if s.body != nil {
		s.body.giveTo(req)
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
	delete(h, "Trailer") // net/http announces those of the body
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
			s.up.stop(errConnect)
			locked(func() { s.socket = i.Conn })
			s.awaitHead() // an HTTP/2 connection may have no place for another stream yet
			if i.Reused {
				s.stats.reused.Add(1)
			}
		},
		WroteHeaders: func() {
			locked(func() { s.wrote = true })
			if s.body == nil {
				s.awaitHead()
			}
		},
		GotFirstResponseByte: func() { locked(func() { s.came = true }) },
		Got1xxResponse: func(status int, h textproto.MIMEHeader) (err error) {
			locked(func() { err = s.informational(status, h) })
			return err
		},
	}
}

// informational passes an interim response on, as long as the call waits for the answer.
func (s *netStream) informational(status int, h textproto.MIMEHeader) error {
	fields := headers(http.Header(h))
	s.interim += len("HTTP/1.1 100 \r\n\r\n")
	for _, f := range fields {
		s.interim += len(f.Name) + len(": \r\n") + len(f.Value)
	}
	if s.interim > maxResponseHead {
		return httpwire.ErrHeadLong
	}
	if s.settled || status == http.StatusContinue || status == http.StatusSwitchingProtocols || s.call.req.Informational == nil {
		return nil
	}
	httpwire.DropHopByHop(&fields)
	s.call.req.Informational(status, fields)
	return nil
}

// headCame ends the waiting for the head.
func (s *netStream) headCame() {
	s.mu.Lock()
	s.settled = true
	s.mu.Unlock()
	s.up.stop(errHead)
}

// failed says why there is no response.
func (s *netStream) failed(err error) *failure {
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
		return unconnected(err)
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
	stream *netStream

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil before the first start
	cause error       // guarded by mu: of what is waited for; nil: nothing
	over  bool        // guarded by mu: nothing will be waited for any more
}

// start ends the exchange with cause after d, unless stopped; 0: never.
func (l *limit) start(d time.Duration, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 || l.over {
		return
	}
	l.cause = cause
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.expire)
		return
	}
	l.timer.Reset(d)
}

// stop ends the waiting, if it is for that; nil: for anything.
func (l *limit) stop(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil && (cause == nil || l.cause == cause) { //nolint:errorlint // one of ours, as it was given
		l.cause = nil
		l.timer.Stop()
	}
}

// close ends the waiting for good. When it returns the exchange is not ended by it any more.
func (l *limit) close() {
	l.stop(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

func (l *limit) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		l.stream.end(l.cause)
	}
}
