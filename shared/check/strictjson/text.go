package strictjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string; mostly it has no escapes.
func (r *reader) text() (string, error) {
	r.at++
	from := r.at
	for r.at < len(r.b) {
		switch c := r.b[r.at]; {
		case c == '"':
			s := string(r.b[from:r.at])
			r.at++
			return s, nil
		case c == '\\':
			return r.escaped(from)
		case c < ' ':
			return "", ErrSyntax
		}
		r.at++
	}
	return "", ErrSyntax
}

// escaped goes on where the first escape is.
func (r *reader) escaped(from int) (string, error) {
	out := append(make([]byte, 0, 2*(r.at-from)+16), r.b[from:r.at]...)
	for r.at < len(r.b) {
		c := r.b[r.at]
		r.at++
		switch {
		case c == '"':
			return string(out), nil
		case c < ' ':
			return "", ErrSyntax
		case c == '\\':
			var err error
			if out, err = r.escape(out); err != nil {
				return "", err
			}
		default:
			out = append(out, c)
		}
	}
	return "", ErrSyntax
}

// escape reads what follows a backslash.
func (r *reader) escape(out []byte) ([]byte, error) {
	c := r.peek()
	r.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		return r.unicode(out)
	}
	return nil, ErrSyntax
}

// unicode reads four hex digits, and the other half of a pair.
func (r *reader) unicode(out []byte) ([]byte, error) {
	first, ok := r.hex()
	if !ok {
		return nil, ErrSyntax
	}
	if !utf16.IsSurrogate(first) {
		return utf8.AppendRune(out, first), nil
	}
	if !r.word(`\u`) {
		return nil, ErrEncoding
	}
	second, ok := r.hex()
	if !ok {
		return nil, ErrSyntax
	}
	pair := utf16.DecodeRune(first, second)
	if pair == utf8.RuneError {
		return nil, ErrEncoding
	}
	return utf8.AppendRune(out, pair), nil
}

func (r *reader) hex() (rune, bool) {
	if len(r.b)-r.at < 4 {
		return 0, false
	}
	var v rune
	for range 4 {
		c := r.b[r.at]
		r.at++
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			v = v<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
