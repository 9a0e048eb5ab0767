package server

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

const (
	// outBytes is the size of the buffer that heads and small bodies are written from.
	outBytes = 16 << 10
	// smallestHead bounds a head before there are settings, and what is read at once of the next request.
	smallestHead = 64 << 10
	// maxPiece bounds what is read at once of a body.
	maxPiece = 64 << 10
	// maxLinger bounds what is read of a body that nobody wants.
	maxLinger = 4 << 20
)

var outBuffers = sync.Pool{New: func() any { return new([outBytes]byte) }} //nolint:gochecknoglobals // memory, not state

// h1wire is the wire of one exchange over an HTTP/1.1 connection.
type h1wire struct {
	conn   *h1conn // nil: the call is not over HTTP/1.1 of ours
	head   httpwire.Head
	chunks httpwire.Chunks
	idle   time.Duration // bounds the wait for a piece of the body
	left   int64         // of a body with a length
	taken  int           // bytes of the piece read last; they are used up by the next read

	// ended: all of the request's body was read, so that another request may follow.
	ended bool
	// last: the connection ends after this exchange. silent: nothing was asked and nothing is answered. void: there was no
	// exchange.
	last, silent, void, hijacked bool

	sending sync.Mutex  // guards the interim responses against the final one
	begins  atomic.Bool // the final response has begun
	asked   bool        // for the body, with 100 Continue; guarded by sending

	memory  *[outBytes]byte
	out     []byte // what is to be sent, in memory
	chunked bool   // the response is
	framed  bool   // the response has a length or is chunked; else its end is the connection's
}

func (w *h1wire) reset() {
	w.head.Reset()
	w.chunks.Reset()
	if w.memory != nil {
		outBuffers.Put(w.memory)
	}
	w.conn, w.left, w.taken, w.memory, w.out = nil, 0, 0, nil, nil
	w.idle, w.ended, w.last, w.silent, w.void, w.hijacked, w.asked, w.chunked, w.framed = 0, false, false, false, false, false, false, false, false
	w.begins.Store(false)
}

// client returns the connection below, nil if there is none of ours.
func (w *h1wire) client() *conn.Conn {
	if w.conn == nil {
		return nil
	}
	return w.conn.conn
}

// begun takes over the parsed head.
func (w *h1wire) begun(c *call) {
	q, d, h := &c.x.Request, &w.head, w.conn
	q.Method, q.RawTarget, q.Header, q.ContentLength = d.Method, d.Target, d.Fields, d.ContentLength
	q.Proto = 10 + d.Minor
	c.host, c.peer = d.Host, h.peer
	w.left, w.ended = d.ContentLength, d.ContentLength == 0
	w.last = d.Close || h.server.draining.Load()
}

func (w *h1wire) whole() ([]byte, bool) {
	w.used()
	in := &w.conn.in
	if w.head.Chunked || w.ended || int64(in.Len()) < w.left {
		return nil, false
	}
	p := in.Bytes()[:w.left]
	in.Discard(len(p))
	in.Pin() // it stays where it is until the exchange ends
	w.ended, w.left = true, 0
	return p, true
}

func (w *h1wire) read() ([]byte, error) {
	w.used()
	for !w.ended {
		p, err := w.cut()
		w.taken = len(p)
		switch {
		case err != nil:
			return nil, err
		case w.ended:
			return p, io.EOF
		case p != nil:
			return p, nil
		}
		if err := w.receive(); err != nil {
			return nil, err
		}
	}
	return nil, io.EOF
}

// used lets go of the piece that was read last. Whoever reads does so before the next read, and the connection before the
// next request: else that would begin with the end of this body.
func (w *h1wire) used() {
	w.conn.in.Discard(w.taken)
	w.taken = 0
}

// cut takes a piece of the body from what was received. It leaves the piece itself in the buffer until the next read.
func (w *h1wire) cut() ([]byte, error) {
	b := w.conn.in.Bytes()
	if len(b) == 0 {
		return nil, nil
	}
	if !w.head.Chunked {
		p := b[:min(int64(len(b)), w.left)]
		w.left -= int64(len(p))
		w.ended = w.left == 0
		return p, nil
	}
	p, n, err := w.chunks.Next(b)
	if err == httpwire.ErrIncomplete { //nolint:errorlint // ours, and never wrapped
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.conn.in.Discard(n - len(p)) // the piece is the last of what was used
	w.ended = w.chunks.Done()
	return p, nil
}

// receive reads more of the body. A client that waits to be asked for it is asked.
func (w *h1wire) receive() error {
	c := w.conn
	if w.head.ExpectContinue && c.in.Len() == 0 {
		if err := w.ask(); err != nil {
			return err
		}
	}
	if w.left > outBytes || w.head.Chunked {
		c.in.Grow()
	}
	if !c.conn.ReadBy(w.idle) {
		return errSlowBody
	}
	if err := c.conn.Fill(&c.in, maxPiece); err != nil {
		if err == io.EOF { //nolint:errorlint // as io.Reader says
			return io.ErrUnexpectedEOF
		}
		return err
	}
	c.conn.ReadBy(0)
	return nil
}

// ask sends 100 Continue, once and before the response.
func (w *h1wire) ask() error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if w.asked || w.begins.Load() {
		return nil
	}
	w.asked = true
	return w.send(w.conn.server.goOn)
}

func (w *h1wire) trailer() exchange.Headers {
	if !w.head.Chunked {
		return nil
	}
	return w.chunks.Trailer()
}

func (w *h1wire) interrupt() {
	_ = w.conn.conn.NetConn().SetReadDeadline(time.Unix(1, 0))
}

func (w *h1wire) abort() { w.conn.conn.Abort() }

func (w *h1wire) interim(status int, h exchange.Headers) {
	if w.head.Minor == 0 { // RFC 9110 section 15.2
		return
	}
	w.sending.Lock()
	defer w.sending.Unlock()
	if w.begins.Load() {
		return
	}
	b := httpwire.AppendStatusLine(nil, status)
	for _, f := range h {
		if !exchange.EqualFold(f.Name, "Content-Length") { // RFC 9110 section 8.6
			b = httpwire.AppendField(b, f.Name, f.Value)
		}
	}
	_ = w.send(append(b, "\r\n"...)) // a client that is gone is noticed when it is answered
}

func (w *h1wire) begin(c *call, length int64) {
	w.sending.Lock()
	w.begins.Store(true)
	w.sending.Unlock()
	w.settle(c)
	if w.memory, _ = outBuffers.Get().(*[outBytes]byte); w.memory == nil {
		w.memory = new([outBytes]byte)
	}
	x := &c.x
	b := httpwire.AppendStatusLine(w.memory[:0], x.Response.Status)
	dated := false
	for _, f := range x.Response.Header {
		switch {
		case len(f.Name) == len("Content-Length") && exchange.EqualFold(f.Name, "Content-Length"):
			continue
		case len(f.Name) == len("Date") && exchange.EqualFold(f.Name, "Date"):
			dated = true
		}
		b = httpwire.AppendField(b, f.Name, f.Value)
	}
	if !dated { // RFC 9110 section 6.6.1
		b = append(append(append(b, "Date: "...), w.conn.server.date.now(x.Timings.HeadSent)...), "\r\n"...)
	}
	b = w.frame(b, c, length)
	w.out = append(b, "\r\n"...)
}

// settle decides whether the connection goes on. A body that nobody reads to its end ends it.
func (w *h1wire) settle(c *call) {
	w.last = w.last || c.last
	switch {
	case w.conn.server.draining.Load():
		w.last = true
	case c.forwarded && c.request.Body != nil:
		w.last = w.last || !c.body.complete()
	case !w.ended: // nobody reads it
		_, all := w.whole()
		w.last = w.last || !all
	}
}

// frame appends the fields that say where the response ends (RFC 9112 section 6).
func (w *h1wire) frame(b []byte, c *call, length int64) []byte {
	status := c.x.Response.Status
	switch {
	case status == http.StatusSwitchingProtocols:
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), c.upgrade...), "\r\n"...)
		return b
	case status == http.StatusNoContent:
		w.framed = true
	case length >= 0:
		w.framed = true
		b = strconv.AppendInt(append(b, "Content-Length: "...), length, 10)
		b = append(b, "\r\n"...)
	case !c.withBody():
		w.framed = true
	case w.head.Minor > 0:
		w.framed, w.chunked = true, true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	w.last = w.last || !w.framed
	switch {
	case w.last:
		b = append(b, "Connection: close\r\n"...)
	case w.head.Minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

func (w *h1wire) write(p []byte, flush bool) error {
	if len(p) > 0 {
		if w.chunked {
			w.out = httpwire.AppendChunkSize(w.out, len(p))
		}
		if err := w.add(p); err != nil {
			return err
		}
		if w.chunked {
			w.out = append(w.out, "\r\n"...)
		}
	}
	if flush {
		return w.flush()
	}
	return nil
}

// add sends a piece, through the buffer if it is small.
func (w *h1wire) add(p []byte) error {
	room := outBytes - len(w.out) - chunkRoom
	if len(p) <= room {
		w.out = append(w.out, p...)
		return nil
	}
	if room > 0 && len(w.out) > 0 { // a full buffer in one write
		w.out = append(w.out, p[:room]...)
		p = p[room:]
	}
	if err := w.flush(); err != nil {
		return err
	}
	if len(p) < outBytes/2 {
		w.out = append(w.out, p...)
		return nil
	}
	return w.send(p)
}

// chunkRoom is kept free for what is written around a piece.
const chunkRoom = 64

func (w *h1wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	err := w.send(w.out)
	w.out = w.memory[:0]
	return err
}

func (w *h1wire) send(p []byte) error {
	c := w.conn.conn
	if !c.WriteBy(w.conn.server.config.Timeouts.Write) {
		return errSlowClient
	}
	_, err := c.Write(p)
	c.WriteBy(0)
	return err
}

func (w *h1wire) finish(trailer exchange.Headers) error {
	if w.chunked {
		w.out = httpwire.AppendLastChunk(w.out, trailer)
	}
	return w.flush()
}

func (w *h1wire) hijack(*call) (*conn.Conn, []byte, error) {
	w.hijacked = true
	early := bytes.Clone(w.conn.in.Bytes())
	w.conn.in.Discard(len(early))
	return w.conn.conn, early, nil
}
