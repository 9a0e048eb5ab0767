package httpwire

import (
	"encoding/binary"
	"math/bits"
)

// What a byte may be part of.
const (
	tokenByte  = 1 << iota // token, RFC 9110 section 5.6.2
	hostByte               // reg-name without percent-escapes and sub-delimiters
	targetByte             // visible ASCII without '#'
	valueByte              // field value or reason phrase, RFC 9110 section 5.5
	hexByte                // HEXDIG
)

// class says for each byte what it may be part of. It is a constant table.
var class = classes()

func classes() (t [256]uint8) {
	for c := range 256 {
		digit, letter := '0' <= c && c <= '9', c|0x20
		if digit || 'a' <= letter && letter <= 'z' {
			t[c] |= tokenByte | hostByte
		}
		if digit || 'a' <= letter && letter <= 'f' {
			t[c] |= hexByte
		}
		if '!' <= c && c <= '~' && c != '#' {
			t[c] |= targetByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tokenByte
	}
	for _, c := range "-_." {
		t[c] |= hostByte
	}
	return t
}

// allOf says whether b has bytes of one class only.
func allOf(b []byte, of uint8) bool {
	for _, c := range b {
		if class[c]&of == 0 {
			return false
		}
	}
	return true
}

func isToken(b []byte) bool { return len(b) > 0 && allOf(b, tokenByte) }

// IsToken says whether b is a token (RFC 9110 section 5.6.2), as methods and field names are.
func IsToken(b []byte) bool { return isToken(b) }

// valueEnd returns the position of the first byte at or after i that no field value has: a control other than tab. It
// looks at eight bytes at once for one that may be a control; what stands beside one above 0x7f may be taken for one
// first, and is looked at again.
func valueEnd(b []byte, i int) int {
	const each = 0x0101010101010101
	for i < len(b) {
		if len(b)-i >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			controls := ((w - 0x20*each) | (w + each)) &^ w & (0x80 * each)
			if controls == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(controls) / 8
		}
		if class[b[i]]&valueByte == 0 {
			return i
		}
		i++
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return class[c]&hexByte != 0 }

func hexValue(c byte) int64 {
	if isDigit(c) {
		return int64(c - '0')
	}
	return int64(c|0x20-'a') + 10
}

// parseDecimal reads digits only; ok is false for anything else and above 2^63-1.
func parseDecimal(b []byte) (n int64, ok bool) {
	const limit = (1<<63 - 1) / 10
	for _, c := range b {
		if !isDigit(c) || n > limit {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n < 0 {
			return 0, false
		}
	}
	return n, len(b) > 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func trimOWS(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}
