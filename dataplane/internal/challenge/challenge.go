// Package challenge answers ACME authorities that look whether a name is ours (RFC 8555 section 8.3, RFC 8737), while an order is
// under way and for no longer. A Table is immutable and part of the runtime: compile builds it, the server asks it. It reads no
// files, keeps no connections, and answers nothing that the control plane did not put there.
package challenge

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

// Protocol is what an authority that checks by TLS offers, and nothing else.
const Protocol = "acme-tls/1"

// prefix is where an authority asks over HTTP.
const prefix = "/.well-known/acme-challenge/"

// Table finds answers.
type Table struct {
	tokens map[place]answer
	names  map[string]shown
}

type place struct{ host, token string }

type answer struct {
	text  []byte
	until time.Time
}

type shown struct {
	certificate *tls.Certificate
	until       time.Time
}

// New returns the table of challenges; nil if there are none.
func New(all []*systemv1.AcmeChallenge) *Table {
	if len(all) == 0 {
		return nil
	}
	t := &Table{tokens: map[place]answer{}, names: map[string]shown{}}
	for _, c := range all {
		switch until := c.GetUntil().AsTime(); c.GetType() {
		case certs.ChallengeHTTP:
			t.tokens[place{c.GetHost(), c.GetToken()}] = answer{[]byte(c.GetKeyAuthorization()), until}
		case certs.ChallengeTLS:
			key, err := x509.ParsePKCS8PrivateKey(c.GetShownKey())
			if err != nil || until.Before(t.names[c.GetHost()].until) {
				continue // the control plane sees it fail; or there is a newer one
			}
			t.names[c.GetHost()] = shown{&tls.Certificate{Certificate: [][]byte{c.GetShown()}, PrivateKey: key}, until}
		}
	}
	return t
}

// Asks reports whether a request target can be one of an authority's.
func Asks(target []byte) bool { return bytes.HasPrefix(target, []byte(prefix)) }

// Answer is what is answered at a time to who asks a host, in lower case and without port, for a target; nil: nothing.
func (t *Table) Answer(host, target []byte, now time.Time) []byte {
	if t == nil || !Asks(target) {
		return nil
	}
	a, ok := t.tokens[place{string(host), string(target[len(prefix):])}]
	if !ok || now.After(a.until) {
		return nil
	}
	return a.text
}

// Shown is the certificate that is shown at a time to a client that offers only the protocol of authorities, for a name in lower
// case; nil: none.
func (t *Table) Shown(name string, offered []string, now time.Time) *tls.Certificate {
	if t == nil || !slices.Equal(offered, []string{Protocol}) {
		return nil
	}
	s, ok := t.names[name]
	if !ok || now.After(s.until) {
		return nil
	}
	return s.certificate
}
