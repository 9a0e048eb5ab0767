package certname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const commonName = "CN"

// attributeTypes are the types of attributes that have a name: those of RFC 4514 section 3, and those that subjects of
// certificates often have beside them.
func attributeTypes() [][2]string {
	return [][2]string{
		{commonName, "2.5.4.3"},
		{"L", "2.5.4.7"},
		{"ST", "2.5.4.8"},
		{"O", "2.5.4.10"},
		{"OU", "2.5.4.11"},
		{"C", "2.5.4.6"},
		{"STREET", "2.5.4.9"},
		{"DC", "0.9.2342.19200300.100.1.25"},
		{"UID", "0.9.2342.19200300.100.1.1"},
		{"SN", "2.5.4.4"},
		{"SERIALNUMBER", "2.5.4.5"},
		{"TITLE", "2.5.4.12"},
		{"POSTALCODE", "2.5.4.17"},
		{"GIVENNAME", "2.5.4.42"},
		{"EMAILADDRESS", "1.2.840.113549.1.9.1"},
		{"ORGANIZATIONIDENTIFIER", "2.5.4.97"},
	}
}

// attribute is a type, by name if it has one, and a value.
type attribute struct{ name, value string }

const notDN = "is not a distinguished name of RFC 4514 such as CN=ledger,O=Bank,C=DE"

// ParseSubject returns the normal form of a distinguished name, or why it is none. Values written as hex of their encoding
// (#…) are not taken: they could be written in two ways.
func ParseSubject(text string) (normal, reason string) {
	if text == "" || len(text) > maxName || !utf8.ValidString(text) {
		return text, notDN
	}
	var rdns [][]attribute
	rest, joined := text, false
	for more := true; more; {
		var a attribute
		var end byte
		var ok bool
		if a, rest, end, ok = cutAttribute(rest); !ok {
			return text, notDN
		}
		if joined {
			rdns[len(rdns)-1] = append(rdns[len(rdns)-1], a)
		} else {
			rdns = append(rdns, []attribute{a})
		}
		more, joined = end != 0, end == '+'
	}
	return format(rdns), ""
}

// cutAttribute reads the attribute that a text begins with, and what stands behind it: ',', '+' or 0 for the end.
func cutAttribute(text string) (a attribute, rest string, end byte, ok bool) {
	name, rest, found := strings.Cut(text, "=")
	if a.name, ok = typeName(strings.Trim(name, " ")); !found || !ok {
		return a, "", 0, false
	}
	rest = strings.TrimLeft(rest, " ")
	if strings.HasPrefix(rest, "#") {
		return a, "", 0, false
	}
	var b strings.Builder
	last := 0 // the length up to what is no unescaped space
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; c {
		case ',', '+':
			a.value = b.String()[:last]
			return a, rest[i+1:], c, goodValue(a.value)
		case '\\':
			n := unescape(&b, rest[i+1:])
			if n == 0 {
				return a, "", 0, false
			}
			i += n
			last = b.Len()
		case '"', ';', '<', '>', 0:
			return a, "", 0, false
		default:
			if b.WriteByte(c); c != ' ' {
				last = b.Len()
			}
		}
	}
	a.value = b.String()[:last]
	return a, "", 0, goodValue(a.value)
}

// unescape writes what stands behind a backslash, and returns how long it was; 0: it is nothing.
func unescape(b *strings.Builder, text string) int {
	if text != "" && strings.IndexByte(` "#+,;<=>\`, text[0]) >= 0 {
		b.WriteByte(text[0])
		return 1
	}
	if len(text) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(text[:2], 16, 8)
	if err != nil {
		return 0
	}
	b.WriteByte(byte(n))
	return 2
}

func goodValue(v string) bool { return v != "" && utf8.ValidString(v) && !strings.Contains(v, "\x00") }

// typeName returns the one way to write a type.
func typeName(name string) (string, bool) {
	for _, t := range attributeTypes() {
		if strings.EqualFold(t[0], name) || t[1] == name {
			return t[0], true
		}
	}
	if strings.EqualFold(name, "E") {
		return "EMAILADDRESS", true
	}
	parts := strings.Split(name, ".")
	for _, p := range parts {
		if n, err := strconv.ParseUint(p, 10, 31); err != nil || strconv.FormatUint(n, 10) != p {
			return "", false
		}
	}
	return name, len(parts) > 1
}

func format(rdns [][]attribute) string {
	var b strings.Builder
	for i, rdn := range rdns {
		slices.SortFunc(rdn, func(a, b attribute) int { return strings.Compare(a.name+"="+a.value, b.name+"="+b.value) })
		for j, a := range rdn {
			switch {
			case j > 0:
				b.WriteByte('+')
			case i > 0:
				b.WriteByte(',')
			}
			b.WriteString(a.name + "=")
			escape(&b, a.value)
		}
	}
	return b.String()
}

// escape writes a value as RFC 4514 section 2.4 says, and controls in hex.
func escape(b *strings.Builder, v string) {
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c < ' ' || c == 0x7f:
			b.WriteString(`\` + hex.EncodeToString([]byte{c}))
			continue
		case strings.IndexByte(`"+,;<>\`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(v)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
}

// subjects are the normal forms of an encoded subject: the whole, and its common name if it has one, and only one.
func subjects(raw []byte) []string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &sequence); err != nil || len(rest) > 0 || len(sequence) == 0 {
		return nil
	}
	var rdns [][]attribute
	var common []string
	for _, set := range slices.Backward(sequence) { // written the other way round
		rdn := make([]attribute, 0, len(set))
		for _, tv := range set {
			value, text := tv.Value.(string)
			name, known := typeName(tv.Type.String())
			if !text || !known || !goodValue(value) {
				return nil
			}
			if rdn = append(rdn, attribute{name, value}); name == commonName {
				common = append(common, value)
			}
		}
		rdns = append(rdns, rdn)
	}
	out := []string{format(rdns)}
	if len(common) != 1 {
		return out
	}
	if cn := format([][]attribute{{{commonName, common[0]}}}); cn != out[0] {
		out = append(out, cn)
	}
	return out
}
