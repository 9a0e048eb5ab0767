package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/runtime"
)

// h1conn is a client's connection that speaks HTTP/1.1. One goroutine serves it, one request after the other. Between
// requests it holds no buffer.
type h1conn struct {
	server *Server
	conn   *conn.Conn
	in     conn.Buffer
	remote netip.AddrPort
	peer   []byte           // the address in text form
	secure *clientcert.Peer // nil: not over TLS
	served bool             // a request was read from it
	ending ending
	// waiting is a request that came whole and whose policies may wait, which nothing may where it was read.
	waiting *call
	state   atomic.Int32
	shard   *connShard
}

// States of a connection. Only idle ones are closed when the server goes away.
const (
	h1Busy int32 = iota
	h1Idle
	h1Closing
)

func newH1(s *Server, c net.Conn, remote netip.AddrPort, secure *clientcert.Peer) *h1conn {
	h := &h1conn{server: s, conn: conn.New(c, s.config.Sweeper), remote: remote, secure: secure}
	h.peer = remote.Addr().Unmap().WithZone("").AppendTo(nil)
	return h
}

// ending says what becomes of a connection after an exchange.
type ending int

const (
	goesOn  ending = iota
	ends           // it is closed
	lingers        // what the client still sends is read before
	resets         // it is closed so that the client takes the response for what it is: not whole
)

// serve answers requests until the connection ends.
func (h *h1conn) serve() {
	h.server.conns.add(h)
	defer h.server.conns.remove(h)
	for h.ending == goesOn {
		switch {
		case h.in.Len() == 0 && !h.rest(), !h.busy():
			h.ending = ends
		case h.ending == goesOn && h.waiting != nil:
			h.ending = h.wait()
		case h.ending == goesOn && h.in.Len() > 0:
			h.ending = h.exchange()
		}
	}
	switch h.ending {
	case lingers:
		h.linger()
	case resets:
		_ = h.conn.Reset()
	}
	_ = h.conn.Close()
}

// rest waits for requests and answers those that come whole. It returns false if the connection has ended, else with one
// in the buffer that has more to be read.
func (h *h1conn) rest() bool {
	return h.settle() && h.conn.Serve(&h.in, smallestHead, h.awake) == nil
}

// settle gets ready to wait for the first byte of a request.
func (h *h1conn) settle() bool {
	h.in.Release()
	wait := h.server.config.Timeouts.Idle
	if !h.served {
		wait = h.server.config.Timeouts.Head
	}
	return h.state.CompareAndSwap(h1Busy, h1Idle) && !h.server.closing.Load() && h.conn.ReadBy(wait)
}

// awake answers what has come, as long as nothing more has to be read for it. It returns whether to wait for more.
func (h *h1conn) awake() bool {
	if !h.busy() || !h.conn.ReadBy(0) {
		h.ending = ends
		return false
	}
	for h.in.Len() > 0 {
		prompt := false
		if h.ending, prompt = h.prompt(); !prompt || h.ending != goesOn {
			return false
		}
	}
	if !h.settle() {
		h.ending = ends
	}
	return h.ending == goesOn
}

// busy says whether the connection may answer a request: not when it has been closed meanwhile.
func (h *h1conn) busy() bool {
	return h.state.Load() == h1Busy || h.state.CompareAndSwap(h1Idle, h1Busy)
}

// leave ends the connection if no request is under way, and says so to one that is.
func (h *h1conn) leave() {
	if h.state.CompareAndSwap(h1Idle, h1Closing) {
		h.conn.Abort()
	}
}

// open begins an exchange.
func (h *h1conn) open() *call {
	c := h.server.take()
	c.wire, c.h1.conn = &c.h1, h
	h.server.active.Add(1)
	c.arrived(h.remote, h.secure)
	return c
}

// close ends an exchange, which may have panicked with v.
func (h *h1conn) close(c *call, v any) ending {
	defer func() {
		h.server.give(c)
		h.server.active.Add(-1)
	}()
	return h.done(c, v)
}

// exchange reads and answers one request.
func (h *h1conn) exchange() (e ending) {
	c := h.open()
	defer func() { e = h.close(c, recover()) }()
	switch r, err := h.head(c); {
	case r != nil:
		c.h1.last = true
		c.refuse(r)
	case err != nil:
		c.h1.silent = true // nobody is there, or nobody has asked anything
	default:
		c.run(context.Background())
	}
	return ends
}

// wait answers a request that could not be answered where it was read.
func (h *h1conn) wait() (e ending) {
	c := h.waiting
	h.waiting = nil
	defer func() { e = h.close(c, recover()) }()
	c.resume(context.Background())
	return ends
}

// prompt answers a request that has come whole, after which the connection goes on. ok is false if it is none, or not
// well-formed: then nothing has happened; or if it waits to be answered elsewhere.
func (h *h1conn) prompt() (e ending, ok bool) {
	c := h.open()
	defer func() {
		if v := recover(); v != nil || h.waiting == nil {
			h.waiting = nil
			e = h.close(c, v)
		}
	}()
	d := &c.h1.head
	d.Fields = c.x.Request.Header
	n, err := httpwire.ParseHead(h.in.Bytes(), d, headLimits(c.rt))
	if err != nil || d.Close || d.Upgrade || d.Chunked || d.ContentLength > int64(h.in.Len()-n) {
		c.x.Request.Header = d.Fields[:0]
		c.h1.void = true
		return goesOn, false
	}
	h.begin(c, n)
	if !c.runPrompt(context.Background()) {
		h.waiting = c
		return goesOn, false
	}
	return goesOn, true
}

// begin takes the head of a request from what was received.
func (h *h1conn) begin(c *call, n int) {
	h.served = true
	h.in.Discard(n)
	h.in.Pin()
	c.h1.begun(c)
	c.headBytes, c.headFields = n, len(c.h1.head.Fields)
}

// done ends an exchange. What is left of its body is read if that is cheap.
func (h *h1conn) done(c *call, v any) ending {
	w := &c.h1
	switch {
	case v == nil && w.void:
		return goesOn
	case v == nil && w.silent:
		return ends
	case c.end(v) || w.hijacked:
		if !w.hijacked && c.headSent {
			return resets
		}
		return ends
	}
	w.used()
	h.in.Unpin()
	switch {
	case !w.ended, w.last && h.in.Len() > 0:
		return lingers
	case w.last, h.conn.Expired():
		return ends
	}
	return goesOn
}

// linger lets a client that still sends read the answer: to close with unread bytes would reset the connection, and the
// answer with it (RFC 9112 section 9.6).
func (h *h1conn) linger() {
	if h.conn.CloseWrite() != nil {
		return
	}
	c := h.conn.NetConn()
	_ = c.SetReadDeadline(time.Now().Add(h.server.config.Timeouts.Linger))
	buf, ok := outBuffers.Get().(*[outBytes]byte)
	if !ok {
		return
	}
	defer outBuffers.Put(buf)
	for left := int64(maxLinger); left > 0; {
		n, err := c.Read(buf[:])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// head reads a request's head into the call. A refusal answers a head that is no good; an error means that there is no
// request.
func (h *h1conn) head(c *call) (*exchange.Refusal, error) {
	lim := headLimits(c.rt)
	if !h.conn.ReadBy(h.server.config.Timeouts.Head) {
		return nil, os.ErrDeadlineExceeded
	}
	n, err := h.awaitHead(lim.Head)
	if err != nil {
		return h.headRefusal(err), err
	}
	if !h.conn.ReadBy(0) {
		return h.server.refusals.timeout, nil
	}
	w := &c.h1
	w.head.Fields = c.x.Request.Header
	if _, err := httpwire.ParseHead(h.in.Bytes()[:n], &w.head, lim); err != nil {
		return h.headRefusal(err), err
	}
	h.begin(c, n)
	return nil, nil //nolint:nilnil // neither refused nor gone
}

// awaitHead reads until the head has ended and returns its length.
func (h *h1conn) awaitHead(limit int) (int, error) {
	from := 0
	for {
		b := h.in.Bytes()
		for from == 0 && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' { // RFC 9112 section 2.2
			h.in.Discard(2)
			b = b[2:]
		}
		n, next := httpwire.HeadEnd(b, from)
		if n > 0 {
			return n, nil
		}
		from = next
		if err := h.conn.Fill(&h.in, limit); err != nil {
			return 0, err
		}
	}
}

// headRefusal says what a client is told whose head could not be read; nil if it is not told anything.
func (h *h1conn) headRefusal(err error) *exchange.Refusal {
	no := h.server.refusals
	if bad, ok := errors.AsType[*httpwire.Error](err); ok {
		return no.malformed(bad)
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, conn.ErrFull):
		return no.headers
	case errors.Is(err, os.ErrDeadlineExceeded) && h.in.Len() > 0 && h.state.Load() == h1Busy:
		return no.headTimeout
	}
	return nil
}

// headLimits are what the settings say, or the defaults before there are any.
func headLimits(rt *runtime.Runtime) httpwire.Limits {
	if rt == nil {
		return httpwire.Limits{Head: smallestHead, Target: smallestHead, Fields: 200}
	}
	s := rt.Settings
	return httpwire.Limits{Head: s.MaxHead, Target: s.MaxURI, Fields: s.MaxHeaders}
}
