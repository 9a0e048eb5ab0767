package httpwire

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// Limits bound a request head.
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
	// Close: the connection ends after this exchange. Upgrade: the client offers a protocol switch.
	Close, Upgrade, ExpectContinue bool
}

// Reset forgets the head but keeps the memory of its fields.
func (h *Head) Reset() {
	clear(h.Fields)
	*h = Head{Fields: h.Fields[:0]}
}

// ParseHead parses the request head at the beginning of buf and returns its length. It returns ErrIncomplete while the
// head has not ended and an *Error as soon as it is known to be bad. Callers skip empty lines before a request
// (RFC 9112 section 2.2) themselves.
func ParseHead(buf []byte, h *Head, lim Limits) (int, error) {
	h.Reset()
	s := fieldState{length: -1}
	n, err := h.requestLine(buf, lim)
	if err != nil {
		return 0, err
	}
	for {
		line, size, err := cutLine(buf[n:])
		if err != nil {
			return 0, incomplete(err, len(buf), lim.Head)
		}
		n += size
		if n > lim.Head {
			return 0, ErrHeadLong
		}
		if len(line) == 0 {
			break
		}
		if len(h.Fields) >= lim.Fields {
			return 0, ErrManyFields
		}
		f, err := parseField(line)
		if err != nil {
			return 0, err
		}
		h.Fields = append(h.Fields, f)
		if err := h.note(f, &s); err != nil {
			return 0, err
		}
	}
	return n, h.conclude(&s)
}

// incomplete turns a missing line end into an error once the head may not grow any more.
func incomplete(err error, have, limit int) error {
	if err == ErrIncomplete && have >= limit { //nolint:errorlint // ours, and never wrapped
		return ErrHeadLong
	}
	return err
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

func (h *Head) requestLine(buf []byte, lim Limits) (int, error) {
	line, n, err := cutLine(buf)
	if err != nil {
		if err == ErrIncomplete && len(buf) > lim.Target+maxMethod+len(" HTTP/1.1 ") { //nolint:errorlint // ours, and never wrapped
			return 0, ErrTargetLong
		}
		return 0, incomplete(err, len(buf), lim.Head)
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
	if err := h.version(line); err != nil {
		return 0, err
	}
	return n, h.target()
}

// maxMethod is longer than any registered method.
const maxMethod = 32

func (h *Head) version(v []byte) error {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || !isDigit(v[5]) || v[6] != '.' || !isDigit(v[7]) {
		return ErrRequestLine
	}
	if v[5] != '1' || v[7] > '1' {
		return ErrVersion
	}
	h.Minor = int(v[7] - '0')
	return nil
}

func parseField(line []byte) (exchange.Header, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return exchange.Header{}, ErrFieldFold
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !isToken(line[:colon]) {
		return exchange.Header{}, ErrFieldName
	}
	value := trimOWS(line[colon+1:])
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return exchange.Header{}, ErrFieldValue
		}
	}
	return exchange.Header{Name: line[:colon], Value: value}, nil
}

// fieldState is what the fields seen so far mean for the message as a whole.
type fieldState struct {
	length                            int64
	host, coding, close, keep, expect bool
	hostValue                         []byte
}

// note looks at the fields that decide about framing and connection.
func (h *Head) note(f exchange.Header, s *fieldState) error {
	switch len(f.Name) {
	case len("Host"):
		if exchange.EqualFold(f.Name, "Host") {
			if s.host || !validAuthority(f.Value) {
				return ErrHost
			}
			s.host, s.hostValue = true, f.Value
		}
	case len("Expect"):
		if exchange.EqualFold(f.Name, "Expect") {
			return h.expect(f.Value, s)
		}
	case len("Upgrade"): // also Trailer
		if exchange.EqualFold(f.Name, "Upgrade") {
			h.Upgrade = true
		} else if exchange.EqualFold(f.Name, "Trailer") && badTrailer(f.Value) {
			return ErrTrailerName
		}
	case len("Connection"):
		if exchange.EqualFold(f.Name, "Connection") {
			s.close = s.close || exchange.HasToken(f.Value, "close")
			s.keep = s.keep || exchange.HasToken(f.Value, "keep-alive")
		}
	case len("Content-Length"):
		if exchange.EqualFold(f.Name, "Content-Length") {
			return noteLength(f.Value, s)
		}
	case len("Transfer-Encoding"):
		if exchange.EqualFold(f.Name, "Transfer-Encoding") {
			return h.coding(f.Value, s)
		}
	}
	return nil
}

func (h *Head) expect(value []byte, s *fieldState) error {
	if s.expect || !exchange.EqualFold(value, "100-continue") {
		return ErrExpectation
	}
	s.expect = true
	h.ExpectContinue = h.Minor > 0 // RFC 9110 section 10.1.1: ignored in HTTP/1.0
	return nil
}

func noteLength(value []byte, s *fieldState) error {
	n, ok := parseDecimal(value)
	if s.length >= 0 || !ok {
		return ErrContentLength
	}
	s.length = n
	return nil
}

func (h *Head) coding(value []byte, s *fieldState) error {
	if h.Minor == 0 {
		return ErrEncodingOld
	}
	if s.coding || !exchange.EqualFold(value, "chunked") {
		return ErrTransferCoding
	}
	s.coding = true
	return nil
}

func (h *Head) conclude(s *fieldState) error {
	if s.coding && s.length >= 0 {
		return ErrLengthTwice
	}
	if !s.host && h.Minor > 0 {
		return ErrHost
	}
	if h.Host == nil {
		h.Host = s.hostValue
	} else if s.host && !sameAuthority(h.Host, s.hostValue) {
		return ErrHostMismatch
	}
	h.Chunked, h.ContentLength = s.coding, max(s.length, 0)
	if s.coding {
		h.ContentLength = -1
	}
	h.Close = s.close || h.Minor == 0 && !s.keep
	return nil
}

func badTrailer(v []byte) bool {
	return exchange.HasToken(v, "Transfer-Encoding") || exchange.HasToken(v, "Content-Length") || exchange.HasToken(v, "Trailer")
}
