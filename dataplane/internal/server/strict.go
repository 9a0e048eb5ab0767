package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/httpwire"
)

// net/http reads HTTP/1.1 more kindly than a gateway may: it takes bare line feeds, unfolds fields, and prefers chunks to a
// length that stands beside them. Two readers that repair differently are how requests are smuggled. strictConn stands
// between the connection and net/http, follows the framing itself, and lets through only what httpwire accepts.

const (
	// strictTarget and strictFields are what settings can allow at most; they bound requests further.
	strictTarget = 64 << 10
	strictFields = 1001
	strictBuffer = 4 << 10
)

// errMalformedBody is what reading a body gives whose chunks are not well-formed.
var errMalformedBody = errors.New("malformed request body")

// refusedHead is what is handed on instead of a head that is refused: something that net/http refuses too, with the same
// status, after whatever it still has to answer, closing the connection.
func refusedHead(err error) string {
	switch e, _ := errors.AsType[*httpwire.Error](err); {
	case e != nil && e.Status == http.StatusNotImplemented:
		return "GET / HTTP/1.1\r\nHost: refused\r\nTransfer-Encoding: refused\r\n\r\n"
	case e != nil && e.Status == http.StatusHTTPVersionNotSupported:
		return "GET / HTTP/9.9\r\n\r\n"
	}
	return "REFUSED\r\n\r\n"
}

// strictConn is a connection whose reader gets well-formed requests only.
type strictConn struct {
	net.Conn
	// linger is how long, once it is closed within a body, the client may go on sending that.
	linger  time.Duration
	within  atomic.Bool // a body; written by who reads
	closing atomic.Bool
	buf     []byte // received and not yet handed on
	checked int    // buf[:checked] may be handed on
	scanned int    // where to go on looking for the end of a head
	head    httpwire.Head
	left    int64 // of a body with a length
	chunked bool  // within a chunked body
	chunks  httpwire.Chunks
	err     error // what comes when everything checked is handed on
}

// Read reads from the connection. Only one goroutine at a time does, as net/http promises.
func (c *strictConn) Read(p []byte) (int, error) {
	for c.checked == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if c.check(); c.checked > 0 || c.err != nil {
			continue
		}
		if err := c.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.buf[:c.checked])
	c.checked -= n
	c.within.Store(c.left > 0 || c.chunked || c.checked > 0)
	if c.buf = c.buf[:copy(c.buf, c.buf[n:])]; len(c.buf) == 0 && cap(c.buf) > strictBuffer {
		c.buf = nil // an idle connection keeps little
	}
	return n, nil
}

// CloseWrite closes one direction, where the connection can: net/http does it so that a refusal arrives.
func (c *strictConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends the connection. Within a body only our direction ends at once: a client that still sends would be reset, and
// would lose the answer that it was about to read (RFC 9112 section 9.6). net/http lingers too, but for half a second, and not
// after an interrupted read.
func (c *strictConn) Close() error {
	if !c.within.Load() || !c.closing.CompareAndSwap(false, true) {
		return c.Conn.Close()
	}
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(c.linger))
	go func() {
		_, _ = io.CopyN(io.Discard, c.Conn, maxLinger)
		_ = c.Conn.Close()
	}()
	return nil
}

func (c *strictConn) receive() error {
	if len(c.buf) == cap(c.buf) {
		grown := make([]byte, len(c.buf), max(strictBuffer, 2*cap(c.buf)))
		copy(grown, c.buf)
		c.buf = grown
	}
	n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}

// check looks at what was received and says how much of it may be handed on.
func (c *strictConn) check() {
	switch {
	case len(c.buf) == 0:
	case c.left > 0:
		c.checked = int(min(c.left, int64(len(c.buf))))
		c.left -= int64(c.checked)
	case c.chunked:
		c.checkChunks()
	default:
		c.checkHead()
	}
}

func (c *strictConn) checkChunks() {
	for c.checked < len(c.buf) && !c.chunks.Done() {
		_, n, err := c.chunks.Next(c.buf[c.checked:])
		if errors.Is(err, httpwire.ErrIncomplete) {
			return
		}
		if err != nil {
			c.err = errMalformedBody
			return
		}
		c.checked += n
	}
	c.chunked = !c.chunks.Done()
}

func (c *strictConn) checkHead() {
	for bytes.HasPrefix(c.buf, []byte("\r\n")) { // RFC 9112 section 2.2
		c.buf = c.buf[:copy(c.buf, c.buf[2:])]
		c.scanned = 0
	}
	// Only a head that may be whole is parsed: else one that comes byte by byte would be parsed as often.
	fresh := c.buf[max(0, c.scanned-2):]
	if c.scanned = len(c.buf); len(c.buf) < maxHeadBytes && !bytes.Contains(fresh, []byte("\n\r\n")) && !bytes.Contains(fresh, []byte("\n\n")) {
		return
	}
	c.scanned = 0
	n, err := httpwire.ParseHead(c.buf, &c.head, httpwire.Limits{Head: maxHeadBytes, Target: strictTarget, Fields: strictFields})
	if errors.Is(err, httpwire.ErrIncomplete) {
		return
	}
	if err != nil {
		c.buf = append(c.buf[:0], refusedHead(err)...)
		c.checked, c.err = len(c.buf), io.EOF
		return
	}
	c.checked, c.chunked, c.chunks = n, c.head.Chunked, httpwire.Chunks{}
	c.left = max(0, c.head.ContentLength)
	c.head.Reset()
}
