// Package presented finds the credential that a request presents, in header fields, query parameters, cookies and the body,
// and removes it from what is forwarded. Authentication policies use it, so that all of them look by the same rules: one
// credential may stand in several places, but a place has one, and different ones are refused: which of them another server
// looks at is anybody's guess. It says nothing of what a credential is worth.
package presented

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
)

// DefaultMaxBody is how long a body may be to be looked into, unless a policy says otherwise.
const DefaultMaxBody = 64 << 10

// Config says where to look.
type Config struct {
	// Header, Query, Cookie and Body are names: of header fields, query parameters, cookies, and of fields of a form or
	// members of a JSON object in the body.
	Header, Query, Cookie, Body []string
	// Schemes are authentication schemes (RFC 9110 section 11.1), e.g. Bearer; none: all of a header field's value is the
	// credential. In Authorization one of them must come before it, and a field with another is somebody else's; in other
	// fields one may.
	Schemes []string
	// MaxBody bounds bodies that are looked into; 0: DefaultMaxBody.
	MaxBody int64
	// Keep leaves credentials in what is forwarded.
	Keep bool
}

// Places is where to look. It is immutable.
type Places struct {
	config  Config
	headers []field
}

// field is a header field with the schemes that it may have; needs: it must have one.
type field struct {
	name    string
	schemes []string
	needs   bool
}

// New returns the places of c.
func New(c Config) *Places {
	p := &Places{config: c}
	if p.config.MaxBody == 0 {
		p.config.MaxBody = DefaultMaxBody
	}
	for _, name := range c.Header {
		p.headers = append(p.headers, field{name: name, schemes: c.Schemes, needs: exchange.EqualFold([]byte(name), "Authorization")})
	}
	return p
}

// Outcome says what was found.
type Outcome uint8

// Outcomes.
const (
	// None: the request presents no credential.
	None Outcome = iota
	// One: it presents one.
	One
	// Several: it presents more than one.
	Several
	// Unread: whether the body has one cannot be found out. Why is recorded as the exchange's refusal.
	Unread
)

// Found is what a request presents.
type Found struct {
	Outcome Outcome
	// Value is the credential, with One. It is valid until the exchange is reset.
	Value []byte
	// Scheme is the one of Config.Schemes that came before it; empty: none did.
	Scheme string
}

// add takes a credential from another place; again says that this place holds more than one.
func (f *Found) add(v []byte, again bool) {
	if again || f.Outcome != None && !bytes.Equal(v, f.Value) {
		f.Outcome = Several
	} else if f.Outcome == None {
		f.Outcome = One
	}
	f.Value = v
}

// Find returns what the request presents. An empty credential is none, but differs from others. The body is read only if
// its type is one that is looked into, and nothing is wrong with the rest.
func (p *Places) Find(x *exchange.Exchange) Found {
	var f Found
	h := x.Request.Header
	for i := range p.headers {
		d := &p.headers[i]
		at := h.Index(d.name, 0)
		switch {
		case at < 0:
		case len(d.schemes) == 0:
			f.add(h[at].Value, h.Index(d.name, at+1) >= 0)
		default:
			d.find(h, at, &f)
		}
	}
	for _, name := range p.config.Query {
		if v, next, ok := x.NextQuery(name, 0); ok {
			_, _, again := x.NextQuery(name, next)
			f.add(v, again)
		}
	}
	for _, name := range p.config.Cookie {
		if v, next, ok := x.NextCookie(name, exchange.CookiePos{}); ok {
			_, _, again := x.NextCookie(name, next)
			f.add(v, again)
		}
	}
	if len(p.config.Body) > 0 && f.Outcome != Several {
		p.findInBody(x, &f)
	}
	if f.Outcome == One && len(f.Value) == 0 {
		f.Outcome = None
	}
	return f
}

// find looks at the fields of this name, of which the first is at that position.
func (d *field) find(h exchange.Headers, at int, f *Found) {
	v, scheme, ours := d.credential(h[at].Value)
	again := false
	for at = h.Index(d.name, at+1); at >= 0; at = h.Index(d.name, at+1) {
		again = true
		if !ours {
			v, scheme, ours = d.credential(h[at].Value)
		}
	}
	if ours {
		f.add(v, again)
		f.Scheme = scheme
	}
}

// credential returns the credential in a field's value; ours is false if it is of a scheme that is not looked for.
func (d *field) credential(v []byte) (credential []byte, scheme string, ours bool) {
	for _, s := range d.schemes {
		if n := len(s); len(v) > n && v[n] == ' ' && exchange.EqualFold(v[:n], s) {
			return bytes.TrimLeft(v[n:], " "), s, true
		}
	}
	return v, "", len(d.schemes) == 0 || !d.needs
}

// Hide removes credentials from what is forwarded, unless they are kept. A body that cannot be looked into stays as it is.
func (p *Places) Hide(x *exchange.Exchange) {
	if p.config.Keep {
		return
	}
	for i := range p.headers {
		p.headers[i].hide(&x.Request.Header)
	}
	for _, name := range p.config.Query {
		x.RemoveQuery(name)
	}
	for _, name := range p.config.Cookie {
		x.RemoveCookie(name)
	}
	if len(p.config.Body) > 0 {
		p.hideInBody(x)
	}
}

func (d *field) hide(h *exchange.Headers) {
	if len(d.schemes) == 0 || !d.needs {
		h.Del(d.name)
		return
	}
	for at := h.Index(d.name, 0); at >= 0; {
		if _, _, ours := d.credential((*h)[at].Value); ours {
			h.DelAt(at)
			at--
		}
		at = h.Index(d.name, at+1)
	}
}

// Fields returns the names of the header fields, which are not to be written down.
func (p *Places) Fields() []string { return p.config.Header }
