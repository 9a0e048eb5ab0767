package httpsig

import "encoding/base64"

// scanner reads a structured field (RFC 9651) and writes it down in its one canonical form.
type scanner struct {
	in  []byte
	at  int
	out builder
}

type kind uint8

const (
	kindInteger kind = iota + 1
	kindDecimal
	kindString
	kindToken
	kindBytes
	kindBoolean
	kindDate
	kindDisplay
)

// value is a bare item.
type value struct {
	kind kind
	n    int64  // of an integer, a date or a boolean
	text []byte // of a string without its quotes and escapes, of a token, and of bytes in Base64
}

func (s *scanner) more() bool { return s.at < len(s.in) }

func (s *scanner) next(c byte) bool {
	if s.more() && s.in[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) spaces() {
	for s.next(' ') {
	}
}

func (s *scanner) blanks() {
	for s.more() && (s.in[s.at] == ' ' || s.in[s.at] == '\t') {
		s.at++
	}
}

// comma reads what separates the members of a list; more is false at the end of the field.
func (s *scanner) comma() (more bool, err error) {
	s.blanks()
	if !s.more() {
		return false, nil
	}
	if !s.next(',') {
		return false, ErrMalformed
	}
	if s.blanks(); !s.more() {
		return false, ErrMalformed // a comma at the end
	}
	return true, nil
}

// key reads the name of a parameter or of a dictionary's member.
func (s *scanner) key() ([]byte, error) {
	from := s.at
	for s.more() {
		c := s.in[s.at]
		first := 'a' <= c && c <= 'z' || c == '*'
		if !first && (s.at == from || (c < '0' || c > '9') && c != '_' && c != '-' && c != '.') {
			break
		}
		s.at++
	}
	if s.at == from {
		return nil, ErrMalformed
	}
	s.out.bytes(s.in[from:s.at])
	return s.in[from:s.at], nil
}

// bare reads a bare item.
func (s *scanner) bare(v *value) error {
	*v = value{}
	if !s.more() {
		return ErrMalformed
	}
	switch c := s.in[s.at]; {
	case c == '-' || '0' <= c && c <= '9':
		return s.number(v)
	case c == '"':
		return s.string(v)
	case c == ':':
		return s.byteSequence(v)
	case c == '?':
		return s.boolean(v)
	case c == '@':
		s.at++
		s.out.byte('@')
		if err := s.number(v); err != nil || v.kind != kindInteger {
			return ErrMalformed
		}
		v.kind = kindDate
		return nil
	case c == '%':
		return s.display(v)
	case c == '*' || 'a' <= lower(c) && lower(c) <= 'z':
		return s.token(v)
	}
	return ErrMalformed
}

// number reads an integer of up to 15 digits, or a decimal of up to 12 and 3.
func (s *scanner) number(v *value) error {
	negative := s.next('-')
	from := s.at
	for s.more() && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
		v.n = v.n*10 + int64(s.in[s.at]-'0')
		if s.at++; s.at-from > 15 {
			return ErrMalformed
		}
	}
	digits := s.in[from:s.at]
	if len(digits) == 0 {
		return ErrMalformed
	}
	var fraction []byte
	if v.kind = kindInteger; s.next('.') {
		dot := s.at
		for s.more() && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
			s.at++
		}
		fraction, v.kind = s.in[dot:s.at], kindDecimal
		if len(digits) > 12 || len(fraction) == 0 || len(fraction) > 3 {
			return ErrMalformed
		}
	}
	s.writeNumber(negative, digits, fraction)
	if negative {
		v.n = -v.n
	}
	return nil
}

// writeNumber leaves out what means nothing: zeros before and after, and the sign of zero.
func (s *scanner) writeNumber(negative bool, digits, fraction []byte) {
	for len(digits) > 1 && digits[0] == '0' {
		digits = digits[1:]
	}
	for len(fraction) > 1 && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	if negative && (string(digits) != "0" || len(fraction) > 0 && string(fraction) != "0") {
		s.out.byte('-')
	}
	s.out.bytes(digits)
	if len(fraction) > 0 {
		s.out.byte('.')
		s.out.bytes(fraction)
	}
}

func (s *scanner) string(v *value) error {
	from := s.at
	escapes := 0
	for s.at++; s.more(); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			s.out.bytes(s.in[from:s.at])
			v.kind, v.text = kindString, s.in[from+1:s.at-1]
			if escapes > 0 {
				v.text = s.unescaped(v.text)
			}
			return nil
		case c == '\\':
			escapes++
			if s.at++; !s.more() || s.in[s.at] != '"' && s.in[s.at] != '\\' {
				return ErrMalformed
			}
		case c < ' ' || c > '~':
			return ErrMalformed
		}
	}
	return ErrMalformed
}

func (s *scanner) unescaped(b []byte) []byte {
	o := builder{mem: s.out.mem}
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' {
			i++
		}
		o.byte(b[i])
	}
	return o.b
}

func (s *scanner) token(v *value) error {
	from := s.at
	for s.at++; s.more() && tokenByte(s.in[s.at]); s.at++ {
	}
	v.kind, v.text = kindToken, s.in[from:s.at]
	s.out.bytes(v.text)
	return nil
}

// tokenByte: a tchar of RFC 9110, a colon or a slash.
func tokenByte(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~', ':', '/':
		return true
	}
	return '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'z'
}

// byteSequence reads Base64 in the one form there is of it: padded, without bits that mean nothing.
func (s *scanner) byteSequence(v *value) error {
	from := s.at
	for s.at++; s.more() && s.in[s.at] != ':'; s.at++ {
	}
	if !s.next(':') {
		return ErrMalformed
	}
	v.kind, v.text = kindBytes, s.in[from+1:s.at-1]
	for _, c := range v.text {
		if c == '\r' || c == '\n' { // which decoders pass over
			return ErrMalformed
		}
	}
	s.out.bytes(s.in[from:s.at])
	return nil
}

// decoded is what the Base64 of a byte sequence stands for.
func decoded(text []byte, mem Memory) ([]byte, error) {
	n := base64.StdEncoding.DecodedLen(len(text))
	out, err := base64.StdEncoding.Strict().AppendDecode(mem.Alloc(n), text)
	if err != nil {
		return nil, ErrMalformed
	}
	return out, nil
}

func (s *scanner) boolean(v *value) error {
	s.at++
	switch {
	case s.next('0'):
		v.kind, v.n = kindBoolean, 0
		s.out.text("?0")
	case s.next('1'):
		v.kind, v.n = kindBoolean, 1
		s.out.text("?1")
	default:
		return ErrMalformed
	}
	return nil
}

// display reads a string of Unicode, which is kept as it is written.
func (s *scanner) display(v *value) error {
	from := s.at
	if s.at++; !s.next('"') {
		return ErrMalformed
	}
	for ; s.more(); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			v.kind, v.text = kindDisplay, s.in[from:s.at]
			s.out.bytes(v.text)
			return nil
		case c == '%':
			if s.at += 2; !s.more() || !lowerHex(s.in[s.at-1]) || !lowerHex(s.in[s.at]) {
				return ErrMalformed
			}
		case c < ' ' || c > '~':
			return ErrMalformed
		}
	}
	return ErrMalformed
}

func lowerHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
