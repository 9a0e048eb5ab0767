package upstream

import (
	"errors"
	"fmt"
	"io"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

const (
	// bodyWindow is how much of a body is read at most before it is handed out.
	bodyWindow = 64 << 10
	// bulkBytes are so many that they are worth a large buffer.
	bulkBytes = 4 << 10
	// spareBytes is how long a response may be that is dropped to try again.
	spareBytes = 64 << 10
)

// next implements stream.
func (h *http1) next() ([]byte, error) {
	if h.link == nil {
		return nil, io.EOF
	}
	h.link.in.Discard(h.piece)
	h.piece = 0
	for !h.ended {
		piece, err := h.take()
		if err != nil || len(piece) > 0 {
			return piece, err
		}
		if h.ended {
			break
		}
		if err := h.fill(); err != nil {
			h.broken = true
			return nil, err
		}
	}
	return nil, io.EOF
}

// take takes the next piece out of the buffer, nothing if more has to come first.
func (h *http1) take() ([]byte, error) {
	in := &h.link.in
	b := in.Bytes()
	switch h.framing {
	case httpwire.ByChunks:
		return h.takeChunk(b)
	case httpwire.ByLength:
		b = b[:min(h.left, int64(len(b)))]
		h.left -= int64(len(b))
		h.ended = h.left == 0
	case httpwire.UntilClose, httpwire.NoBody:
	}
	h.piece = len(b)
	return b, nil
}

func (h *http1) takeChunk(b []byte) ([]byte, error) {
	data, n, err := h.chunks.Next(b)
	switch {
	case errors.Is(err, httpwire.ErrIncomplete):
		return nil, nil
	case err != nil:
		h.broken = true
		return nil, &Error{Status: 502, Code: "upstream_protocol", Err: fmt.Errorf("read response body: %w", err)}
	}
	h.ended = h.chunks.Done()
	if len(data) == 0 {
		h.link.in.Discard(n)
		return nil, nil
	}
	h.piece = n
	return data, nil
}

// fill waits for more of the body.
func (h *http1) fill() error {
	l, c := h.link, h.call
	if h.bulk {
		l.in.Grow()
	}
	if c.over() || !l.conn.ReadBy(c.within(c.opts.Idle)) {
		return h.incomplete(errIdle)
	}
	err := l.conn.Fill(&l.in, bodyWindow)
	l.conn.ReadBy(0)
	switch {
	case err == nil:
		h.bulk = h.bulk || l.in.Len() >= bulkBytes
		return nil
	case err == io.EOF && h.framing == httpwire.UntilClose: //nolint:errorlint // never wrapped
		if l.truncated() {
			return h.incomplete(errTruncated)
		}
		h.ended = true
		return nil
	}
	return h.incomplete(err)
}

// incomplete says why the response is not whole.
func (h *http1) incomplete(err error) error {
	if body := h.pump.bodyError(); body != nil {
		return &fail(0, "request_body", body).Error
	}
	if timedOut(err) || h.call.over() {
		return &h.tooLate(errIdle).Error
	}
	if err == io.EOF { //nolint:errorlint // never wrapped
		err = errClosed
	}
	return &Error{Status: 502, Code: "upstream_aborted", Err: fmt.Errorf("read response body: %w", err)}
}

// trailer implements stream.
func (h *http1) trailer() exchange.Headers { return h.chunks.Trailer() }

// sent implements stream.
func (h *http1) sent() bool { return h.whole || h.pump.sent() }

// spare implements stream: a response that is short, or here already, can be done without.
func (h *http1) spare() bool {
	h.skip()
	return h.ended || h.framing == httpwire.ByLength && h.left <= spareBytes
}

// skip passes over what is in the buffer of the body.
func (h *http1) skip() {
	in := &h.link.in
	in.Discard(h.piece)
	h.piece = 0
	for !h.ended && !h.broken && h.framing != httpwire.UntilClose {
		piece, err := h.take()
		if err != nil || len(piece) == 0 {
			return
		}
		in.Discard(h.piece)
		h.piece = 0
	}
}

// close implements stream.
func (h *http1) close() {
	l := h.link
	if l == nil {
		return
	}
	h.pump.stop()
	if !h.broken {
		h.skip()
	}
	h.link = nil
	h.call.resp.hold(nil)
	switch {
	case h.switched && h.call.tunnel == nil:
		l.in.Unpin()
		l.in.Release()
		l.pool.leave() // the connection is its user's
	case h.whole && h.reusable(l):
		l.in.Unpin()
		l.in.Release()
		l.pool.put(l, &h.call.view.conf.Pool, h.call.m.now())
	default:
		l.pool.drop(l)
	}
}

// reusable says whether the connection stands where a new request may begin: the answer has ended, nothing came after it,
// and no deadline has passed.
func (h *http1) reusable(l *link) bool {
	return h.ended && !h.broken && !h.head.Close && h.framing != httpwire.UntilClose && l.in.Len() == 0 &&
		l.conn.ReadBy(0) && l.conn.WriteBy(0)
}
