package basicauth

import (
	"bytes"
	"encoding/base64"
	"unicode"
	"unicode/utf8"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/shared/password"
)

// maxUser is the longest user name that admission accepts.
const maxUser = 255

// encoding is Base64 with padding, and with nothing in the bits that are left over: one login is written in one way.
var encoding = base64.StdEncoding.Strict()

// presented is what a request says who is calling.
type presented struct {
	user, password []byte
}

// read reads the Authorization field. What cannot be anybody's is refused before it costs anything.
func (p *presented) read(x *exchange.Exchange) *exchange.Refusal {
	h := x.Request.Header
	var text []byte
	found, fields := false, 0
	for i := h.Index(field, 0); i >= 0; i = h.Index(field, i+1) {
		fields++
		if t, ok := basic(h[i].Value); ok {
			text, found = t, true
		}
	}
	switch {
	case !found:
		return refuseMissing // what other schemes say is for other policies
	case fields > 1:
		return refuseSeveral
	case !p.decode(x, text):
		return refuseInvalid
	}
	return nil
}

// basic returns the credentials of a field with the scheme Basic.
func basic(value []byte) (text []byte, ok bool) {
	const scheme = "Basic"
	if len(value) < len(scheme) || !exchange.EqualFold(value[:len(scheme)], scheme) {
		return nil, false
	}
	text = value[len(scheme):]
	if len(text) > 0 && text[0] != ' ' && text[0] != '\t' {
		return nil, false
	}
	return bytes.Trim(text, " \t"), true
}

// decode reads user-id ":" password (RFC 7617, section 2), in UTF-8.
func (p *presented) decode(x *exchange.Exchange, text []byte) bool {
	const longest = maxUser + 1 + password.MaxBytes
	if len(text) > base64.StdEncoding.EncodedLen(longest) || bytes.ContainsAny(text, "\r\n") {
		return false
	}
	size := base64.StdEncoding.DecodedLen(len(text))
	plain := x.Alloc(size)[:size]
	n, err := encoding.Decode(plain, text)
	if err != nil {
		return false
	}
	plain = plain[:n]
	colon := bytes.IndexByte(plain, ':')
	if colon < 1 || colon > maxUser || !utf8.Valid(plain) || bytes.ContainsFunc(plain, unicode.IsControl) {
		return false
	}
	p.user, p.password = plain[:colon], plain[colon+1:]
	return len(p.password) <= password.MaxBytes
}
