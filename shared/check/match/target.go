package match

import (
	"errors"
)

// Errors of Target and Path. All of them are answered 400.
var (
	ErrForm      = errors.New("target is not an absolute path")
	ErrCharacter = errors.New("target has a character that is not allowed")
	ErrEscape    = errors.New("target has a broken percent-encoding")
	ErrAboveRoot = errors.New("target climbs above the root")
	ErrAmbiguous = errors.New("target has a meaning that differs between servers")
)

// Class of a byte in a path.
const (
	plain  = iota // stands for itself
	encode        // not a pchar: written percent-encoded
	look          // needs a closer look: '%', '.', '/', ';', '\'
	refuse        // never in a target: controls, space, '#', '?', non-ASCII
)

// classes is the class of every byte. RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@".
var classes = buildClasses()

func buildClasses() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		switch {
		case c <= ' ' || c >= 0x7f || c == '#' || c == '?':
			t[i] = refuse
		case c == '%' || c == '.' || c == '/' || c == ';' || c == '\\':
			t[i] = look
		case unreserved(c) || contains("!$&'()*+,=:@", c):
			t[i] = plain
		default:
			t[i] = encode
		}
	}
	return t
}

func contains(set string, c byte) bool {
	for i := range len(set) {
		if set[i] == c {
			return true
		}
	}
	return false
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// Target splits a request target in origin form into its normalised path and its query. Unreserved characters are
// decoded, other escapes keep their meaning with upper-case digits, dot segments are resolved. Strict refuses what other
// servers may read differently: encoded NUL, slash and backslash, backslashes, empty segments, encoded dots that would
// change segments, and `;` parameters; else they are kept as data. A target that is normal already is returned as a
// slice of raw without copying, else the path is built in buf. The query is never changed.
func Target(buf, raw []byte, strict bool) (path, query []byte, err error) {
	path = raw
	for i, c := range raw {
		if c == '?' {
			path, query = raw[:i], raw[i+1:]
			break
		}
	}
	if err := checkQuery(query); err != nil {
		return nil, nil, err
	}
	if len(path) == 0 || path[0] != '/' {
		return nil, nil, ErrForm
	}
	if normal(path) {
		return path, query, nil
	}
	path, err = rewrite(buf[:0], path, strict)
	return path, query, err
}

// Path normalises a path of a document, so that it is compared with what Target makes of requests.
func Path(p string) (string, error) {
	raw := []byte(p)
	if len(raw) == 0 || raw[0] != '/' {
		return "", ErrForm
	}
	out, err := rewrite(nil, raw, false)
	return string(out), err
}

// checkQuery refuses what cannot stand in a request line. Everything else in a query is data.
func checkQuery(query []byte) error {
	for _, c := range query {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return ErrCharacter
		}
	}
	return nil
}

// normal reports whether path needs no change under either policy. It may say no to one that would not change either.
func normal(path []byte) bool {
	prev := byte(0)
	for _, c := range path {
		switch classes[c] {
		case plain:
		case look:
			if c != '.' && c != '/' || prev == '/' {
				return false // an escape, a parameter, an empty segment or one that begins with a dot
			}
		default:
			return false
		}
		prev = c
	}
	return true
}

// rewrite normalises segment by segment.
func rewrite(out, path []byte, strict bool) ([]byte, error) {
	for i := 0; i < len(path); { // path[i] is the slash before a segment
		end := i + 1
		for end < len(path) && path[end] != '/' {
			end++
		}
		if strict && end == i+1 && end < len(path) {
			return nil, ErrAmbiguous // an empty segment; only the last may be empty
		}
		start := len(out)
		var encodedDot bool
		var err error
		out, encodedDot, err = segment(append(out, '/'), path[i+1:end], strict)
		if err != nil {
			return nil, err
		}
		out, err = resolve(out, start, end == len(path), encodedDot, strict)
		if err != nil {
			return nil, err
		}
		i = end
	}
	return out, nil
}

// segment appends one normalised segment.
func segment(out, seg []byte, strict bool) (_ []byte, encodedDot bool, err error) {
	for i := 0; i < len(seg); i++ {
		c := seg[i]
		switch classes[c] {
		case plain:
			out = append(out, c)
		case encode:
			out = appendEscape(out, c)
		case refuse:
			return nil, false, ErrCharacter
		default:
			switch c {
			case '%':
				v, ok := escape(seg[i:])
				if !ok {
					return nil, false, ErrEscape
				}
				if strict && (v == 0 || v == '/' || v == '\\') {
					return nil, false, ErrAmbiguous
				}
				encodedDot = encodedDot || v == '.'
				if unreserved(v) {
					out = append(out, v)
				} else {
					out = appendEscape(out, v)
				}
				i += 2
			case '\\':
				if strict {
					return nil, false, ErrAmbiguous
				}
				out = appendEscape(out, c)
			case ';':
				if strict {
					return nil, false, ErrAmbiguous
				}
				out = append(out, c)
			default:
				out = append(out, c)
			}
		}
	}
	return out, encodedDot, nil
}

// resolve applies the segment out[start:] if it is "/." or "/..".
func resolve(out []byte, start int, last, encodedDot, strict bool) ([]byte, error) {
	dots := len(out) - start - 1
	if dots != 1 && dots != 2 || out[start+1] != '.' || out[len(out)-1] != '.' {
		return out, nil
	}
	if encodedDot {
		if strict {
			return nil, ErrAmbiguous
		}
		out = out[:start+1]
		for range dots {
			out = append(out, "%2E"...)
		}
		return out, nil
	}
	out = out[:start]
	if dots == 2 {
		if start == 0 {
			return nil, ErrAboveRoot
		}
		for out[len(out)-1] != '/' {
			out = out[:len(out)-1]
		}
		out = out[:len(out)-1]
	}
	if last {
		out = append(out, '/')
	}
	return out, nil
}

const upperHex = "0123456789ABCDEF"

func appendEscape(out []byte, c byte) []byte {
	return append(out, '%', upperHex[c>>4], upperHex[c&15])
}

// escape reads the "%XX" at the beginning of s.
func escape(s []byte) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	hi, ok1 := unhex(s[1])
	lo, ok2 := unhex(s[2])
	return hi<<4 | lo, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
