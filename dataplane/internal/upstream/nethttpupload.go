package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"sync"

	"keyward.dev/dataplane/internal/httpwire"
)

var errDetached = errors.New("the exchange is over")

// netBody is the body of a request as net/http reads it, on goroutines of its own and perhaps for longer than the
// exchange. detach takes it away from them.
type netBody struct {
	stream  *netStream
	body    Body
	whole   []byte // if isWhole
	isWhole bool
	chunked bool

	left    int64       // by length, else -1; of the reading goroutine
	piece   []byte      // not read yet; of the reading goroutine
	trailer http.Header // of the reading goroutine, until the end

	mu       sync.Mutex
	idle     sync.Cond // signalled when nobody reads
	started  bool      // guarded by mu: somebody has begun to read
	reading  bool      // guarded by mu
	detached bool      // guarded by mu
	eof      bool      // guarded by mu: all was read
	err      error     // guarded by mu: the body's own
}

// newNetBody returns nil if there is nothing to be sent.
func newNetBody(s *netStream) *netBody {
	c := s.call
	if c.req.Body == nil || !c.chunked() && c.length() == 0 {
		return nil
	}
	b := &netBody{stream: s, body: c.req.Body, whole: c.whole, isWhole: c.isWhole, chunked: c.chunked(), left: -1}
	b.idle.L = &b.mu
	if !b.chunked {
		b.left = c.length()
	}
	return b
}

// giveTo makes it the body of a request.
func (b *netBody) giveTo(req *http.Request) {
	req.ContentLength, req.Body = b.left, &netReader{source: b}
	if b.isWhole {
		req.GetBody = func() (io.ReadCloser, error) { return &netReader{source: b}, nil }
	}
	if b.chunked {
		req.Trailer = b.announced() // filled at the end
		b.trailer = req.Trailer
	}
}

// announced are the trailers that the request announces, without values.
func (b *netBody) announced() http.Header {
	h := http.Header{}
	for v := range b.stream.call.req.Header.Values("Trailer") {
		for name := range httpwire.Announced(v) {
			if httpwire.ValidTrailerName(name) {
				h[textproto.CanonicalMIMEHeaderKey(string(name))] = nil
			}
		}
	}
	return h
}

// netReader reads a body from its beginning. Only a body that is in memory is read more than once.
type netReader struct {
	source *netBody
	offset int
}

// Read implements io.Reader.
func (r *netReader) Read(p []byte) (int, error) {
	b := r.source
	if !b.begin() {
		return 0, errDetached
	}
	b.stream.up.stop(nil)
	n, err := r.read(p)
	b.did(err)
	switch {
	case err == nil:
		b.stream.up.start(b.stream.opts.Idle, errIdle)
	case errors.Is(err, io.EOF):
		b.stream.awaitHead()
	default:
		b.stream.cancel(err)
	}
	return n, err
}

func (b *netBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.detached || b.err != nil {
		return false
	}
	b.started, b.reading = true, true
	return true
}

// did ends what begin began.
func (b *netBody) did(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.idle.Broadcast()
	switch {
	case err == nil:
	case err == io.EOF: //nolint:errorlint // never wrapped
		b.eof = true
	case b.stream.ctx.Err() == nil: // else it was ended, and that is why
		b.err = err
	}
}

// awaitHead begins the time for the head, unless it is there.
func (s *netStream) awaitHead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.settled {
		s.up.start(s.opts.ResponseHead, errHead)
	}
}

// read returns io.EOF with the last piece of a body by length, so that it is known at once that all was read.
func (r *netReader) read(p []byte) (int, error) {
	b := r.source
	if b.isWhole {
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
	b := r.source
	n := copy(p, b.whole[r.offset:])
	if r.offset += n; r.offset < len(b.whole) {
		return n, nil
	}
	b.addTrailer()
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
			b.trailer.Set(string(f.Name), string(f.Value))
		}
	}
}

// Close implements io.Closer. The body is not ours to close.
func (r *netReader) Close() error { return nil }

// failed returns the error of the body itself, if there was one before the exchange was ended.
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

// abort ends a read that waits. One that nobody has begun can still be used for another try.
func (b *netBody) abort() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started && !b.eof && !b.isWhole {
		b.body.Abort()
	}
}

// detach returns when nobody reads the body any more, nor will.
func (b *netBody) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.detached = true
	for b.reading {
		b.idle.Wait()
	}
}
