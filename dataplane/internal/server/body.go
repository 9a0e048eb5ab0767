package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
)

var (
	errBodyRefused = errors.New("request body refused")
	errDetached    = errors.New("exchange is over")
)

// requestBody reads the client's body for the upstream, shows it to policies and counts it. The upstream's connection
// reads it on a goroutine of its own, also after the response has begun: mu guards the exchange, and detach takes it away.
type requestBody struct {
	body  io.Reader
	ctl   *http.ResponseController
	limit int64
	idle  time.Duration

	mu      sync.Mutex
	call    *call             // guarded by mu; nil once detached
	n       int64             // guarded by mu
	refused *exchange.Refusal // guarded by mu: an answer of the gateway's own
	stopped bool              // guarded by mu: the exchange holds the answer, or refused does
	ended   bool              // guarded by mu
}

func (b *requestBody) Read(p []byte) (int, error) {
	if !b.expect() {
		return 0, errDetached
	}
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.call == nil {
		return 0, errDetached
	}
	if b.stopped {
		return 0, errBodyRefused
	}
	b.n += int64(n)
	if b.n > b.limit {
		return 0, b.stop(b.call.server.refusals.body)
	}
	if err != nil && err != io.EOF {
		return n, b.failed(err)
	}
	last := err == io.EOF
	if !b.ended && (n > 0 || last) && !b.show(p[:n], last) {
		b.stopped = true
		return 0, errBodyRefused
	}
	b.ended = b.ended || last
	return n, err
}

// expect gives the client time for the next piece, unless the exchange is over: then the deadline is the server's.
func (b *requestBody) expect() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.call == nil {
		return false
	}
	_ = b.ctl.SetReadDeadline(time.Now().Add(b.idle))
	return true
}

// show gives a piece to the policies; false means that one of them refused.
func (b *requestBody) show(chunk []byte, last bool) bool {
	x := &b.call.x
	return b.call.route.Chain.Body(x, chunk, last) == policy.Next && b.call.overlay.Chain.Body(x, chunk, last) == policy.Next
}

func (b *requestBody) stop(r *exchange.Refusal) error {
	b.stopped, b.refused = true, r
	return errBodyRefused
}

// failed tells a client that is slow from one that is gone.
func (b *requestBody) failed(err error) error {
	var timeout net.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return b.stop(b.call.server.refusals.timeout)
	case errors.Is(err, errMalformedBody):
		return b.stop(b.call.server.refusals.badBody)
	case errors.As(err, &tooLarge):
		return b.stop(b.call.server.refusals.body)
	}
	return err
}

// verdict reports whether the body was refused; then either the exchange holds the answer or the refusal is returned.
func (b *requestBody) verdict() (*exchange.Refusal, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused, b.stopped
}

// detach takes the exchange away from the reader and returns how much was read.
func (b *requestBody) detach() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.call = nil
	return b.n
}

// exclusively runs fn while the body's reader is kept from the exchange.
func (c *call) exclusively(fn func()) {
	if c.body != nil {
		c.body.mu.Lock()
		defer c.body.mu.Unlock()
	}
	fn()
}
