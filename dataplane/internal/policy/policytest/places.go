package policytest

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"keyward.dev/shared/testkit/ldaptest"
	"keyward.dev/shared/testkit/redistest"
)

var basicPlaceholder = regexp.MustCompile(`\$BASIC\{[^}\n]*\}`)

// fillBasic puts what `user:password` looks like in a header field in the place of $BASIC{user:password}.
func (w *world) fillBasic(b []byte) []byte {
	return basicPlaceholder.ReplaceAllFunc(b, func(name []byte) []byte {
		text := bytes.TrimSuffix(bytes.TrimPrefix(name, []byte("$BASIC{")), []byte("}"))
		w.keys[string(name)] = base64.StdEncoding.EncodeToString(text)
		return []byte(w.keys[string(name)])
	})
}

// fillPlaces starts the servers whose addresses a configuration asks for.
func fillPlaces(t testing.TB, doc []byte) []byte {
	t.Helper()
	if bytes.Contains(doc, []byte("$REDIS")) {
		s := redistest.Start(t)
		doc = bytes.ReplaceAll(doc, []byte("$REDIS_PASSWORD"), []byte(redistest.Password))
		doc = bytes.ReplaceAll(doc, []byte("$REDIS"), []byte(s.Address))
	}
	if !bytes.Contains(doc, []byte("$LDAP")) {
		return doc
	}
	s := ldaptest.Start(t)
	return []byte(strings.NewReplacer(
		"$LDAP_CA", strings.ReplaceAll(s.CA.PEM(), "\n", `\n`), "$LDAPS", s.TLSAddress, "$LDAP", s.Address,
	).Replace(string(doc)))
}
