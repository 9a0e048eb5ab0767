package check

import (
	"encoding/base64"
	"net/mail"
	"net/url"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/problem"
)

// acmeIssuer checks an issuer. Whether there is an authority at its directory shows the first order.
func acmeIssuer(m *configv1.AcmeIssuer) violations {
	var vs violations
	if u, err := url.Parse(m.GetDirectory()); err == nil && u.Scheme == "http" {
		vs.add("directory", "must be https")
	}
	for i, c := range m.GetContact() {
		if a, err := mail.ParseAddress(c); err != nil || a.Address != c || strings.ContainsAny(c, "?,%") { // as in a mailto URL (RFC 8555 section 7.3)
			vs.add(problem.Index("contact", i), "is not an e-mail address")
		}
	}
	external := m.GetExternalAccount()
	key := external.GetKey()
	switch {
	case external == nil:
	case key.GetRef() != "":
		vs.add("external_account.key", "cannot be a reference; give the value")
	case key.GetPlaintext() != "":
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(key.GetPlaintext(), "=")); err != nil || len(raw) < 16 {
			vs.add("external_account.key", "is not a MAC key of at least 16 bytes in Base64 for URLs")
		}
	}
	return vs
}
