package ldapname

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// DN is a distinguished name, from the entry up.
type DN []RDN

// RDN is what an entry is called below the one above it; mostly a single pair.
type RDN []Pair

// Pair is an attribute with its value. A value that is written as `#` and hex stays so.
type Pair struct{ Type, Value string }

// ParseDN reads a name; the empty one is none. It also takes spaces around separators, which people write.
func ParseDN(text string) (DN, bool) {
	if len(text) > 8192 || !utf8.ValidString(text) {
		return nil, false
	}
	var dn DN
	for rest, more := text, true; more; {
		var rdn RDN
		for end := byte('+'); end == '+'; {
			p, after, stop, ok := cutPair(rest)
			if !ok {
				return nil, false
			}
			rdn, rest, end = append(rdn, p), after, stop
			more = stop != 0
		}
		dn = append(dn, rdn)
	}
	return dn, true
}

// cutPair reads a pair and the separator behind it, which is 0 at the end.
func cutPair(text string) (p Pair, rest string, end byte, ok bool) {
	name, rest, found := strings.Cut(text, "=")
	p.Type = strings.Trim(name, " ")
	if !found || !Attribute(p.Type) {
		return p, "", 0, false
	}
	rest = strings.TrimLeft(rest, " ")
	var b strings.Builder
	hex := strings.HasPrefix(rest, "#")
	spaces := 0 // at the end so far, which are not part of the value unless they are escaped
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; c {
		case ',', '+':
			value, good := ended(b.String(), spaces, hex)
			p.Value = value
			return p, rest[i+1:], c, good
		case '\\':
			v, n, good := unescape(rest[i+1:])
			if !good || hex {
				return p, "", 0, false
			}
			b.WriteByte(v)
			i += n
			spaces = 0
		case 0, '"', ';', '<', '>':
			return p, "", 0, false
		default:
			b.WriteByte(c)
			if spaces++; c != ' ' {
				spaces = 0
			}
		}
	}
	p.Value, ok = ended(b.String(), spaces, hex)
	return p, "", 0, ok
}

// unescape reads what is behind a backslash, and says how long that is.
func unescape(text string) (c byte, n int, ok bool) {
	if c, ok := unhex(text); ok {
		return c, 2, true
	}
	if text != "" && strings.IndexByte("\\\"+,;<> #=", text[0]) >= 0 {
		return text[0], 1, true
	}
	return 0, 0, false
}

// ended is a value without the spaces behind it.
func ended(value string, spaces int, hex bool) (string, bool) {
	value = value[:len(value)-spaces]
	if !hex {
		return value, value != "" && utf8.ValidString(value)
	}
	digits := value[1:]
	if digits == "" || len(digits)%2 != 0 {
		return "", false
	}
	for i := 0; i < len(digits); i += 2 {
		if _, ok := unhex(digits[i:]); !ok {
			return "", false
		}
	}
	return value, true
}

// EscapeValue writes what may stand as a value, or as a part of one, in a name (RFC 4514 section 2.4).
func EscapeValue(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		atEnd := i == 0 || i == len(value)-1
		if c < ' ' || c == 0x7f || strings.IndexByte("\\\"+,;<>=#", c) >= 0 || c == ' ' && atEnd {
			escaped(&b, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// FillDN puts a user name into a name.
func FillDN(template, username string) string {
	return strings.ReplaceAll(template, Placeholder, EscapeValue(username))
}

// GoodTemplate reports whether a text with the place of the user name is a name with whatever is put there, as a value.
func GoodTemplate(template string) bool {
	if !strings.Contains(template, Placeholder) {
		return false
	}
	plain, ok := ParseDN(FillDN(template, "x"))
	odd, good := ParseDN(FillDN(template, probe))
	return ok && good && len(plain) == len(odd)
}

// Below reports whether a name is that of base or of something below it. Case and repeated spaces do not count, as they do not
// for what directories name entries by.
func (dn DN) Below(base DN) bool {
	if len(dn) < len(base) {
		return false
	}
	return slices.EqualFunc(dn[len(dn)-len(base):], base, func(a, b RDN) bool {
		return len(a) == len(b) && !slices.ContainsFunc(a, func(p Pair) bool {
			return !slices.ContainsFunc(b, func(q Pair) bool {
				return strings.EqualFold(p.Type, q.Type) && Fold(p.Value) == Fold(q.Value)
			})
		})
	})
}

// Named returns the value of an attribute in the first part of a name.
func (dn DN) Named(attribute string) (string, bool) {
	if len(dn) == 0 {
		return "", false
	}
	for _, p := range dn[0] {
		if strings.EqualFold(p.Type, attribute) {
			return p.Value, true
		}
	}
	return "", false
}

// Fold is equal for texts that directories take for the same where case does not count.
func Fold(text string) string { return strings.Join(strings.Fields(strings.ToLower(text)), " ") }
