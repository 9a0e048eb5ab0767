package httpsig

import (
	"bytes"
	"strconv"

	"keyward.dev/dataplane/internal/exchange"
)

// The parameters of the drafts; the scheme hmac says username for keyId.
const (
	paramKeyID = 1 << iota
	paramAlgorithm
	paramCreated
	paramExpires
	paramHeaders
	paramSignature
)

// Cavage returns the parameters of the signature of the drafts, and whether they stand under the Authorization scheme hmac. They
// are in that field or in the field Signature, if that is not one of RFC 9421. Of more than one that is found nobody can tell
// which counts.
func Cavage(m *Message) (text []byte, hmac bool, found int) {
	drafts := !m.Header.Has("Signature-Input")
	for i := range m.Header {
		f := &m.Header[i]
		if !IsCavage(f, drafts) {
			continue
		}
		found++
		if text, hmac = f.Value, false; exchange.EqualFold(f.Name, "Authorization") {
			var scheme []byte
			scheme, text, _ = bytes.Cut(trim(f.Value), []byte(" "))
			hmac = exchange.EqualFold(scheme, "hmac")
		}
	}
	return text, hmac, found
}

// IsCavage says whether a field has a signature of the drafts: Authorization with the scheme Signature or hmac, or the field
// Signature, which is one of the drafts only in messages without Signature-Input.
func IsCavage(f *exchange.Header, drafts bool) bool {
	if !exchange.EqualFold(f.Name, "Authorization") {
		return drafts && exchange.EqualFold(f.Name, "Signature")
	}
	scheme, _, _ := bytes.Cut(trim(f.Value), []byte(" "))
	return exchange.EqualFold(scheme, "hmac") || exchange.EqualFold(scheme, "Signature")
}

// ParseCavage reads the parameters of a signature of the drafts, with its value. hmac says that the scheme was that.
func ParseCavage(text []byte, hmac bool, s *Signature, mem Memory) error {
	*s = Signature{draft: true}
	seen := 0
	var list, encoded []byte
	for rest := trim(text); ; {
		name, val, after, err := authParam(rest)
		if err != nil {
			return err
		}
		bit := paramBit(name, hmac)
		if bit != 0 && seen&bit != 0 {
			return ErrMalformed
		}
		seen |= bit
		switch bit {
		case paramKeyID:
			s.KeyID = val
		case paramAlgorithm:
			s.Algorithm = val
		case paramHeaders:
			list = val
		case paramSignature:
			encoded = val
		case paramCreated, paramExpires:
			n, err := strconv.ParseInt(string(val), 10, 63)
			if err != nil {
				return ErrMalformed
			}
			if bit == paramCreated {
				s.Created = Moment{Unix: n, Set: true}
			} else {
				s.Expires = Moment{Unix: n, Set: true}
			}
		}
		if after == nil {
			break
		}
		rest = after
	}
	const needed = paramKeyID | paramSignature
	if seen&needed != needed || seen&paramHeaders != 0 && len(list) == 0 {
		return ErrMalformed
	}
	return s.draftOf(list, encoded, hmac, mem)
}

func (s *Signature) draftOf(list, encoded []byte, hmac bool, mem Memory) (err error) {
	if list == nil {
		list = []byte("date")
		if s.Created.Set {
			list = []byte("(created)")
		}
	}
	if err := s.readList(list, hmac, mem); err != nil {
		return err
	}
	if s.Value, err = decoded(encoded, mem); err != nil || len(s.Value) == 0 {
		return ErrMalformed
	}
	return nil
}

func paramBit(name []byte, hmac bool) int {
	switch {
	case exchange.EqualFold(name, "keyId") && !hmac, exchange.EqualFold(name, "username") && hmac:
		return paramKeyID
	case exchange.EqualFold(name, "algorithm"):
		return paramAlgorithm
	case exchange.EqualFold(name, "created"):
		return paramCreated
	case exchange.EqualFold(name, "expires"):
		return paramExpires
	case exchange.EqualFold(name, "headers"):
		return paramHeaders
	case exchange.EqualFold(name, "signature"):
		return paramSignature
	}
	return 0
}

// authParam reads one name=value or name="value" and what follows the comma behind it; after is nil at the end. Escapes are
// refused: nothing that a signature is made of needs them.
func authParam(b []byte) (name, val, after []byte, err error) {
	i := 0
	for i < len(b) && tokenByte(b[i]) && b[i] != ':' && b[i] != '/' {
		i++
	}
	name, b = b[:i], trimLeft(b[i:])
	if len(name) == 0 || len(b) == 0 || b[0] != '=' {
		return nil, nil, nil, ErrMalformed
	}
	if b = trimLeft(b[1:]); len(b) > 0 && b[0] == '"' {
		end := bytes.IndexByte(b[1:], '"')
		if end < 0 || !printable(b[1:1+end]) || bytes.IndexByte(b[1:1+end], '\\') >= 0 {
			return nil, nil, nil, ErrMalformed
		}
		val, b = b[1:1+end], b[end+2:]
	} else {
		i = 0
		for i < len(b) && tokenByte(b[i]) {
			i++
		}
		if val, b = b[:i], b[i:]; i == 0 {
			return nil, nil, nil, ErrMalformed
		}
	}
	if b = trimLeft(b); len(b) == 0 {
		return name, val, nil, nil
	}
	if b[0] != ',' {
		return nil, nil, nil, ErrMalformed
	}
	if b = trimLeft(b[1:]); len(b) == 0 {
		return nil, nil, nil, ErrMalformed
	}
	return name, val, b, nil
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// readList reads the names of what is covered, in lower case.
func (s *Signature) readList(list []byte, hmac bool, mem Memory) error {
	if len(list) > maxInput {
		return ErrMalformed
	}
	o := builder{mem: mem}
	o.lower(list)
	s.input = o.b
	created, expires := false, false
	for at := 0; ; {
		end := len(s.input)
		if i := bytes.IndexByte(s.input[at:], ' '); i >= 0 {
			end = at + i
		}
		name := s.input[at:end]
		if s.n == maxComponents || !s.draftName(name, hmac) {
			return ErrUnsupported
		}
		created = created || string(name) == "(created)"
		expires = expires || string(name) == "(expires)"
		s.components[s.n] = component{from: uint16(at), to: uint16(end)}
		s.n++
		if at = end + 1; end == len(s.input) {
			break
		}
	}
	// What is not covered anybody may have written.
	if s.Created.Set = s.Created.Set && created; created && !s.Created.Set {
		return ErrAbsent
	}
	if s.Expires.Set = s.Expires.Set && expires; expires && !s.Expires.Set {
		return ErrAbsent
	}
	return s.distinct()
}

// draftName says whether something of that name can be covered, and notes which parts it is.
func (s *Signature) draftName(name []byte, hmac bool) bool {
	switch string(name) {
	case "(request-target)":
		s.Parts |= PartMethod | PartPath | PartQuery
	case "request-line", "@request-target":
		if !hmac {
			return false
		}
		s.Parts |= PartMethod | PartPath | PartQuery
	case "(created)", "(expires)":
		// Draft 12, section 2.3: these algorithms are from before there was such a thing.
		for _, old := range []string{"rsa", "hmac", "ecdsa"} {
			if len(s.Algorithm) >= len(old) && exchange.EqualFold(s.Algorithm[:len(old)], old) {
				return false
			}
		}
	case "host":
		s.Parts |= PartAuthority
	default:
		return fieldName(name)
	}
	return true
}

// signingString appends the bytes that were signed.
func (s *Signature) signingString(o *builder, m *Message) error {
	for i := range s.components[:s.n] {
		if i > 0 {
			o.byte('\n')
		}
		name := s.name(&s.components[i])
		if string(name) == "request-line" {
			m.requestLine(o)
			continue
		}
		o.bytes(name)
		o.text(": ")
		switch string(name) {
		case "(request-target)", "@request-target":
			o.lower(m.Method)
			o.byte(' ')
			o.bytes(m.Target)
		case "(created)":
			o.integer(s.Created.Unix)
		case "(expires)":
			o.integer(s.Expires.Unix)
		default:
			if err := m.field(o, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Message) requestLine(o *builder) {
	o.bytes(m.Method)
	o.byte(' ')
	o.bytes(m.Target)
	o.text(" HTTP/")
	o.byte('0' + byte(m.Proto/10))
	o.byte('.')
	o.byte('0' + byte(m.Proto%10))
}

func (o *builder) integer(n int64) {
	o.room(20)
	o.b = strconv.AppendInt(o.b, n, 10)
}
