package policytest

import (
	"bytes"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
	"keyward.dev/dataplane/internal/policy"
)

// body is the body of a request section; a chunked one is written as chunks, line by line.
type body struct {
	t      testing.TB
	length int64 // announced; -1: none
	data   []byte
	pieces [][]byte
	asked  bool // for all of it at once
}

// newBody decodes the body of that length, -1: it is chunked.
func newBody(t testing.TB, data []byte, length int64) *body {
	t.Helper()
	switch {
	case length == 0:
		return &body{t: t}
	case length > 0:
		return &body{t: t, length: length, data: data, pieces: [][]byte{data}}
	}
	wire := bytes.ReplaceAll(append(data, "\n\n"...), []byte("\n"), []byte("\r\n"))
	b := &body{t: t, length: -1}
	var c httpwire.Chunks
	for !c.Done() {
		piece, n, err := c.Next(wire)
		if err != nil {
			t.Fatalf("chunked body: %v", err)
		}
		wire = wire[n:]
		b.data, b.pieces = append(b.data, piece...), append(b.pieces, piece)
	}
	return b
}

// read fails the test if it needs a body that the case does not have.
func (b *body) read() {
	b.t.Helper()
	if b.length >= 0 && int64(len(b.data)) != b.length {
		b.t.Fatalf("body has %d bytes, Content-Length says %d", len(b.data), b.length)
	}
}

// ReadBody implements exchange.BodyReader.
func (b *body) ReadBody(limit int64) ([]byte, *exchange.Refusal) {
	if b.asked = true; b.length > limit {
		return nil, exchange.RefuseBodyTooLong
	}
	if b.read(); int64(len(b.data)) > limit {
		return nil, exchange.RefuseBodyTooLong
	}
	return b.data, nil
}

// pass shows the body to the chains as a server does.
func (b *body) pass(x *exchange.Exchange, chains ...*policy.Chain) policy.Verdict {
	b.read()
	pieces := b.pieces
	if replaced, ok := x.ReplacedBody(); ok {
		pieces = [][]byte{replaced}
	}
	for i, piece := range pieces {
		for _, c := range chains {
			if v := c.Body(x, piece, i == len(pieces)-1); v != policy.Next {
				return v
			}
		}
	}
	return policy.Next
}
