// Package ldapname reads and writes what directories are asked in: distinguished names (RFC 4514), filters (RFC 4515) and names
// of attributes (RFC 4512), and puts what users write into them such that it stays a value. Admission reads what is configured
// with it, and gateways fill it in. It is pure.
package ldapname

import "strings"

// Placeholder is what a user name is put in the place of.
const Placeholder = "{username}"

// Attribute reports whether a text is the name of an attribute, or its object identifier (RFC 4512 section 1.4).
func Attribute(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	if c := name[0]; c >= '0' && c <= '9' {
		return numericOID(name)
	}
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

func numericOID(name string) bool {
	parts := strings.Split(name, ".")
	for _, p := range parts {
		if p == "" || len(p) > 1 && p[0] == '0' || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return len(parts) > 1
}

// probe is a user name of which nothing may be left as it is where it is put.
const probe = ",+\"\\<>;=#()*\x00"

const hexDigits = "0123456789abcdef"

// escaped writes a byte as its value in hex.
func escaped(b *strings.Builder, c byte) {
	b.WriteByte('\\')
	b.WriteByte(hexDigits[c>>4])
	b.WriteByte(hexDigits[c&15])
}

// unhex reads two hex digits.
func unhex(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, s[0]|0x20), strings.IndexByte(hexDigits, s[1]|0x20)
	if s[0] <= '9' {
		hi = strings.IndexByte(hexDigits, s[0])
	}
	if s[1] <= '9' {
		lo = strings.IndexByte(hexDigits, s[1])
	}
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}
