package jwtauth

import (
	"bytes"

	"keyward.dev/dataplane/internal/exchange"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// places are where tokens are looked for.
type places struct {
	headers, query, cookies []string
	keep                    bool
}

func placesOf(cfg *policyv1.JwtAuth) places {
	p := places{headers: cfg.GetHeader(), query: cfg.GetQuery(), cookies: cfg.GetCookie(), keep: cfg.HideCredentials != nil && !cfg.GetHideCredentials()}
	if len(p.headers)+len(p.query)+len(p.cookies) == 0 {
		p.headers = []string{defaultHeader}
	}
	return p
}

// found is the token found so far.
type found struct {
	raw     []byte
	has     bool
	several bool
}

// add takes a token from another place; again says that this place holds more than one.
func (f *found) add(raw []byte, again bool) {
	f.several = f.several || again || f.has && !bytes.Equal(raw, f.raw)
	f.raw, f.has = raw, true
}

// find returns the one token that the request presents. Two in one place, even the same, are refused: which of them another
// server looks at is anybody's guess. The same one in different places is one.
func (p *places) find(x *exchange.Exchange) (raw []byte, several bool) {
	var f found
	h := x.Request.Header
	for _, name := range p.headers {
		n := 0
		for i := h.Index(name, 0); i >= 0; i = h.Index(name, i+1) {
			if raw, ours := bearer(name, h[i].Value); ours {
				n++
				f.add(raw, n > 1)
			}
		}
	}
	for _, name := range p.query {
		if v, next, ok := x.NextQuery(name, 0); ok {
			_, _, again := x.NextQuery(name, next)
			f.add(v, again)
		}
	}
	for _, name := range p.cookies {
		if v, next, ok := x.NextCookie(name, exchange.CookiePos{}); ok {
			_, _, again := x.NextCookie(name, next)
			f.add(v, again)
		}
	}
	return f.raw, f.several
}

// bearer returns the token in a field's value. In Authorization it comes after Bearer, and a field with another scheme is for
// somebody else; in other fields it may.
func bearer(name string, v []byte) (raw []byte, ours bool) {
	const scheme = "Bearer "
	if len(v) >= len(scheme) && exchange.EqualFold(v[:len(scheme)], scheme) {
		return bytes.Trim(v[len(scheme):], " "), true
	}
	return v, !exchange.EqualFold([]byte(name), defaultHeader)
}

// hide removes tokens from what is forwarded.
func (p *places) hide(x *exchange.Exchange) {
	if p.keep {
		return
	}
	for _, name := range p.headers {
		for i := x.Request.Header.Index(name, 0); i >= 0; i = x.Request.Header.Index(name, i) {
			if _, ours := bearer(name, x.Request.Header[i].Value); ours {
				x.Request.Header.DelAt(i)
			} else {
				i++
			}
		}
	}
	for _, name := range p.query {
		x.RemoveQuery(name)
	}
	for _, name := range p.cookies {
		x.RemoveCookie(name)
	}
}
