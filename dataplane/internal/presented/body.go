package presented

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"keyward.dev/dataplane/internal/exchange"
)

// The refusals of bodies that may have a credential, and nobody can tell.
var (
	refuseMalformed = exchange.NewRefusal(400, "bad_body", "The request body is not well-formed.")
	refuseEncoded   = exchange.NewRefusal(415, "unsupported_body",
		"The request body has to be sent without content coding, and in UTF-8.", exchange.Field("Accept-Encoding", "identity"))
)

// kind is how a body is read.
type kind uint8

const (
	opaque kind = iota // not looked into
	form
	object // JSON
)

// kindOf says how the body is read.
func kindOf(x *exchange.Exchange) (kind, *exchange.Refusal) {
	h := x.Request.Header
	at := h.Index("Content-Type", 0)
	if x.Request.ContentLength == 0 || at < 0 {
		return opaque, nil
	}
	if h.Index("Content-Type", at+1) >= 0 {
		return opaque, refuseMalformed // which of them counts is anybody's guess
	}
	media, parameters, _ := bytes.Cut(h[at].Value, []byte(";"))
	k := kindOfMedia(bytes.Trim(media, " \t"))
	if k != opaque && (foreign(parameters) || coded(h)) {
		return k, refuseEncoded
	}
	return k, nil
}

func kindOfMedia(m []byte) kind {
	const tree, suffix = "application/", "+json"
	switch {
	case exchange.EqualFold(m, "application/x-www-form-urlencoded"):
		return form
	case exchange.EqualFold(m, "application/json"),
		len(m) > len(tree)+len(suffix) && exchange.EqualFold(m[:len(tree)], tree) && exchange.EqualFold(m[len(m)-len(suffix):], suffix):
		return object
	}
	return opaque
}

// foreign says whether the parameters of a media type name another charset than UTF-8.
func foreign(parameters []byte) bool {
	const name = "charset="
	for len(parameters) > 0 {
		p, rest, _ := bytes.Cut(parameters, []byte(";"))
		p, parameters = bytes.Trim(p, " \t"), rest
		if len(p) >= len(name) && exchange.EqualFold(p[:len(name)], name) {
			charset := bytes.Trim(p[len(name):], `"`)
			if !exchange.EqualFold(charset, "utf-8") && !exchange.EqualFold(charset, "us-ascii") {
				return true
			}
		}
	}
	return false
}

// coded says whether the body has a content coding.
func coded(h exchange.Headers) bool {
	for at := h.Index("Content-Encoding", 0); at >= 0; at = h.Index("Content-Encoding", at+1) {
		if v := h[at].Value; len(v) > 0 && !exchange.EqualFold(v, "identity") {
			return true
		}
	}
	return false
}

// read returns the body if it is one that is looked into; ok is false if it should be and cannot.
func (p *Places) read(x *exchange.Exchange) (body []byte, k kind, ok bool) {
	k, refusal := kindOf(x)
	if refusal != nil {
		x.Refuse(refusal)
		return nil, k, false
	}
	if k == opaque {
		return nil, k, true
	}
	if body, ok = x.Body(p.config.MaxBody); !ok || len(body) == 0 {
		return nil, opaque, ok
	}
	if !utf8.Valid(body) || k == form && !escaped(body) || k == object && !json.Valid(body) {
		x.Refuse(refuseMalformed)
		return nil, k, false
	}
	return body, k, true
}

// escaped says whether every percent sign begins an escape.
func escaped(b []byte) bool {
	for at := bytes.IndexByte(b, '%'); at >= 0; {
		if at+2 >= len(b) || !hex(b[at+1]) || !hex(b[at+2]) {
			return false
		}
		next := bytes.IndexByte(b[at+3:], '%')
		if next < 0 {
			return true
		}
		at += 3 + next
	}
	return true
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (p *Places) findInBody(x *exchange.Exchange, f *Found) {
	body, k, ok := p.read(x)
	if !ok {
		f.Outcome = Unread
		return
	}
	switch k {
	case form:
		for _, name := range p.config.Body {
			if v, next, ok := x.NextPair(body, name, 0); ok {
				_, _, again := x.NextPair(body, name, next)
				f.add(v, again)
			}
		}
	case object:
		p.findMembers(x, body, f)
	case opaque:
	}
}

// findMembers looks at the members of the body's object. One that is no string is no credential.
func (p *Places) findMembers(x *exchange.Exchange, body []byte, f *Found) {
	var seen [maxNames]bool
	for m := (members{b: body}); m.next(); {
		i := p.named(x, m.name)
		if i < 0 {
			continue
		}
		again := seen[i]
		seen[i] = true
		if m.value[0] == '"' {
			f.add(unquote(x, m.value[1:len(m.value)-1]), again)
		} else if again {
			f.Outcome = Several
		}
	}
}

// maxNames is how many members of a body a policy may look at.
const maxNames = 8

// named returns which of the looked-for names this is, as written in JSON; -1: none.
func (p *Places) named(x *exchange.Exchange, written []byte) int {
	for i, name := range p.config.Body[:min(len(p.config.Body), maxNames)] {
		if string(written) == name || bytes.IndexByte(written, '\\') >= 0 && string(unquote(x, written)) == name {
			return i
		}
	}
	return -1
}

func (p *Places) hideInBody(x *exchange.Exchange) {
	body, k, ok := p.read(x)
	if !ok {
		x.TakeRefusal()
		return
	}
	switch k {
	case form:
		rest := body
		for _, name := range p.config.Body {
			if _, _, ok := x.NextPair(rest, name, 0); ok {
				rest = x.WithoutPair(rest, name)
			}
		}
		if len(rest) < len(body) {
			x.ReplaceBody(rest)
		}
	case object:
		p.hideMembers(x, body)
	case opaque:
	}
}

// hideMembers writes the object again without the members that are looked for, if it has any.
func (p *Places) hideMembers(x *exchange.Exchange, body []byte) {
	hides := false
	for m := (members{b: body}); !hides && m.next(); {
		hides = p.named(x, m.name) >= 0
	}
	if !hides {
		return
	}
	m := members{b: body}
	rest, first := x.Alloc(len(body)), true
	for m.next() {
		if first {
			rest = append(rest, body[:m.open]...)
		}
		if p.named(x, m.name) < 0 {
			if len(rest) > m.open {
				rest = append(rest, ',')
			}
			rest = append(rest, body[m.from:m.at]...)
		}
		first = false
	}
	x.ReplaceBody(append(rest, body[m.end:]...))
}
