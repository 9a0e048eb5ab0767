package server

import (
	"net/http"
	"time"

	"keyward.dev/dataplane/internal/conn"
)

// tunnel answers that the protocol is switched, and then carries bytes both ways until one side ends.
func (c *call) tunnel() {
	x := &c.x
	x.Response.Status = http.StatusSwitchingProtocols
	x.Response.Header = append(x.Response.Header[:0], c.resp.Header...)
	c.unwind()
	if x.Response.Local {
		c.resp.Close()
		c.writeLocal()
		return
	}
	up, fromUpstream, ok := c.resp.Tunnel()
	if !ok {
		c.resp.Close()
		c.refuse(c.server.refusals.unreachable)
		return
	}
	defer func() { _ = up.Close() }()
	c.begin(-1)
	if err := c.wire.write(nil, true); err != nil {
		c.broke("client_gone")
		return
	}
	down, fromClient, err := c.wire.hijack(c)
	if err != nil {
		c.broke("internal")
		return
	}
	defer func() { _ = down.Close() }()
	c.stream.tunnel = [2]*conn.Conn{down, up}
	c.server.streams.add(c)
	t := &tunnel{down: down, up: up, idle: c.route.Call.Idle}
	t.run(fromClient, fromUpstream)
	c.body.n, c.out.BytesOut = t.sent, t.received
	if code := c.stream.reason(""); code != "" {
		c.out.Code = code
	}
}

// maxHeld is from how much at once a tunnel counts as busy: it holds memory while it waits for more.
const maxHeld = 4 << 10

// tunnel is two connections whose bytes are carried to each other. It counts as idle only if neither side says anything.
type tunnel struct {
	down, up       *conn.Conn
	idle           time.Duration
	sent, received int64
}

// run returns when both directions have ended: when one side stops sending the other is told, and may still answer.
func (t *tunnel) run(fromClient, fromUpstream []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.sent = t.carry(t.up, t.down, fromClient)
	}()
	t.received = t.carry(t.down, t.up, fromUpstream)
	<-done
}

// carry copies until from ends or either fails, and returns how much it was.
func (t *tunnel) carry(to, from *conn.Conn, first []byte) (n int64) {
	var buf conn.Buffer
	fail := func() int64 {
		to.Abort()
		from.Abort()
		return n
	}
	for p := first; ; p = buf.Bytes() {
		if len(p) > 0 {
			if !to.WriteBy(t.idle) {
				return fail()
			}
			if _, err := to.Write(p); err != nil {
				return fail()
			}
			to.WriteBy(0)
			n += int64(len(p))
		}
		// Over TLS a read without memory takes one byte, to learn that there is more: then, and when much comes, the memory
		// is kept.
		buf.Discard(buf.Len())
		if len(p) > 1 && len(p) < maxHeld {
			buf.Release()
		}
		if !from.ReadBy(t.idle) || !to.ReadBy(t.idle) {
			return fail()
		}
		if err := from.Fill(&buf, maxPiece); err != nil {
			if to.CloseWrite() != nil || !ended(err) {
				return fail()
			}
			return n
		}
	}
}
