package upstream

import (
	"bytes"
	"strconv"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpwire"
)

// appendHead appends the head of the request. ok is false if a line end stands where none belongs: nothing that was
// parsed or checked can have one, so this is the last line of defence against a head that two would read as different
// requests.
func (h *http1) appendHead(b []byte) (out []byte, ok bool) {
	c, r := h.call, h.call.req
	b = httpwire.AppendRequestLine(b, r.Method, h.target())
	ok = bytes.Count(b, []byte(" ")) == 2
	b = append(b, "Host: "...)
	b = c.view.appendHost(b, r, c.target)
	b = append(b, "\r\n"...)
	lines := 3 // with the empty one
	for i := range r.Header {
		if f := &r.Header[i]; !ours(f.Name) {
			b = httpwire.AppendField(b, f.Name, f.Value)
			lines++
		}
	}
	if len(r.Upgrade) > 0 {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, r.Upgrade...)
		b = append(b, "\r\n"...)
		lines += 2
	}
	before := len(b)
	if b = c.appendFraming(b); len(b) > before {
		lines++
	}
	b = append(b, "\r\n"...)
	return b, ok && bytes.Count(b, []byte("\n")) == lines && bytes.Count(b, []byte("\r")) == lines && bytes.IndexByte(b, 0) < 0
}

// target is the request target.
func (h *http1) target() []byte {
	r := h.call.req
	if r.Query == nil {
		return r.Path
	}
	h.line = append(append(append(h.line[:0], r.Path...), '?'), r.Query...)
	return h.line
}

// ours are fields that are written here, whatever else says.
func ours(name []byte) bool {
	switch len(name) {
	case len("Host"):
		return exchange.EqualFold(name, "Host")
	case len("Expect"):
		return exchange.EqualFold(name, "Expect")
	case len("Upgrade"):
		return exchange.EqualFold(name, "Upgrade")
	case len("Connection"):
		return exchange.EqualFold(name, "Connection")
	case len("Content-Length"):
		return exchange.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return exchange.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// chunked says whether the body is sent in chunks: its length is not known, or a trailer follows it.
func (c *call) chunked() bool {
	if c.req.Body == nil || c.req.ContentLength >= 0 {
		return false
	}
	return !c.isWhole || len(c.req.Body.Trailer()) > 0
}

// appendFraming appends how the body is delimited; nothing without one, unless one would be expected (RFC 9110 section
// 8.6).
func (c *call) appendFraming(b []byte) []byte {
	if c.chunked() {
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	n := c.length()
	if n == 0 && c.req.Body == nil {
		switch string(c.req.Method) {
		case "POST", "PUT", "PATCH":
		default:
			return b
		}
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// length is the length of a body that is not sent in chunks.
func (c *call) length() int64 {
	if c.isWhole {
		return int64(len(c.whole))
	}
	return c.req.ContentLength
}

// appendWhole appends a body that is in memory.
func (h *http1) appendWhole(b []byte) []byte {
	c := h.call
	if !c.chunked() {
		return append(b, c.whole...)
	}
	return h.appendEnd(httpwire.AppendChunk(b, c.whole))
}

// appendEnd appends the end of a body in chunks.
func (h *http1) appendEnd(b []byte) []byte {
	h.trailers = h.trailers[:0]
	for _, f := range h.call.req.Body.Trailer() {
		if httpwire.ValidTrailerName(f.Name) && !bytes.ContainsAny(f.Value, "\r\n\x00") {
			h.trailers = append(h.trailers, f)
		}
	}
	return httpwire.AppendLastChunk(b, h.trailers)
}
