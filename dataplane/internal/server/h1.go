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
	peer   []byte // the address in text form
	tls    bool
	served bool // a request was read from it
	state  atomic.Int32
	shard  *connShard
}

// States of a connection. Only idle ones are closed when the server goes away.
const (
	h1Busy int32 = iota
	h1Idle
	h1Closing
)

func newH1(s *Server, c net.Conn, remote netip.AddrPort, tls bool) *h1conn {
	h := &h1conn{server: s, conn: conn.New(c, s.config.Sweeper), remote: remote, tls: tls}
	h.peer = remote.Addr().Unmap().WithZone("").AppendTo(nil)
	return h
}

// serve answers requests until the connection ends.
func (h *h1conn) serve() {
	h.server.conns.add(h)
	defer h.server.conns.remove(h)
	for h.await() {
		if !h.exchange() {
			break
		}
	}
	_ = h.conn.Close()
}

// await waits for the first byte of a request.
func (h *h1conn) await() bool {
	if h.in.Len() > 0 {
		return true
	}
	h.in.Release()
	wait := h.server.config.Timeouts.Idle
	if !h.served {
		wait = h.server.config.Timeouts.Head
	}
	if !h.state.CompareAndSwap(h1Busy, h1Idle) || h.server.closing.Load() || !h.conn.ReadBy(wait) {
		return false
	}
	err := h.conn.Fill(&h.in, smallestHead)
	return h.state.CompareAndSwap(h1Idle, h1Busy) && err == nil
}

// leave ends the connection if no request is under way, and says so to one that is.
func (h *h1conn) leave() {
	if h.state.CompareAndSwap(h1Idle, h1Closing) {
		h.conn.Abort()
	}
}

// exchange reads and answers one request. It reports whether another may follow.
func (h *h1conn) exchange() (again bool) {
	s := h.server
	c := s.take()
	c.wire, c.h1.conn = &c.h1, h
	s.active.Add(1)
	defer func() {
		again = h.done(c, recover())
		s.give(c)
		s.active.Add(-1)
	}()
	c.arrived(h.remote)
	switch r, err := h.head(c); {
	case r != nil:
		c.h1.last = true
		c.refuse(r)
	case err != nil:
		c.h1.silent = true // nobody is there, or nobody has asked anything
	default:
		h.served = true
		c.run(context.Background())
	}
	return false
}

// done ends an exchange. What is left of its body is read if that is cheap.
func (h *h1conn) done(c *call, v any) (again bool) {
	w := &c.h1
	if v == nil && w.silent {
		return false
	}
	if c.end(v) || w.hijacked {
		if !w.hijacked && c.headSent {
			_ = h.conn.Reset()
		}
		return false
	}
	w.used()
	h.in.Unpin()
	if w.last || !w.ended {
		if !w.ended || h.in.Len() > 0 {
			h.linger()
		}
		return false
	}
	return !h.conn.Expired()
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
	h.in.Discard(n)
	h.in.Pin()
	w.begun(c)
	c.headBytes, c.headFields = n, len(w.head.Fields)
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
