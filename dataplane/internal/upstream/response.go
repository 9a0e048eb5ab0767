package upstream

import (
	"bytes"
	"io"
	"sync"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
)

// Response is an answer that comes in piece by piece. Its zero value is ready; after Close it is used again.
type Response struct {
	Status int
	// Header are the fields as they came, in place, without those that concern one connection only. The slice may be
	// changed.
	Header exchange.Headers
	// ContentLength is what the head says; -1: nothing.
	ContentLength int64

	call *call // nil before Do and after Close
	kept *call // of the last exchange, for the next; nil before the first and while one is under way

	mu      sync.Mutex
	aborted bool         // guarded by mu: by Abort, since Do began
	cut     conn.Aborter // guarded by mu: what Abort ends; nil while nothing waits
}

// stream is the body of a response, and of the request as far as it is still under way.
type stream interface {
	next() ([]byte, error)
	trailer() exchange.Headers
	// sent says whether the request was sent wholly.
	sent() bool
	// spare says whether the rest of the body can be done without at little cost.
	spare() bool
	close()
}

// Next returns the next piece of the body, in place and valid until the next call, and io.EOF, with no data, at its end.
// Any other error, an *Error, means that it is not whole.
func (r *Response) Next() ([]byte, error) {
	if r.call == nil || r.call.stream == nil {
		return nil, io.EOF
	}
	piece, err := r.call.stream.next()
	if err != nil && err != io.EOF { //nolint:errorlint // never wrapped
		r.call.brokeOff(err)
	}
	return piece, err
}

// Trailer returns the trailer, after Next has returned io.EOF. It is valid until Close.
func (r *Response) Trailer() exchange.Headers {
	if r.call == nil || r.call.stream == nil {
		return nil
	}
	return r.call.stream.trailer()
}

// Flush says whether pieces should be sent on as they come, because somebody may wait for each: no length is known, or it
// is a stream of events.
func (r *Response) Flush() bool {
	const events = "text/event-stream"
	t := r.Header.Get("Content-Type")
	return r.ContentLength < 0 || len(t) >= len(events) && bytes.EqualFold(t[:len(events)], []byte(events))
}

// Tunnel returns, after status 101, the connection and what came behind the head. They are the caller's then; but the
// connection counts until Close, which is to be called when the tunnel has ended, and Abort ends it. The client is not
// watched any more.
func (r *Response) Tunnel() (*conn.Conn, []byte, bool) {
	if r.call == nil || r.call.tunnel == nil {
		return nil, nil, false
	}
	c := r.call
	c.unwatch()
	t := c.tunnel
	c.tunnel = nil
	return t, c.behind, true
}

// Sent says, before Close, whether the request was sent wholly by now. If it was not when the response has ended, the
// client's connection has to end too.
func (r *Response) Sent() bool {
	return r.call == nil || r.call.stream == nil || r.call.stream.sent()
}

// Abort makes Do and Next return, with an Error of status 0. Any goroutine may call it; it concerns the exchange that is
// under way, from Do to Close, if there is one.
func (r *Response) Abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = true
	if r.cut != nil {
		r.cut.Abort()
	}
}

// Close ends the exchange. The connection is used again if all that was sent over it was read and makes sense.
func (r *Response) Close() {
	if c := r.call; c != nil {
		c.close()
	}
}

// begin makes the response that of another exchange.
func (r *Response) begin(c *call) {
	r.Status, r.Header, r.ContentLength, r.call = 0, nil, -1, c
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted, r.cut = false, nil
}

// hold says what Abort ends from now on. It returns false if the exchange was aborted already: then nothing new may be
// begun. Once it has returned, Abort touches nothing that was held before.
func (r *Response) hold(a conn.Aborter) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = a
	return !r.aborted
}

func (r *Response) isAborted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aborted
}
