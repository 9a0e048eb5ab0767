package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

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
	c.tunnel = conn.New(&netTunnel{Conn: s.socket, rwc: rwc}, c.m.sweeper)
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
	if s.late != nil || s.resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, s.end(s.late)
	}
	for {
		s.down.start(s.call.opts.Idle, errIdle)
		n, err := s.resp.Body.Read(s.buf[:])
		s.down.stop()
		if n > 0 {
			s.late = err
			return s.buf[:n], nil
		}
		if err != nil {
			s.late = err
			return nil, s.end(err)
		}
	}
}

// end says how the body ended.
func (s *netStream) end(err error) error {
	if err == nil || err == io.EOF && !s.truncated() { //nolint:errorlint // never wrapped
		return io.EOF
	}
	s.broken = true
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
	s.up.stop()
	s.down.stop()
	if s.total != nil {
		s.total.Stop()
	}
	s.call.resp.hold(nil)
	if s.resp != nil && (s.resp.StatusCode != http.StatusSwitchingProtocols || s.call.tunnel != nil) {
		s.resp.Body.Close()
	}
	s.cancel(errAborted)
	if s.body != nil {
		s.body.detach()
	}
	if s.buf != nil {
		s.call.m.buffers.Put(s.buf)
		s.buf = nil
	}
}

// setBody gives the request its body.
func (s *netStream) setBody(req *http.Request) {
	c := s.call
	s.body = &netBody{stream: s, body: c.req.Body, left: -1}
	s.body.idle.L = &s.body.mu
	if !c.chunked() {
		s.body.left = c.length()
	}
	if req.ContentLength = s.body.left; req.ContentLength == 0 {
		s.body = nil
		return // Body is NoBody
	}
	req.Body = &netReader{source: s.body}
	if c.isWhole {
		req.GetBody = func() (io.ReadCloser, error) { return &netReader{source: s.body}, nil }
	}
	if c.chunked() {
		req.Trailer = http.Header{} // filled at the end
		s.body.trailer = req.Trailer
	}
}

// netBody is the body of a request as net/http reads it, on goroutines of its own and perhaps for longer than the
// exchange. detach takes it away from them.
type netBody struct {
	stream  *netStream
	body    Body
	left    int64       // by length; -1: not known. Of the reading goroutine
	piece   []byte      // not read yet; of the reading goroutine
	trailer http.Header // of the reading goroutine, until the end

	mu       sync.Mutex
	idle     sync.Cond // signalled when nobody reads
	reading  bool      // guarded by mu
	started  bool      // guarded by mu
	detached bool      // guarded by mu
	eof      bool      // guarded by mu: all was read
	err      error     // guarded by mu: the body's own
}

// netReader reads a body from its beginning. Only a body that is in memory is read more than once.
type netReader struct {
	source *netBody
	offset int
}

var errDetached = errors.New("the exchange is over")

// Read implements io.Reader.
func (r *netReader) Read(p []byte) (int, error) {
	b := r.source
	b.mu.Lock()
	if b.detached || b.err != nil {
		b.mu.Unlock()
		return 0, errDetached
	}
	b.reading, b.started = true, true
	b.mu.Unlock()
	b.stream.up.stop()
	n, err := r.read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.idle.Broadcast()
	b.note(err)
	return n, err
}

// note says what is waited for now. b.mu is held.
func (b *netBody) note(err error) {
	opts := b.stream.call.opts
	switch {
	case b.detached:
	case err == nil:
		b.stream.up.start(opts.Idle, errIdle)
	case err == io.EOF: //nolint:errorlint // never wrapped
		b.eof = true
		b.stream.awaitHead()
	default:
		b.err = err
		b.stream.cancel(err)
	}
}

// awaitHead begins the time for the head, unless it is there.
func (s *netStream) awaitHead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		s.up.start(s.call.opts.ResponseHead, errHead)
	}
}

// read returns io.EOF with the last piece of a body by length, so that it is known at once that all was read.
func (r *netReader) read(p []byte) (int, error) {
	b := r.source
	if b.stream.call.isWhole {
		return r.readWhole(p)
	}
	if len(b.piece) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.piece)
	if b.piece = b.piece[n:]; b.left == 0 && len(b.piece) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (r *netReader) readWhole(p []byte) (int, error) {
	whole := r.source.stream.call.whole
	n := copy(p, whole[r.offset:])
	if r.offset += n; r.offset < len(whole) {
		return n, nil
	}
	r.source.addTrailer()
	return n, io.EOF
}

func (b *netBody) next() error {
	piece, err := b.body.Next()
	switch {
	case err == io.EOF && b.left < 0: //nolint:errorlint // never wrapped
		b.addTrailer()
		return io.EOF
	case err == io.EOF: //nolint:errorlint // never wrapped
		return errLength
	case err != nil:
		return err
	case b.left >= 0 && int64(len(piece)) > b.left:
		return fmt.Errorf("the body is longer than announced by %d bytes", int64(len(piece))-b.left)
	case b.left >= 0:
		b.left -= int64(len(piece))
	}
	b.piece = piece
	return nil
}

func (b *netBody) addTrailer() {
	if b.trailer == nil {
		return
	}
	for _, f := range b.body.Trailer() {
		if httpwire.ValidTrailerName(f.Name) {
			b.trailer.Add(string(f.Name), string(f.Value))
		}
	}
}

// Close implements io.Closer. The body is not ours to close.
func (r *netReader) Close() error { return nil }

// failed returns the error of the body itself, if there was one.
func (b *netBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *netBody) touched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.started
}

func (b *netBody) sent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof
}

// detach returns when nobody reads the body any more, nor will.
func (b *netBody) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.detached = true
	if b.started && !b.eof && !b.stream.call.isWhole {
		b.body.Abort()
	}
	for b.reading {
		b.idle.Wait()
	}
}
