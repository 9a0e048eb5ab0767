package httpsig

import (
	"bytes"
	"errors"

	"keyward.dev/dataplane/internal/exchange"
)

// Memory gives bytes that last as long as what is read from a request is used.
type Memory interface {
	// Alloc returns an empty slice with room for n bytes.
	Alloc(n int) []byte
}

// Message is a request as it was received.
type Message struct {
	Method []byte
	// Target is the request target, Authority the host with its port as the client named them.
	Target, Authority []byte
	// Scheme is "http" or "https".
	Scheme string
	// Proto is the protocol version: 10, 11 or 20.
	Proto  int
	Header exchange.Headers
}

// What can be wrong with a signature, before any key is looked at.
var (
	// ErrMalformed: it does not follow the form.
	ErrMalformed = errors.New("the signature is malformed")
	// ErrUnsupported: it covers something in a way that is not known here.
	ErrUnsupported = errors.New("the signature covers something that is not supported")
	// ErrAbsent: it covers something that the request does not have.
	ErrAbsent = errors.New("the signature covers something that the request does not have")
)

// builder appends to memory that is not the collector's.
type builder struct {
	b   []byte
	mem Memory
}

// room makes sure that n more bytes fit. What was taken from b before stays as it is.
func (o *builder) room(n int) {
	if cap(o.b)-len(o.b) < n {
		o.b = append(o.mem.Alloc(2*len(o.b)+n+128), o.b...)
	}
}

func (o *builder) bytes(p []byte) {
	o.room(len(p))
	o.b = append(o.b, p...)
}

func (o *builder) text(s string) {
	o.room(len(s))
	o.b = append(o.b, s...)
}

func (o *builder) byte(c byte) {
	o.room(1)
	o.b = append(o.b, c)
}

// lower appends p in ASCII lower case.
func (o *builder) lower(p []byte) {
	o.room(len(p))
	for _, c := range p {
		o.b = append(o.b, lower(c))
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// origin splits the target into what stands before its path, and the rest. The path of an absolute form may be empty.
func (m *Message) origin() (absolute, rest []byte) {
	t := m.Target
	if len(t) == 0 || t[0] == '/' || t[0] == '*' {
		return nil, t
	}
	i := bytes.Index(t, []byte("://"))
	if i < 0 {
		return nil, t
	}
	end := bytes.IndexAny(t[i+3:], "/?")
	if end < 0 {
		return t, nil
	}
	return t[:i+3+end], t[i+3+end:]
}

// path appends the path as it was received; an empty one is "/" (RFC 9421 section 2.2.6).
func (m *Message) path(o *builder) {
	_, rest := m.origin()
	path, _, _ := bytes.Cut(rest, []byte("?"))
	if len(path) == 0 {
		o.byte('/')
		return
	}
	o.bytes(path)
}

// query is what follows the first "?"; nil: there is none.
func (m *Message) query() []byte {
	if i := bytes.IndexByte(m.Target, '?'); i >= 0 {
		return m.Target[i+1:]
	}
	return nil
}

// authority appends the host in lower case, with its port unless that is the scheme's (RFC 9421 section 2.2.3).
func (m *Message) authority(o *builder) {
	a := m.Authority
	port := ":80"
	if m.Scheme == "https" {
		port = ":443"
	}
	if cut, ok := bytes.CutSuffix(a, []byte(port)); ok {
		a = cut
	} else {
		a = bytes.TrimSuffix(a, []byte(":"))
	}
	o.lower(a)
}

// targetURI appends the whole of what is asked for (RFC 9421 section 2.2.2).
func (m *Message) targetURI(o *builder) {
	o.text(m.Scheme)
	o.text("://")
	m.authority(o)
	if string(m.Target) == "*" {
		return // RFC 9112 section 3.3: the path is empty
	}
	m.path(o)
	if q := m.query(); q != nil {
		o.byte('?')
		o.bytes(q)
	}
}

// field appends the values of all fields of the name, as RFC 9110 section 5.2 combines them. Only visible ASCII, spaces and
// tabs are signed as they are (RFC 9421 section 2.5).
func (m *Message) field(o *builder, name []byte) error {
	n := 0
	for i := range m.Header {
		if !sameName(m.Header[i].Name, name) {
			continue
		}
		if n++; n > 1 {
			o.text(", ")
		}
		v := trim(m.Header[i].Value)
		if !printable(v) {
			return ErrUnsupported
		}
		o.bytes(v)
	}
	if n > 0 {
		return nil
	}
	if string(name) == "host" { // a pseudo-header field in HTTP/2
		o.bytes(m.Authority)
		return nil
	}
	return ErrAbsent
}

// combined is the value of all fields of the name, without a copy if there is but one. False: there is none.
func (m *Message) combined(name string, mem Memory) ([]byte, bool, error) {
	i := m.Header.Index(name, 0)
	if i < 0 {
		return nil, false, nil
	}
	if m.Header.Index(name, i+1) < 0 {
		return trim(m.Header[i].Value), true, nil
	}
	o := builder{mem: mem}
	err := m.field(&o, []byte(name))
	return o.b, true, err
}

func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func printable(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	return true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
