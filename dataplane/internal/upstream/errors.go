package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/runtime"
)

// Error says why there is no response, or why it is not whole.
type Error struct {
	Status int    // to be answered: 502, 503 or 504; 0 if there is nobody to answer or the caller knows what
	Code   string // stable word for the log
	// RetryAfter is after how long it is worth another try; 0: not known.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return fmt.Sprintf("call upstream: %s: %v", e.Code, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// What Errors wrap that has no cause of its own.
var (
	errNoTarget  = errors.New("no target takes requests")
	errOpen      = errors.New("too many calls failed lately")
	errAborted   = errors.New("the exchange was aborted")
	errGone      = errors.New("the client is gone")
	errConnect   = errors.New("no connection in time")
	errHead      = errors.New("no answer in time")
	errIdle      = errors.New("nothing moved for too long")
	errTotal     = errors.New("the whole exchange took too long")
	errExhausted = errors.New("all connections are in use")
	errClosed    = errors.New("the connection was closed before the answer was whole")
	errTruncated = errors.New("the connection ended without close_notify")
	errSwitched  = errors.New("protocol switched that was not asked for")
	errStatus    = errors.New("the status code is none")
	errForged    = errors.New("the request head has line ends where none belong")
)

// failure is a try that gave no response to pass on.
type failure struct {
	Error
	why    runtime.RetryOn // 0: trying again is of no use
	unsent bool            // the target got nothing of the request
	stale  bool            // a kept connection turned out to be closed
	blame  bool            // it counts against the target
}

func fail(status int, code string, err error) *failure {
	return &failure{Error: Error{Status: status, Code: code, Err: err}}
}

// unreached is a failure before anything was sent.
func unreached(status int, code string, err error) *failure {
	f := fail(status, code, err)
	f.why, f.unsent, f.blame = runtime.RetryConnect, true, true
	return f
}

// handshakeError is a TLS handshake that failed.
type handshakeError struct{ cause error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.cause.Error() }
func (e *handshakeError) Unwrap() error { return e.cause }

// unconnected says what a failed dial is.
func unconnected(err error) *failure {
	var timeout interface{ Timeout() bool }
	var handshake *handshakeError
	switch {
	case errors.Is(err, errTrustLost), errors.Is(err, errNoIdentity):
		return fail(503, "upstream_tls_unavailable", err)
	case errors.Is(err, hostsvc.ErrDenied):
		return unreached(502, "egress_denied", err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return unreached(504, "connect_timeout", fmt.Errorf("%w: %w", errConnect, err))
	case errors.As(err, &handshake):
		return unreached(502, "upstream_tls", err)
	}
	return unreached(502, "upstream_unreachable", err)
}

// timedOut says whether a read or write ended because its time had passed or the connection was aborted.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errIdle)
}

// reasonName is the name of a reason to try again, in metrics.
func reasonName(r runtime.RetryOn) string {
	switch r {
	case runtime.RetryConnect:
		return "connect"
	case runtime.RetryReset:
		return "reset"
	case runtime.RetryTimeout:
		return "timeout"
	case runtime.RetryBadGateway:
		return "502"
	case runtime.RetryUnavailable:
		return "503"
	case runtime.RetryGatewayTimeout:
		return "504"
	}
	return "none"
}
