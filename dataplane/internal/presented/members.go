package presented

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"keyward.dev/dataplane/internal/exchange"
)

// members goes through the members of a JSON object without taking it apart any further. What it is given is well-formed
// JSON; of anything but an object it finds none.
type members struct {
	b []byte
	// open is behind the opening brace, end at the closing one once next has returned false.
	open, end int
	// from is where the current member begins, at where it ends.
	from, at int
	// name is the current member's, as written between its quotes, value all of its value.
	name, value []byte
}

// next goes on to the next member; false: there is none.
func (m *members) next() bool {
	if m.open == 0 {
		m.space()
		if m.at == len(m.b) || m.b[m.at] != '{' {
			return false
		}
		m.at++
		m.open = m.at
	}
	m.space()
	if m.b[m.at] == ',' {
		m.at++
		m.space()
	}
	if m.b[m.at] == '}' {
		m.end = m.at
		return false
	}
	m.from = m.at
	m.text()
	m.name = m.b[m.from+1 : m.at-1]
	m.space()
	m.at++ // the colon
	m.space()
	begin := m.at
	m.skip()
	m.value = m.b[begin:m.at]
	return true
}

func (m *members) space() {
	for m.at < len(m.b) {
		switch m.b[m.at] {
		case ' ', '\t', '\r', '\n':
			m.at++
		default:
			return
		}
	}
}

// text passes over a string.
func (m *members) text() {
	for m.at++; m.b[m.at] != '"'; m.at++ {
		if m.b[m.at] == '\\' {
			m.at++
		}
	}
	m.at++
}

// skip passes over a value.
func (m *members) skip() {
	depth := 0
	for {
		switch m.b[m.at] {
		case '"':
			m.text()
		case '{', '[':
			depth++
			m.at++
		case '}', ']':
			depth--
			m.at++
		default:
			m.at++
		}
		if depth == 0 && m.ends() {
			return
		}
	}
}

// ends says whether a value cannot go on here.
func (m *members) ends() bool {
	if m.at == len(m.b) {
		return true
	}
	switch m.b[m.at] {
	case ',', '}', ']', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// unquote returns the text of what stands between the quotes of a JSON string.
func unquote(x *exchange.Exchange, b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := x.Alloc(len(b) + utf8.UTFMax)
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'u':
			r := rune16(b[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
					low = rune16(b[i+3:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		case 'b', 'f', 'n', 'r', 't':
			out = append(out, controls[c-'b'])
		default: // a quote, a slash, a backslash
			out = append(out, c)
		}
	}
	return out
}

// controls are what \b to \t stand for.
const controls = "\b...\f.......\n...\r.\t"

// rune16 returns what four hex digits say.
func rune16(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}
