package upstream

import (
	"net/netip"
	"slices"

	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/runtime"
)

// Request is what is sent. It is the caller's, who uses it again and again; it must stay as it is until Response.Close.
type Request struct {
	Service *runtime.Service
	// Options are the route's; nil: the service's.
	Options *runtime.CallOptions
	// Settings has the egress rules.
	Settings *runtime.Settings

	// Method, Path and Query go out byte for byte. Query is nil without one.
	Method, Path, Query []byte
	// Host is the Host the client sent, for services that are to see it.
	Host []byte
	// Header are the fields but those that concern one connection only, Host, Content-Length and Expect.
	Header exchange.Headers
	// ContentLength is the length of the body: 0 without one, -1 if it is unknown.
	ContentLength int64
	// Body is nil without one.
	Body Body
	// Upgrade is the protocol to switch to; nil: none. Over HTTP/2 there is no such thing, and it is left out.
	Upgrade []byte

	// ClientIP is what a consistent hash falls back on.
	ClientIP netip.Addr
	// Client is the client's connection, which is watched until Close: if the client goes away, the exchange is aborted.
	// Without it the end of Do's context says so.
	Client *conn.Conn
	// Informational gets each interim response but 100 and 101; nil: they are dropped. What it is given is valid until it
	// returns.
	Informational func(status int, h exchange.Headers)
}

// Body gives the body of a request piece by piece. One goroutine uses it at a time, not always the one that called Do.
type Body interface {
	// Whole returns all of the body if it is in memory already. Then Next is not called.
	Whole() ([]byte, bool)
	// Next returns the next piece, valid until the next call, and io.EOF, with no data, after the last. It is not called
	// again once ContentLength bytes have come.
	Next() ([]byte, error)
	// Trailer returns the trailer, after io.EOF or with a body that is whole.
	Trailer() exchange.Headers
	// Abort ends a Next that waits, and all later ones. Any goroutine may call it.
	Abort()
}

// idempotent are the methods that may be repeated (RFC 9110 section 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// repeatable says whether the method may be repeated although the target may have seen the request.
func repeatable(method []byte, listed []string) bool {
	if listed == nil {
		return idempotent(method)
	}
	return slices.Contains(listed, string(method))
}
