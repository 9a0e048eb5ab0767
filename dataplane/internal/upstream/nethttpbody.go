package upstream

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// switchOver makes the connection a tunnel.
func (s *netStream) switchOver() *failure {
	c := s.call
	rwc, ok := s.resp.Body.(io.ReadWriteCloser)
	if !ok || len(c.req.Upgrade) == 0 || !exchange.EqualFold([]byte(s.resp.Header.Get("Upgrade")), string(c.req.Upgrade)) || !s.sent() {
		f := fail(502, "upstream_protocol", errSwitched)
		f.blame = true
		return f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.tunnel, s.switched = conn.New(&netTunnel{Conn: s.socket, rwc: rwc}, c.m.sweeper), true
	return nil
}

// netTunnel is a connection that net/http has let go of, with what it had read ahead.
type netTunnel struct {
	net.Conn
	rwc io.ReadWriteCloser
}

func (t *netTunnel) Read(p []byte) (int, error)  { return t.rwc.Read(p) }
func (t *netTunnel) Write(p []byte) (int, error) { return t.rwc.Write(p) }
func (t *netTunnel) Close() error                { return t.rwc.Close() }

// CloseWrite ends what is sent, where the connection can.
func (t *netTunnel) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// conclude makes the response.
func (s *netStream) conclude() {
	r := s.call.resp
	r.Status, r.ContentLength, r.Header = s.resp.StatusCode, s.resp.ContentLength, headers(s.resp.Header)
	for _, name := range slices.Sorted(maps.Keys(s.resp.Trailer)) { // net/http took the announcement from the fields
		r.Header = append(r.Header, exchange.Field("Trailer", name))
	}
	httpwire.DropHopByHop(&r.Header)
	s.buf, _ = s.call.m.buffers.Get().(*[pumpPiece]byte)
}

func headers(h http.Header) exchange.Headers {
	out := make(exchange.Headers, 0, len(h))
	for name, values := range h {
		for _, v := range values {
			out = append(out, exchange.Header{Name: []byte(name), Value: []byte(v)})
		}
	}
	return out
}

// next implements stream.
func (s *netStream) next() ([]byte, error) {
	if s.late != nil || s.switched {
		return nil, s.ending(s.late)
	}
	for {
		s.down.start(s.opts.Idle, errIdle)
		n, err := s.resp.Body.Read(s.buf[:])
		s.down.stop(nil)
		if n > 0 {
			s.late = err
			return s.buf[:n], nil
		}
		if err != nil {
			s.late = err
			return nil, s.ending(err)
		}
	}
}

// ending says how the body ended.
func (s *netStream) ending(err error) error {
	if err == nil || err == io.EOF && !s.truncated() { //nolint:errorlint // never wrapped
		return io.EOF
	}
	if s.body != nil {
		if own := s.body.failed(); own != nil {
			return &fail(0, "request_body", own).Error
		}
	}
	if f := s.tooLate(); f != nil {
		return &f.Error
	}
	if err == io.EOF { //nolint:errorlint // never wrapped
		err = errTruncated
	}
	return &Error{Status: 502, Code: "upstream_aborted", Err: fmt.Errorf("read response body: %w", err)}
}

// truncated says whether a body without any other end ended with a connection of which TLS did not say that it ends.
func (s *netStream) truncated() bool {
	if s.resp.ProtoMajor != 1 || s.resp.ContentLength >= 0 || len(s.resp.TransferEncoding) > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	over, ok := s.socket.(interface{ NetConn() net.Conn })
	if !ok {
		return false
	}
	below, ok := over.NetConn().(*socket)
	return ok && below.ended
}

// trailer implements stream.
func (s *netStream) trailer() exchange.Headers {
	if s.trail == nil && s.resp != nil {
		s.trail = headers(s.resp.Trailer)
	}
	return s.trail
}

// sent implements stream.
func (s *netStream) sent() bool { return s.body == nil || s.body.sent() }

// spare implements stream.
func (s *netStream) spare() bool {
	return s.resp.Body == http.NoBody || s.resp.ContentLength >= 0 && s.resp.ContentLength <= spareBytes
}

// close implements stream.
func (s *netStream) close() {
	s.call.resp.hold(nil)
	s.all.close()
	s.up.close()
	s.down.close()
	switch {
	case s.call.tunnel != nil:
		_ = s.call.tunnel.Close() // nobody has taken it
	case s.resp != nil && !s.switched:
		s.resp.Body.Close()
	}
	s.end(errAborted)
	s.transport.leave()
	if s.body != nil {
		s.body.detach()
	}
	if s.buf != nil {
		s.call.m.buffers.Put(s.buf)
		s.buf = nil
	}
}
