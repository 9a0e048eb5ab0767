package ldapauth

import (
	"bytes"
	"encoding/base64"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"keyward.dev/dataplane/internal/exchange"
)

const (
	// maxLogin and maxPassword bound what is taken as a user name and as a password, in bytes.
	maxLogin    = 256
	maxPassword = 512
)

// login is what a caller presents.
type login struct {
	buf      [maxLogin + 1 + maxPassword]byte
	folded   [maxLogin]byte
	key      []byte // the user name as it is looked for: in lower case, without spaces that do not count
	password []byte
}

// presented reads the one login that the request presents. A field that is repeated is refused: which of them another server
// looks at is anybody's guess.
func (p *ldapAuth) presented(x *exchange.Exchange, l *login) *exchange.Refusal {
	var token []byte
	found := false
	h := x.Request.Header
	for _, name := range p.headers {
		i := h.Index(name, 0)
		if i < 0 {
			continue
		}
		t, ok := p.token(h[i].Value)
		if !ok {
			continue // of another scheme, and so not for this policy
		}
		if h.Index(name, i+1) >= 0 || found && !bytes.Equal(t, token) {
			return refuseSeveral
		}
		token, found = t, true
	}
	switch {
	case !found:
		return refuseMissing
	case !l.parse(token):
		return refuseMalformed
	}
	return nil
}

// token is what follows the scheme (RFC 9110 section 11.4).
func (p *ldapAuth) token(value []byte) ([]byte, bool) {
	n := len(p.scheme)
	if len(value) < n || !exchange.EqualFold(value[:n], p.scheme) || len(value) > n && value[n] != ' ' {
		return nil, false
	}
	return bytes.Trim(value[n:], " "), true
}

// parse reads the Base64 of `user:password`. Neither may be empty: a directory takes an empty password for the wish to be nobody
// and says that this is fine (RFC 4513 section 5.1.2).
func (l *login) parse(token []byte) bool {
	if len(token) == 0 || base64.StdEncoding.DecodedLen(len(token)) > len(l.buf)+2 {
		return false
	}
	var wide [len(l.buf) + 3]byte
	defer clear(wide[:])
	n, err := base64.StdEncoding.Strict().Decode(wide[:], token)
	if err != nil || n > len(l.buf) {
		return false
	}
	text := l.buf[:copy(l.buf[:], wide[:n])]
	user, password, ok := bytes.Cut(text, []byte(":"))
	if !ok || len(user) > maxLogin || len(password) == 0 || len(password) > maxPassword || !utf8.Valid(password) || bytes.IndexByte(password, 0) >= 0 {
		return false
	}
	l.password = password
	return l.fold(user)
}

// fold brings a user name into the one form that it is looked for, counted and remembered in. Directories do not tell case,
// nor spaces at the ends or one after the other (RFC 4518), so no way of writing it may be another user here. Of characters
// that can be written in several ways only one is taken, or a guesser would have a counter for each.
func (l *login) fold(user []byte) bool {
	if !norm.NFKC.IsNormal(user) {
		return false
	}
	out := l.folded[:0]
	space := false
	for len(user) > 0 {
		r, n := utf8.DecodeRune(user)
		user = user[n:]
		switch {
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return false // controls, spaces other than the plain one, and what is not UTF-8
		case r == ' ':
			space = len(out) > 0
			continue
		case space:
			out, space = append(out, ' '), false
		}
		r = unicode.ToLower(r)
		if len(out)+utf8.RuneLen(r) > len(l.folded)-1 {
			return false
		}
		out = utf8.AppendRune(out, r)
	}
	l.key = out
	return len(out) > 0
}
