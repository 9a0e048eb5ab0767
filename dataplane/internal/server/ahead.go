package server

import (
	"time"

	"keyward.dev/dataplane/internal/exchange"
)

// ReadBody implements exchange.BodyReader.
func (c *call) ReadBody(limit int64) ([]byte, *exchange.Refusal) {
	b := &c.body
	if !b.isAll {
		b.open(c)
		if r := b.readAhead(limit); r != nil {
			return nil, r
		}
	}
	if int64(len(b.all)) > limit {
		return nil, exchange.RefuseBodyTooLong
	}
	return b.all, nil
}

// readAhead reads all of the body before it is forwarded, because a policy needs it. It reads no further than beyond the
// limit, and what was read is kept: the request may pass without that policy.
func (b *requestBody) readAhead(limit int64) *exchange.Refusal {
	c, no := b.call, b.call.server.refusals
	announced := c.x.Request.ContentLength
	switch {
	case b.stopped:
		return b.refused
	case announced > limit:
		return exchange.RefuseBodyTooLong
	case b.n == 0 && b.takeWhole():
		return b.refused
	}
	most := announced
	if most < 0 {
		most = limit + maxPiece
	}
	for !b.ended || b.spill != nil {
		if int64(len(b.kept)) > limit {
			return exchange.RefuseBodyTooLong
		}
		if total := c.route.Call.Total; total > 0 && time.Since(c.x.Timings.Received) > total {
			return b.fail(no.timeout)
		}
		if r := b.keep(most); r != nil {
			return r
		}
	}
	b.all, b.isAll = b.kept, true
	return nil
}

// takeWhole takes the body from where it was received, if all of it is there, and says so.
func (b *requestBody) takeWhole() bool {
	p, ok := b.call.wire.whole()
	if ok && b.count(p, true) == nil {
		b.all, b.isAll = p, true
	}
	return ok
}

// keep reads the next piece and keeps it.
func (b *requestBody) keep(most int64) *exchange.Refusal {
	if b.spill == nil {
		p, err := b.call.wire.read()
		switch {
		case err != nil && !ended(err):
			if b.failed(err) != errBodyRefused { //nolint:errorlint // ours, and never wrapped
				b.gone = true
				return b.fail(b.call.server.refusals.gone)
			}
			return b.refused
		case b.count(p, err != nil || b.ends(p)) != nil:
			return b.refused
		}
		b.spill = p
	}
	kept, ok := b.call.server.bodies.add(b.kept, b.spill, most)
	if !ok {
		return b.call.server.refusals.bodyMemory
	}
	b.kept, b.spill = kept, nil
	return nil
}

// forwardAhead has what was read ahead forwarded, or what a policy has put in its place.
func (b *requestBody) forwardAhead() {
	if replaced, ok := b.call.x.ReplacedBody(); ok {
		b.all = replaced
		if r := &b.call.request; r.ContentLength >= 0 {
			r.ContentLength = int64(len(replaced))
		}
	}
	_ = b.show(b.all, true) // whether it was refused is asked later
}

// nextAhead returns the next piece that was read ahead of a body that is not whole, and whether it is the body's last; nil:
// there is none any more.
func (b *requestBody) nextAhead() (p []byte, last bool) {
	switch {
	case !b.handed && len(b.kept) > 0:
		p, b.handed = b.kept, true
	default:
		p, b.spill = b.spill, nil
	}
	return p, b.spill == nil && b.complete()
}
