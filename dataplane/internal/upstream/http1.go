package upstream

import (
	"errors"
	"fmt"
	"io"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/runtime"
)

const (
	// maxResponseHead bounds what an upstream can make a gateway hold: the head of a response with all interim ones.
	maxResponseHead   = 256 << 10
	maxResponseFields = 1000
	// maxRepeats is how many kept connections may turn out to be closed before a new one is made.
	maxRepeats = 2
	// maxInline is how large a body may be that is sent with the head: larger ones may not fit what the kernel takes at
	// once, and then somebody has to listen for an answer meanwhile.
	maxInline = 64 << 10
)

// http1 speaks HTTP/1.1 over connections of a pool. It is part of a call and holds its memory.
type http1 struct {
	call *call
	link *link  // nil while there is none
	out  []byte // the head of the request
	line []byte // the request target, if it has to be put together
	// trailers are those of the request, as far as they may be one
	trailers exchange.Headers

	head    httpwire.ResponseHead
	chunks  httpwire.Chunks
	framing httpwire.Framing
	left    int64 // of a body by length
	piece   int   // of the buffer, handed out by next
	heads   int   // bytes of heads so far
	bulk    bool  // much comes at once

	wrote  error // why the request could not be sent wholly
	whole  bool  // it was sent wholly
	ended  bool  // the response has ended as it should
	broken bool  // the connection is good for nothing more

	switched bool // the connection is a tunnel now

	pump pump
}

func newHTTP1(c *call) *http1 {
	h := &http1{call: c}
	h.pump.init(h)
	return h
}

// maxKept is how much memory a call keeps for the next.
const maxKept = 128 << 10

func (h *http1) reset() {
	clear(h.trailers)
	h.head.Reset()
	h.chunks.Reset()
	if cap(h.out) > maxKept {
		h.out = nil
	}
	h.pump.reset()
}

// try implements transporter. A request that found its kept connection closed is repeated at once: that is no fault of
// the target.
func (h *http1) try(c *call) *failure {
	for repeats := 0; ; repeats++ {
		l, f := c.target.pool.get(c, repeats >= maxRepeats)
		if f != nil {
			return f
		}
		h.begin(l)
		if !c.resp.hold(l.conn) {
			h.discard()
			return c.gone()
		}
		if f = h.send(); f == nil {
			f = h.receive()
		}
		if f == nil {
			c.stream = h
			return nil
		}
		h.discard()
		if !f.stale || !f.unsent && !c.safe {
			return f
		}
	}
}

func (h *http1) begin(l *link) {
	h.link = l
	h.left, h.piece, h.heads, h.bulk = 0, 0, 0, false
	h.wrote, h.whole, h.ended, h.broken, h.switched = nil, false, false, false, false
	h.chunks.Reset()
	h.pump.reset()
}

// discard closes the connection and waits until nobody uses it any more.
func (h *http1) discard() {
	h.broken = true
	h.close()
}

// send sends the head, with the body if that is in memory. All of it goes out in one write.
func (h *http1) send() *failure {
	c, out, ok := h.call, h.out, false
	if out, ok = h.appendHead(out[:0]); !ok {
		h.out = out
		return fail(502, "request_forged", errForged)
	}
	if c.inline() {
		h.out = h.appendWhole(out)
		return h.ask(h.out)
	}
	h.out = out
	n, err := h.write(out)
	switch {
	case timedOut(err):
		return h.tooLate(errIdle)
	case err != nil:
		return h.unwritten(n, err)
	}
	h.pump.start()
	return nil
}

// inline says whether the request is sent at once, with its body.
func (c *call) inline() bool { return c.isWhole && len(c.whole) <= maxInline }

// ask sends all of the request and waits for the first piece of the answer.
func (h *http1) ask(b []byte) *failure {
	c := h.link.conn
	if !c.WriteBy(h.call.within(h.call.opts.Idle)) {
		return h.tooLate(errIdle)
	}
	h.headBy()
	n, err := c.Ask(b, &h.link.in, maxResponseHead)
	switch h.whole = n == len(b); {
	case err == nil:
		return nil
	case h.whole:
		return h.unanswered(err)
	case timedOut(err):
		return h.tooLate(errIdle)
	}
	return h.unwritten(n, err)
}

// write writes within the time between two writes.
func (h *http1) write(b []byte) (int, error) {
	c := h.link.conn
	if !c.WriteBy(h.call.within(h.call.opts.Idle)) {
		return 0, errIdle
	}
	n, err := c.Write(b)
	c.WriteBy(0)
	return n, err
}

// unwritten goes on if there may be an answer all the same: who refuses a request may close before it has come whole.
func (h *http1) unwritten(n int, err error) *failure {
	if n == 0 {
		f := unreached(502, "upstream_closed", fmt.Errorf("send request: %w", err))
		f.why, f.stale = runtime.RetryReset, h.link.uses > 0
		return f
	}
	h.wrote = err
	h.headBy()
	return nil
}

// headBy begins the time for the head of the answer.
func (h *http1) headBy() { h.link.conn.ReadBy(h.call.within(h.call.opts.ResponseHead)) }

// receive waits for the head of the final response.
func (h *http1) receive() *failure {
	for {
		if f := h.readHead(); f != nil {
			return f
		}
		switch status := h.head.Status; {
		case status == 101:
			return h.switchOver()
		case status >= 200:
			h.final()
			return nil
		case status != 100 && h.call.req.Informational != nil:
			httpwire.DropHopByHop(&h.head.Fields)
			h.call.req.Informational(status, h.head.Fields)
		}
	}
}

// readHead reads one head and leaves what is behind it in the buffer. The time for it runs already.
func (h *http1) readHead() *failure {
	in, from := &h.link.in, 0
	for {
		var n int
		if n, from = httpwire.HeadEnd(in.Bytes(), from); n > 0 {
			break
		}
		if err := h.link.conn.Fill(in, maxResponseHead-h.heads); err != nil {
			return h.unanswered(err)
		}
	}
	n, err := httpwire.ParseResponseHead(in.Bytes(), &h.head, httpwire.Limits{Head: maxResponseHead - h.heads, Fields: maxResponseFields})
	if err != nil {
		return h.malformed(err)
	}
	h.heads += n
	in.Discard(n)
	return nil
}

func (h *http1) malformed(err error) *failure {
	f := fail(502, "upstream_protocol", fmt.Errorf("read response head: %w", err))
	f.blame = true
	return f
}

// unanswered says why no head came.
func (h *http1) unanswered(err error) *failure {
	if body := h.pump.bodyError(); body != nil {
		return fail(0, "request_body", body)
	}
	switch {
	case errors.Is(err, conn.ErrFull):
		return h.malformed(httpwire.ErrHeadLong)
	case timedOut(err) && timedOut(h.pump.error()):
		return h.tooLate(errIdle)
	case timedOut(err):
		return h.tooLate(errHead)
	}
	if h.wrote == nil {
		h.wrote = h.pump.error()
	}
	if h.wrote != nil {
		err = fmt.Errorf("send request: %w", h.wrote)
	} else if err == io.EOF { //nolint:errorlint // never wrapped
		err = errClosed
	}
	f := fail(502, "upstream_closed", fmt.Errorf("read response head: %w", err))
	f.blame = true
	if h.heads == 0 && h.link.in.Len() == 0 {
		f.why, f.stale = runtime.RetryReset, h.link.uses > 0
	}
	return f
}

// tooLate says which time has passed, or that the exchange was aborted.
func (h *http1) tooLate(cause error) *failure {
	c := h.call
	if c.resp.isAborted() {
		return c.gone()
	}
	f := fail(504, "total_timeout", errTotal)
	switch {
	case c.over():
	case errors.Is(cause, errHead):
		f = fail(504, "upstream_timeout", errHead)
		f.why = runtime.RetryTimeout
	default:
		f = fail(504, "idle_timeout", errIdle)
	}
	f.blame = true
	return f
}

// switchOver makes the connection a tunnel, if the protocol is the one that was asked for and nothing of the request is
// under way.
func (h *http1) switchOver() *failure {
	c := h.call
	if len(c.req.Upgrade) == 0 || !exchange.EqualFold(h.head.Upgrade, string(c.req.Upgrade)) || !h.sent() {
		return h.malformed(errSwitched)
	}
	h.conclude(httpwire.NoBody)
	in := &h.link.in
	c.behind = append([]byte(nil), in.Bytes()...)
	in.Discard(in.Len())
	h.broken, h.switched = true, true
	c.tunnel = h.link.conn
	h.link.conn.ReadBy(0)
	return nil
}

// final makes the response from the head.
func (h *http1) final() {
	h.pump.headCame()
	h.conclude(h.head.Framing(h.call.req.Method))
	h.left = h.head.ContentLength
	h.ended = h.framing == httpwire.NoBody || h.framing == httpwire.ByLength && h.left == 0
	h.bulk = h.framing == httpwire.ByLength && h.left-int64(h.link.in.Len()) > bulkBytes
}

func (h *http1) conclude(f httpwire.Framing) {
	h.framing = f
	h.link.in.Pin()
	h.link.conn.ReadBy(0)
	httpwire.DropHopByHop(&h.head.Fields)
	r := h.call.resp
	r.Status, r.Header, r.ContentLength = h.head.Status, h.head.Fields, h.head.ContentLength
}
