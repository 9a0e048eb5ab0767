package accesslog

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxText bounds what a client can make a line hold, for each value.
const maxText = 2048

// quote appends a JSON string. What clients send is data: whatever is no visible character is escaped and bytes that are
// no UTF-8 are replaced, so that a request can neither break a line nor forge one, nor move a terminal's cursor.
func quote[T string | []byte](b []byte, v T) []byte {
	return append(escape(append(b, '"'), v), '"')
}

// escape appends what stands between the quotes.
func escape[T string | []byte](b []byte, v T) []byte {
	if len(v) > maxText {
		v = v[:maxText]
	}
	i := 0
	for ; i+8 <= len(v); i += 8 {
		if !plain8(load(v, i)) {
			break
		}
	}
	for i < len(v) && plain(v[i]) {
		i++
	}
	b = append(b, v[:i]...)
	if i < len(v) {
		b = escapeSlowly(b, v[i:])
	}
	return b
}

// plain says whether a byte stands for itself.
func plain(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

func load[T string | []byte](v T, i int) uint64 {
	_ = v[i+7]
	return uint64(v[i]) | uint64(v[i+1])<<8 | uint64(v[i+2])<<16 | uint64(v[i+3])<<24 |
		uint64(v[i+4])<<32 | uint64(v[i+5])<<40 | uint64(v[i+6])<<48 | uint64(v[i+7])<<56
}

// plain8 says that eight bytes are plain. The terms have the high bit of a byte that is above 0x7f, below 0x20, 0x7f, a
// quotation mark or a backslash; borrows only ever come from such a byte.
func plain8(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quotes, slashes := w^'"'*ones, w^'\\'*ones
	return (w|(w-' '*ones)|(w+ones)|(quotes-ones)|(slashes-ones))&high == 0
}

func escapeSlowly[T string | []byte](b []byte, v T) []byte {
	const digits = "0123456789abcdef"
	unit := func(b []byte, u uint16) []byte {
		return append(b, '\\', 'u', digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	for len(v) > 0 {
		if c := v[0]; c < utf8.RuneSelf {
			switch {
			case plain(c):
				b = append(b, c)
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			default:
				b = unit(b, uint16(c))
			}
			v = v[1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(string(v[:min(len(v), utf8.UTFMax)]))
		switch {
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = unit(unit(b, uint16(high)), uint16(low))
		default:
			b = unit(b, uint16(r))
		}
		v = v[n:]
	}
	return b
}
