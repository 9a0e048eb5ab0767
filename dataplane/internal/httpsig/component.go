package httpsig

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// Parts are the parts of a request besides its fields that a signature can cover.
type Parts uint8

// Parts.
const (
	PartMethod Parts = 1 << iota
	PartScheme
	PartAuthority
	PartPath
	PartQuery
)

// PartsOf returns what a derived component of RFC 9421 covers, 0 if there is none of that name for requests, or one that covers
// no part as a whole.
func PartsOf(name string) Parts { return partsOf([]byte(name)) }

func partsOf(name []byte) Parts {
	switch string(name) {
	case "@method":
		return PartMethod
	case "@target-uri":
		return PartScheme | PartAuthority | PartPath | PartQuery
	case "@authority":
		return PartAuthority
	case "@scheme":
		return PartScheme
	case "@request-target":
		return PartPath | PartQuery
	case "@path":
		return PartPath
	case "@query":
		return PartQuery
	}
	return 0
}

// maxComponents is the most a signature may cover.
const maxComponents = 32

// component is something that is covered: where its identifier stands in what the signature says.
type component struct {
	from, name, to uint16 // the name ends at name; parameters may follow
	option         option
}

type option uint8

// Options of components. The zero value is that of a field or a part as it is.
const (
	optionNone option = iota
	optionStrict
	optionBytes
	optionKey
	optionName // of @query-param
)

// covered reads the identifier of a component.
func (s *scanner) covered(c *component) error {
	var v value
	c.from = uint16(len(s.out.b))
	if err := s.bare(&v); err != nil || v.kind != kindString {
		return ErrMalformed
	}
	c.name = uint16(len(s.out.b))
	name := v.text
	derived := len(name) > 0 && name[0] == '@'
	if !derived && !fieldName(name) {
		return ErrMalformed
	}
	for {
		parameter, ok, err := s.parameter(&v)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		o := optionOf(parameter, &v, derived)
		if o == optionNone || c.option != optionNone {
			return ErrUnsupported
		}
		c.option = o
	}
	c.to = uint16(len(s.out.b))
	parameter := string(name) == "@query-param"
	if parameter != (c.option == optionName) || derived && !parameter && partsOf(name) == 0 {
		return ErrUnsupported
	}
	return nil
}

// optionOf returns optionNone for what is not known. `req` belongs to responses, `tr` to what comes after the body: neither
// can be looked at here.
func optionOf(parameter []byte, v *value, derived bool) option {
	flag, text := v.kind == kindBoolean && v.n == 1, v.kind == kindString
	switch {
	case derived:
		if string(parameter) == "name" && text {
			return optionName
		}
	case string(parameter) == "sf" && flag:
		return optionStrict
	case string(parameter) == "bs" && flag:
		return optionBytes
	case string(parameter) == "key" && text:
		return optionKey
	}
	return optionNone
}

// fieldName says whether this is a field's name in the one spelling that signatures have for it.
func fieldName(name []byte) bool {
	for _, c := range name {
		if !tokenByte(c) || c == ':' || c == '/' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return len(name) > 0
}

// write appends the value of the component.
func (c *component) write(o *builder, input []byte, m *Message) error {
	name := input[c.from+1 : c.name-1]
	switch c.option {
	case optionName:
		return m.queryParameter(o, c.argument(input, o.mem))
	case optionBytes:
		return m.wrapped(o, name)
	case optionStrict, optionKey:
		return m.structured(o, name, c, input)
	}
	if name[0] != '@' {
		return m.field(o, name)
	}
	switch string(name) {
	case "@method":
		o.bytes(m.Method)
	case "@target-uri":
		m.targetURI(o)
	case "@authority":
		m.authority(o)
	case "@scheme":
		o.text(m.Scheme)
	case "@request-target":
		o.bytes(m.Target)
	case "@path":
		m.path(o)
	case "@query":
		o.byte('?')
		o.bytes(m.query())
	default:
		return ErrUnsupported
	}
	return nil
}

// argument is the text of the component's parameter, which is well-formed.
func (c *component) argument(input []byte, mem Memory) []byte {
	_, text, _ := bytes.Cut(input[c.name:c.to], []byte("="))
	s := scanner{in: text, out: builder{mem: mem}}
	var v value
	if err := s.bare(&v); err != nil {
		return nil
	}
	return v.text
}

// wrapped appends each line of a field as a byte sequence (RFC 9421 section 2.1.3).
func (m *Message) wrapped(o *builder, name []byte) error {
	n := 0
	for i := range m.Header {
		if !sameName(m.Header[i].Name, name) {
			continue
		}
		if n++; n > 1 {
			o.text(", ")
		}
		v := trim(m.Header[i].Value)
		o.byte(':')
		o.room(base64.StdEncoding.EncodedLen(len(v)))
		o.b = base64.StdEncoding.AppendEncode(o.b, v)
		o.byte(':')
	}
	if n == 0 {
		return ErrAbsent
	}
	return nil
}

// structured appends a structured field in its canonical form, or one member of it (RFC 9421 sections 2.1.1 and 2.1.2).
func (m *Message) structured(o *builder, name []byte, c *component, input []byte) error {
	joined := builder{mem: o.mem}
	if err := m.field(&joined, name); err != nil {
		return err
	}
	s := scanner{in: trim(joined.b), out: *o}
	var err error
	if c.option == optionKey {
		err = s.lookup(c.argument(input, o.mem))
	} else {
		err = s.whole(name)
	}
	*o = s.out
	return err
}

// whole reads a field whose form its name tells.
func (s *scanner) whole(name []byte) error {
	switch string(name) {
	case "accept-signature", "cache-status", "cdn-cache-control", "content-digest", "priority", "repr-digest", "signature", "signature-input", "want-content-digest", "want-repr-digest":
		return s.dictionary()
	case "client-cert-chain", "proxy-status":
		return s.list()
	case "client-cert", "idempotency-key":
		return s.single()
	}
	return ErrUnsupported // nobody can tell what its form is
}

// queryParameter appends the value of the one query parameter of the name, encoded anew: what the form of the URL leaves
// open is decided (RFC 9421 section 2.2.8).
func (m *Message) queryParameter(o *builder, name []byte) error {
	q, found := m.query(), false
	scratch := builder{mem: o.mem}
	for len(q) > 0 {
		var pair []byte
		pair, q, _ = bytes.Cut(q, []byte("&"))
		key, val, _ := bytes.Cut(pair, []byte("="))
		scratch.b = scratch.b[:0]
		if err := scratch.encoded(key); err != nil {
			return err
		}
		if len(pair) == 0 || !bytes.Equal(scratch.b, name) {
			continue
		}
		if found {
			return ErrUnsupported // RFC 9421 section 2.2.8: not for names that are there twice
		}
		found = true
		if err := o.encoded(val); err != nil {
			return err
		}
	}
	if !found {
		return ErrAbsent
	}
	return nil
}

// encoded appends form-encoded text decoded and encoded again, with all but letters, digits and "*-._" escaped.
func (o *builder) encoded(text []byte) error {
	plain := builder{mem: o.mem}
	plain.room(len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			c = unhex(text[i+1])<<4 | unhex(text[i+2])
			i += 2
		}
		plain.byte(c)
	}
	if !utf8.Valid(plain.b) {
		return ErrUnsupported // what it is decoded to differs between programs
	}
	const digits = "0123456789ABCDEF"
	for _, c := range plain.b {
		if '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'z' || c == '*' || c == '-' || c == '.' || c == '_' {
			o.byte(c)
			continue
		}
		o.byte('%')
		o.byte(digits[c>>4])
		o.byte(digits[c&15])
	}
	return nil
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return lower(c) - 'a' + 10
}
