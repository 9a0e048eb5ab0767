package server

import (
	"keyward.dev/dataplane/internal/conn"
	"keyward.dev/dataplane/internal/exchange"
)

// wire is the client's side of one exchange: what a call reads its request body from and sends its answer to. h1wire is
// our own HTTP/1.1; adaptor is net/http's, for HTTP/2 and as the second HTTP/1.1.
type wire interface {
	bodySource
	answerer
}

// bodySource is the request's body without its framing. One goroutine at a time reads it.
type bodySource interface {
	// whole returns all of the body, if it has been received already.
	whole() ([]byte, bool)
	// read waits for the next piece, which is valid until the next call. With the last piece or after it comes io.EOF.
	read() ([]byte, error)
	// trailer returns the trailer fields, after io.EOF.
	trailer() exchange.Headers
	// interrupt makes a read that waits return, from any goroutine; there are no more reads.
	interrupt()
	// abort makes all reading and writing fail, from any goroutine.
	abort()
}

// answerer sends the response.
type answerer interface {
	// interim sends a 1xx response at once, unless the final one has begun.
	interim(status int, h exchange.Headers)
	// begin takes the head of the response that the call's exchange holds, with the length of the body, -1 if it is not
	// known. It may be sent with the first piece only.
	begin(c *call, length int64)
	// write takes a piece of the body; with flush everything taken is sent before it returns.
	write(p []byte, flush bool) error
	// finish sends what is left and ends the response.
	finish(trailer exchange.Headers) error
	// hijack hands over the connection after a 101 was sent, with what the client has sent since.
	hijack(c *call) (*conn.Conn, []byte, error)
}
