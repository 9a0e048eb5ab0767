package httpwire

import (
	"bytes"
	"iter"

	"keyward.dev/dataplane/internal/exchange"
)

// parseFields appends the field lines at the beginning of b to fields, at most so many, and returns the length they take
// with the empty line after them.
func parseFields(b []byte, fields exchange.Headers, most int) (exchange.Headers, int, error) {
	for n := 0; ; {
		if len(b)-n >= 2 && b[n] == '\r' && b[n+1] == '\n' {
			return fields, n + 2, nil
		}
		f, err := parseField(b, n)
		if err != nil {
			return fields, 0, err
		}
		if len(fields) >= most {
			return fields, 0, ErrManyFields
		}
		fields = append(fields, exchange.Header{Name: b[n:f.colon], Value: b[f.value:f.end]})
		n = f.next
	}
}

// fieldLine is where the parts of a field line are.
type fieldLine struct{ colon, value, end, next int }

// parseField reads the field line at position i of b.
func parseField(b []byte, i int) (f fieldLine, err error) {
	f.colon = i
	for f.colon < len(b) && class[b[f.colon]]&tokenByte != 0 {
		f.colon++
	}
	if f.colon == i || f.colon == len(b) || b[f.colon] != ':' {
		return f, badName(b[i:], f.colon-i)
	}
	f.value = f.colon + 1
	f.end = valueEnd(b, f.value)
	if err := lineEnd(b, f.end); err != nil {
		return f, err
	}
	f.next = f.end + len("\r\n")
	for isSpace(b[f.value]) { // the line end is none
		f.value++
	}
	for f.end > f.value && isSpace(b[f.end-1]) {
		f.end--
	}
	return f, nil
}

// badName says what is wrong with a field line whose name ends before i.
func badName(b []byte, i int) error {
	switch {
	case i == len(b), string(b) == "\r":
		return ErrIncomplete
	case b[i] == '\n':
		return ErrLineEnd
	case isSpace(b[0]):
		return ErrFieldFold
	}
	return ErrFieldName
}

// lineEnd checks that CRLF stands at i, the first byte that is not part of a field value.
func lineEnd(b []byte, i int) error {
	switch {
	case i == len(b):
		return ErrIncomplete
	case b[i] == '\n':
		return ErrLineEnd
	case b[i] != '\r':
		return ErrFieldValue
	case i+1 == len(b):
		return ErrIncomplete
	case b[i+1] != '\n':
		return ErrFieldValue
	}
	return nil
}

// fieldState is what the fields mean for the message as a whole.
type fieldState struct {
	length                   int64 // -1: not given
	coding                   bool
	options                  int  // how many connection options there are
	close, keep, upgrade     bool // some of them
	hosts, expects, upgrades int  // how many fields of these names there are; and the last of them:
	host, expect, protocol   []byte
}

// note looks at a field that decides about framing or the connection, in either direction.
func (s *fieldState) note(f *exchange.Header) error {
	switch len(f.Name) {
	case len("Host"):
		if exchange.EqualFold(f.Name, "Host") {
			s.host = f.Value
			s.hosts++
		}
	case len("Expect"):
		if exchange.EqualFold(f.Name, "Expect") {
			s.expect = f.Value
			s.expects++
		}
	case len("Upgrade"): // also Trailer
		if exchange.EqualFold(f.Name, "Upgrade") {
			s.protocol = f.Value
			s.upgrades++
		} else if exchange.EqualFold(f.Name, "Trailer") {
			return checkTrailer(f.Value)
		}
	case len("Connection"):
		if exchange.EqualFold(f.Name, "Connection") {
			return s.connection(f.Value)
		}
	case len("Content-Length"):
		if exchange.EqualFold(f.Name, "Content-Length") {
			return s.contentLength(f.Value)
		}
	case len("Transfer-Encoding"):
		if exchange.EqualFold(f.Name, "Transfer-Encoding") {
			return s.transferEncoding(f.Value)
		}
	}
	return nil
}

// maxOptions bounds connection options: each of them is a field to look for.
const maxOptions = 64

func (s *fieldState) connection(value []byte) error {
	for len(value) > 0 {
		var option []byte
		option, value = cutElement(value)
		if s.options++; s.options > maxOptions {
			return ErrManyOptions
		}
		switch len(option) {
		case len("close"):
			s.close = s.close || exchange.EqualFold(option, "close")
		case len("upgrade"):
			s.upgrade = s.upgrade || exchange.EqualFold(option, "upgrade")
		case len("keep-alive"):
			s.keep = s.keep || exchange.EqualFold(option, "keep-alive")
		}
	}
	return nil
}

func (s *fieldState) contentLength(value []byte) error {
	n, ok := parseDecimal(value)
	if s.length >= 0 || !ok {
		return ErrContentLength
	}
	s.length = n
	return nil
}

func (s *fieldState) transferEncoding(value []byte) error {
	if s.coding || !exchange.EqualFold(value, "chunked") {
		return ErrTransferCoding
	}
	s.coding = true
	return nil
}

// framing checks what the fields say about the body together.
func (s *fieldState) framing(minor int) error {
	switch {
	case s.coding && minor == 0:
		return ErrEncodingOld
	case s.coding && s.length >= 0:
		return ErrLengthTwice
	}
	return nil
}

// ends says whether the connection ends after the message.
func (s *fieldState) ends(minor int) bool { return s.close || minor == 0 && !s.keep }

// checkTrailer refuses a Trailer field that announces what may not be in a trailer.
func checkTrailer(value []byte) error {
	for name := range Announced(value) {
		if !ValidTrailerName(name) {
			return ErrTrailerName
		}
	}
	return nil
}

// Announced yields the names that the value of a Trailer field announces.
func Announced(value []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(value) > 0 {
			var name []byte
			if name, value = cutElement(value); len(name) > 0 && !yield(name) {
				return
			}
		}
	}
}

// cutElement cuts the first element off a comma-separated list.
func cutElement(list []byte) (element, rest []byte) {
	element, rest, _ = bytes.Cut(list, []byte{','})
	return trimOWS(element), rest
}
