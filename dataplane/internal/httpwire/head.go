package httpwire

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// Limits bound a head.
type Limits struct {
	// Head bounds the bytes of the head, Target those of the request target, Fields the number of header fields.
	Head, Target, Fields int
}

// Head is a parsed request head. Its slices point into the parsed buffer.
type Head struct {
	Method []byte
	// Target is the request target as received.
	Target []byte
	// Path and Query are the parts of an origin-form or absolute-form target; Query is nil without '?'. Path is empty in
	// an absolute-form target without path, "*" in asterisk-form, nil in authority-form.
	Path, Query []byte
	// Scheme is the lower-case scheme of an absolute-form target, else empty.
	Scheme string
	// Host is the authority the request is for: host and optional port. Empty only in HTTP/1.0.
	Host []byte
	// Minor is the minor version of HTTP/1.
	Minor  int
	Fields exchange.Headers
	// ContentLength is the length of the body, 0 without one, -1 if Chunked.
	ContentLength int64
	Chunked       bool
	// Close: the connection ends after this exchange. Upgrade: the client offers a protocol switch, by an Upgrade field
	// and the connection option of that name.
	Close, Upgrade, ExpectContinue bool
}

// Reset forgets the head but keeps the memory of its fields.
func (h *Head) Reset() {
	clear(h.Fields)
	*h = Head{Fields: h.Fields[:0]}
}

// HeadEnd looks for the empty line that ends a head. It goes on at from (0 at first) and returns the length of the head, or
// 0 and where to go on looking when more has come. Bare LFs end lines here, so that a malformed head is parsed, and
// refused, at once. Most heads come whole: parse first, and look for the end only if that gave ErrIncomplete.
func HeadEnd(buf []byte, from int) (length, next int) {
	if n := emptyLine(buf); n > 0 || string(buf) == "\r" {
		return n, 0
	}
	for next = from; ; next++ {
		i := bytes.IndexByte(buf[next:], '\n')
		if i < 0 {
			return 0, len(buf)
		}
		next += i
		after := buf[next+1:]
		if n := emptyLine(after); n > 0 {
			return next + 1 + n, 0
		}
		if len(after) == 0 || string(after) == "\r" {
			return 0, next
		}
	}
}

// emptyLine returns the length of the line end at the beginning of b, or 0.
func emptyLine(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// ParseHead parses the request head at the beginning of buf and returns its length. It returns ErrIncomplete while the
// head has not ended, unless it is known to be bad already: then an *Error. Callers skip empty lines before a request
// (RFC 9112 section 2.2) themselves.
func ParseHead(buf []byte, h *Head, lim Limits) (int, error) {
	h.Reset()
	n, err := h.parse(buf[:min(len(buf), lim.Head)], lim)
	if isIncomplete(err) && len(buf) >= lim.Head {
		return 0, ErrHeadLong
	}
	return n, err
}

func (h *Head) parse(b []byte, lim Limits) (int, error) {
	n, err := h.requestLine(b, lim)
	if err != nil {
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

// cutLine returns the line without its CRLF and its size with it.
func cutLine(b []byte) (line []byte, size int, err error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, 0, ErrIncomplete
	}
	if i == 0 || b[i-1] != '\r' {
		return nil, 0, ErrLineEnd
	}
	return b[:i-1], i + 1, nil
}

func (h *Head) requestLine(b []byte, lim Limits) (int, error) {
	line, n, err := cutLine(b)
	if isIncomplete(err) && len(b) > maxMethod+lim.Target+len(" HTTP/1.1 \r") {
		return 0, ErrTargetLong
	}
	if err != nil {
		return 0, err
	}
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 {
		return 0, ErrRequestLine
	}
	if sp > maxMethod || !isToken(line[:sp]) {
		return 0, ErrMethod
	}
	h.Method, line = line[:sp], line[sp+1:]
	if sp = bytes.IndexByte(line, ' '); sp <= 0 {
		return 0, ErrRequestLine
	}
	h.Target, line = line[:sp], line[sp+1:]
	if len(h.Target) > lim.Target {
		return 0, ErrTargetLong
	}
	if h.Minor, err = version(line, ErrRequestLine); err != nil {
		return 0, err
	}
	return n, h.target()
}

// maxMethod is longer than any registered method.
const maxMethod = 32

// version returns the minor version of HTTP/1.
func version(v []byte, malformed error) (int, error) {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || !isDigit(v[5]) || v[6] != '.' || !isDigit(v[7]) {
		return 0, malformed
	}
	if v[5] != '1' || v[7] > '1' {
		return 0, ErrVersion
	}
	return int(v[7] - '0'), nil
}

// interpret finds out what the fields mean for the request as a whole.
func (h *Head) interpret() error {
	s := fieldState{length: -1}
	for i := range h.Fields {
		if err := s.note(&h.Fields[i]); err != nil {
			return err
		}
	}
	if err := s.framing(h.Minor); err != nil {
		return err
	}
	if s.expects > 1 || s.expects == 1 && !exchange.EqualFold(s.expect, "100-continue") {
		return ErrExpectation
	}
	h.Chunked, h.ContentLength = s.coding, max(s.length, 0)
	if s.coding {
		h.ContentLength = -1
	}
	h.Close = s.ends(h.Minor)
	h.ExpectContinue = s.expects > 0 && h.Minor > 0             // RFC 9110 section 10.1.1: ignored in HTTP/1.0
	h.Upgrade = len(s.protocol) > 0 && s.upgrade && h.Minor > 0 // RFC 9110 section 7.8: as well
	return h.authority(&s)
}

// authority decides between the authority of the target and that of Host, which have to agree.
func (h *Head) authority(s *fieldState) error {
	switch {
	case s.hosts == 0 && h.Minor == 0:
	case s.hosts != 1, !validAuthority(s.host):
		return ErrHost
	case h.Host == nil:
		h.Host = s.host
	case !sameName(h.Host, s.host):
		return ErrHostMismatch
	}
	return nil
}
