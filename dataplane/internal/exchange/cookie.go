package exchange

import "bytes"

// CookiePos is where a search for cookies goes on: a Cookie field and an offset in it. The zero value is the beginning.
type CookiePos struct {
	field, offset int
}

// NextCookie returns the next value of the cookie called name (case matters) at or after pos, without the quotes RFC 6265
// allows around it, and the position to go on from. ok is false when there is none left.
func (x *Exchange) NextCookie(name string, pos CookiePos) (value []byte, next CookiePos, ok bool) {
	h := x.Request.Header
	for i := h.Index("Cookie", pos.field); i >= 0; i = h.Index("Cookie", i+1) {
		if i != pos.field {
			pos = CookiePos{field: i}
		}
		v := h[i].Value
		for pos.offset < len(v) {
			end := cookieEnd(v, pos.offset)
			key, val, _ := bytes.Cut(v[pos.offset:end], []byte("="))
			pos.offset = end + 1
			if string(trimOWS(key)) == name {
				return unquoteCookie(trimOWS(val)), pos, true
			}
		}
	}
	return nil, CookiePos{field: len(h)}, false
}

// RemoveCookie removes every cookie called name, and a Cookie field that is left without any.
func (x *Exchange) RemoveCookie(name string) {
	for i := x.Request.Header.Index("Cookie", 0); i >= 0; i = x.Request.Header.Index("Cookie", i+1) {
		kept, removed := x.withoutCookie(x.Request.Header[i].Value, name)
		if !removed {
			continue
		}
		if len(kept) == 0 {
			x.Request.Header.DelAt(i)
			i--
			continue
		}
		x.Request.Header[i].Value = kept
	}
}

func (x *Exchange) withoutCookie(v []byte, name string) (kept []byte, removed bool) {
	for from := 0; from < len(v); {
		end := cookieEnd(v, from)
		key, _, _ := bytes.Cut(v[from:end], []byte("="))
		if string(trimOWS(key)) == name {
			removed = true
			break
		}
		from = end + 1
	}
	if !removed {
		return v, false
	}
	kept = x.Alloc(2 * len(v))
	for from := 0; from < len(v); {
		end := cookieEnd(v, from)
		pair := trimOWS(v[from:end])
		key, _, _ := bytes.Cut(pair, []byte("="))
		if string(trimOWS(key)) != name && len(pair) > 0 {
			if len(kept) > 0 {
				kept = append(kept, "; "...)
			}
			kept = append(kept, pair...)
		}
		from = end + 1
	}
	return kept, true
}

func cookieEnd(v []byte, from int) int {
	if i := bytes.IndexByte(v[from:], ';'); i >= 0 {
		return from + i
	}
	return len(v)
}

func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func unquoteCookie(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}
