package httpwire

import (
	"bytes"
	"errors"

	"keyward.dev/dataplane/internal/exchange"
)

// ResponseHead is a parsed response head. Its slices point into the parsed buffer.
type ResponseHead struct {
	// Status is from 100 to 599, Minor the minor version of HTTP/1.
	Status, Minor int
	Reason        []byte
	// Fields has all fields; DropHopByHop leaves those that are passed on.
	Fields exchange.Headers
	// ContentLength is -1 if it is not given. A response to HEAD and one with status 304 gives the length that another
	// response would have.
	ContentLength int64
	Chunked       bool
	// Close: the connection ends after this message by what its version and fields say. It ends as well after a body whose
	// Framing is UntilClose, which depends on the request.
	Close bool
	// Upgrade is the value of the Upgrade field, nil without one. With status 101 it is the protocol switched to.
	Upgrade []byte
}

// Framing is how the body of a response is delimited.
type Framing uint8

// The framings of RFC 9112 section 6.3. Other bytes than those of a body may follow all but UntilClose.
const (
	NoBody Framing = iota
	ByLength
	ByChunks
	UntilClose
)

// Status codes that decide about framing.
const (
	statusSwitchingProtocols = 101
	statusNoContent          = 204
	statusNotModified        = 304
)

// Reset forgets the head but keeps the memory of its fields.
func (h *ResponseHead) Reset() {
	clear(h.Fields)
	*h = ResponseHead{Fields: h.Fields[:0]}
}

// ParseResponseHead parses the response head at the beginning of buf and returns its length. It returns ErrIncomplete
// while the head has not ended, unless it is known to be bad already: then an *Error with status 502 that wraps what is
// wrong. It is as strict as ParseHead. Limits.Target is not used.
func ParseResponseHead(buf []byte, h *ResponseHead, lim Limits) (int, error) {
	h.Reset()
	n, err := h.parse(buf[:min(len(buf), lim.Head)], lim)
	if isIncomplete(err) && len(buf) >= lim.Head {
		err = ErrHeadLong
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return 0, &Error{Status: 502, Reason: e.Reason, cause: e}
	}
	return n, err
}

func (h *ResponseHead) parse(b []byte, lim Limits) (int, error) {
	line, n, err := cutLine(b)
	if err != nil {
		return 0, err
	}
	if err := h.statusLine(line); err != nil {
		return 0, err
	}
	var size int
	if h.Fields, size, err = parseFields(b[n:], h.Fields, lim.Fields); err != nil {
		return 0, err
	}
	if err := h.interpret(); err != nil {
		return 0, err
	}
	return n + size, nil
}

// statusLine parses "HTTP/1.1 200 OK". A sender must put a space after the code even without a reason (RFC 9112 section
// 4); many do not, and nobody understands that differently.
func (h *ResponseHead) statusLine(line []byte) error {
	name, rest, _ := bytes.Cut(line, []byte{' '})
	code, reason, _ := bytes.Cut(rest, []byte{' '})
	var err error
	if h.Minor, err = version(name, ErrStatusLine); err != nil {
		return err
	}
	status, _ := parseDecimal(code) // 0 if it is malformed
	if len(code) != 3 || status < 100 || status > 599 || valueEnd(reason, 0) < len(reason) {
		return ErrStatusLine
	}
	h.Status, h.Reason = int(status), reason
	return nil
}

// interpret finds out what the fields mean for the response as a whole.
func (h *ResponseHead) interpret() error {
	s := fieldState{length: -1}
	for i := range h.Fields {
		if err := s.note(&h.Fields[i]); err != nil {
			return err
		}
	}
	if err := s.framing(h.Minor); err != nil {
		return err
	}
	h.ContentLength, h.Chunked, h.Close, h.Upgrade = s.length, s.coding, s.ends(h.Minor), s.protocol
	switch {
	case (h.Status < 200 || h.Status == statusNoContent) && (s.coding || s.length > 0):
		return ErrBodyForbidden
	case h.Status == statusSwitchingProtocols && (h.Minor == 0 || !s.upgrade || s.upgrades != 1 || len(s.protocol) == 0):
		return ErrSwitch
	}
	return nil
}

// Framing says how the body is delimited in an answer to a request with this method (RFC 9112 section 6.3).
func (h *ResponseHead) Framing(method []byte) Framing {
	switch {
	case h.Status < 200, h.Status == statusNoContent, h.Status == statusNotModified, string(method) == "HEAD",
		h.Status < 300 && string(method) == "CONNECT":
		return NoBody
	case h.Chunked:
		return ByChunks
	case h.ContentLength >= 0:
		return ByLength
	}
	return UntilClose
}
