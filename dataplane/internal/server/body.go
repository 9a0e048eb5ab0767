package server

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/policy"
)

// errBodyRefused ends the sending of a body that a limit or a policy refused.
var errBodyRefused = errors.New("request body refused")

// requestBody is the client's body on its way to the upstream: it is counted, limited and shown to policies. Package
// upstream may read it on another goroutine while the response has begun already; mu keeps that from the exchange while
// policies look at the response.
type requestBody struct {
	call  *call
	limit int64

	mu      sync.Mutex
	n       int64
	refused *exchange.Refusal // an answer of the gateway's own
	stopped bool              // the exchange holds the answer, or refused does
	ended   bool              // all of it was read
	passed  bool              // all of it was shown to policies

	all    []byte // the whole body
	isAll  bool
	handed bool // all was handed on by Next, or kept was

	// kept is what was read ahead, in memory of the server's; spill what was read after it and is not kept, for lack of that.
	kept, spill []byte
	gone        bool // so is the client: it was while the body was read ahead
}

// reset forgets the body. Nobody reads it any more.
func (b *requestBody) reset() {
	if b.kept != nil {
		b.call.server.bodies.give(b.kept)
	}
	b.call, b.limit, b.n, b.refused, b.stopped, b.ended, b.passed = nil, 0, 0, nil, false, false, false
	b.all, b.isAll, b.handed = nil, false, false
	b.kept, b.spill, b.gone = nil, nil, false
}

// open makes the body one of the call's.
func (b *requestBody) open(c *call) {
	b.call, b.limit = c, c.route.MaxBody
	c.h1.idle = c.route.Call.Idle
}

// begin has the body forwarded. It is taken if it is there already.
func (b *requestBody) begin(c *call) {
	b.open(c)
	switch {
	case b.stopped:
	case b.isAll || b.n == 0 && b.takeWhole() && b.isAll:
		b.forwardAhead()
	}
}

// Whole returns all of the body if it is in memory.
func (b *requestBody) Whole() ([]byte, bool) { return b.all, b.isAll }

// Next returns the next piece.
func (b *requestBody) Next() ([]byte, error) {
	if b.isAll {
		if b.handed {
			return nil, io.EOF
		}
		b.handed = true
		return b.all, nil
	}
	if p, last := b.nextAhead(); p != nil {
		return p, b.show(p, last)
	}
	if b.complete() {
		return nil, io.EOF
	}
	p, err := b.call.wire.read()
	if err != nil && !ended(err) {
		return nil, b.failed(err)
	}
	if err := b.took(p, err != nil || b.ends(p)); err != nil {
		return nil, err
	}
	if len(p) > 0 {
		return p, nil
	}
	return nil, err
}

// ends says whether a body of a known length ends with this piece: nobody asks for more then.
func (b *requestBody) ends(p []byte) bool { return b.n+int64(len(p)) == b.call.x.Request.ContentLength }

// took counts a piece and shows it to the policies.
func (b *requestBody) took(p []byte, last bool) error {
	if err := b.count(p, last); err != nil {
		return err
	}
	return b.show(p, last)
}

// count counts a piece that was read.
func (b *requestBody) count(p []byte, last bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return errBodyRefused
	}
	b.n += int64(len(p))
	if b.n > b.limit {
		return b.stop(b.call.server.refusals.body)
	}
	b.ended = b.ended || last
	return nil
}

// show gives a piece to the policies.
func (b *requestBody) show(p []byte, last bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return errBodyRefused
	}
	c := b.call
	if !b.passed && (len(p) > 0 || last) &&
		(c.route.Chain.Body(&c.x, p, last) != policy.Next || c.overlay.Chain.Body(&c.x, p, last) != policy.Next) {
		return b.stop(nil)
	}
	b.passed = b.passed || last
	return nil
}

// fail refuses the body for good.
func (b *requestBody) fail(r *exchange.Refusal) *exchange.Refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.stop(r)
	return r
}

func (b *requestBody) stop(r *exchange.Refusal) error {
	b.stopped, b.refused = true, r
	return errBodyRefused
}

// failed tells a client that is slow or talks nonsense from one that is gone.
func (b *requestBody) failed(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var timeout net.Error
	no := b.call.server.refusals
	switch malformed, ok := errors.AsType[*httpwire.Error](err); {
	case ok && malformed.Status == 431:
		return b.stop(no.headers)
	case ok, errors.Is(err, errMalformedBody):
		return b.stop(no.badBody)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return b.stop(no.timeout)
	}
	return err
}

// Trailer returns the trailer fields after io.EOF.
func (b *requestBody) Trailer() exchange.Headers {
	trailer := b.call.wire.trailer()
	b.call.rt.Settings.CallerFields.Remove(&trailer) // servers that merge it into the header would believe it
	return trailer
}

// Abort makes a Next that waits return.
func (b *requestBody) Abort() {
	if !b.complete() {
		b.call.wire.interrupt()
	}
}

// complete says whether all of the body was read.
func (b *requestBody) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// unread says whether there is more to read of a body of that length; -1: it is not known.
func (b *requestBody) unread(length int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.ended && (length < 0 || b.n < length)
}
