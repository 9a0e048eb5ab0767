// Package certname knows what a certificate says of its owner: its fingerprint, its subject alternative names and its subject.
// Each is written in one way only, so that what a document says and what a certificate says can be compared as they are: the
// control plane writes documents so, and gateways look certificates up by hashes of the same.
//
// The package is pure. It trusts nobody: whether a certificate may be believed is for others to say.
package certname

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
)

// Kind is what a name is taken from.
type Kind uint8

// Kinds of names.
const (
	Fingerprint Kind = iota + 1
	SAN
	Subject
)

// Name is one thing that a certificate says of its owner, in the normal form of its kind.
type Name struct {
	Kind Kind
	Text string
}

// Claim is equal for equal names only; it begins with a word for the kind.
func (n Name) Claim() string {
	switch n.Kind {
	case Fingerprint:
		return "fingerprint " + n.Text
	case SAN:
		return "san " + n.Text
	case Subject:
		return "subject " + n.Text
	default:
		return ""
	}
}

// Hash is what the name is looked up by.
func (n Name) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(n.Claim())) }

// Of returns the names of a certificate, in its order. What cannot be written in a normal form is left out: nobody can have
// been named by it.
func Of(c *x509.Certificate) []Name {
	sum := sha256.Sum256(c.Raw)
	names := []Name{{Fingerprint, hex.EncodeToString(sum[:])}}
	add := func(kind Kind, text, reason string) {
		if reason == "" {
			names = append(names, Name{kind, text})
		}
	}
	for _, u := range c.URIs {
		text, reason := ParseSAN("URI:" + u.String())
		add(SAN, text, reason)
	}
	for _, name := range c.DNSNames {
		text, reason := ParseSAN("DNS:" + name)
		add(SAN, text, reason)
	}
	for _, address := range c.EmailAddresses {
		text, reason := ParseSAN("email:" + address)
		add(SAN, text, reason)
	}
	for _, text := range subjects(c.RawSubject) {
		add(Subject, text, "")
	}
	return names
}

// OfCredential returns the name by which a credential, which is in its normal form, knows certificates; zero for none.
func OfCredential(m *credentialv1.MtlsAuth) Name {
	switch id := m.GetIdentity().(type) {
	case *credentialv1.MtlsAuth_Fingerprint:
		return Name{Fingerprint, id.Fingerprint}
	case *credentialv1.MtlsAuth_San:
		return Name{SAN, id.San}
	case *credentialv1.MtlsAuth_Subject:
		return Name{Subject, id.Subject}
	default:
		return Name{}
	}
}

const maxName = 2048

// ParseSAN returns the normal form of a subject alternative name with its kind, or why it is none.
func ParseSAN(text string) (normal, reason string) {
	kind, value, ok := strings.Cut(text, ":")
	if !ok || value == "" || len(text) > maxName {
		return text, notSAN
	}
	switch strings.ToLower(kind) {
	case "uri":
		return uri(text, value)
	case "dns":
		return dns(text, value)
	case "email":
		return email(text, value)
	default:
		return text, notSAN
	}
}

const notSAN = "is not a subject alternative name such as URI:spiffe://bank.example/ledger, DNS:ledger.bank.example or email:ledger@bank.example"

func uri(text, value string) (normal, reason string) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme == "" || !visible(value) {
		return text, "is not an absolute URI after URI:"
	}
	u.Host = strings.ToLower(u.Host)
	return "URI:" + u.String(), ""
}

func dns(text, value string) (normal, reason string) {
	name := strings.ToLower(strings.TrimSuffix(value, "."))
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	switch _, err := netip.ParseAddr(name); {
	case strings.Contains(name, "*"):
		return text, "has a star: a certificate for many names says nothing of who it is"
	case err == nil, name == "", len(name) > 253, strings.Trim(name, letters) != "", strings.HasPrefix(name, "."), strings.HasSuffix(name, "."),
		strings.Contains(name, ".."):
		return text, "is not a host name after DNS:"
	}
	return "DNS:" + name, ""
}

// email leaves the part before the @ as it is: only its host may know whether case counts there.
func email(text, value string) (normal, reason string) {
	at := strings.LastIndexByte(value, '@')
	if at < 1 || !visible(value) {
		return text, "is not an address after email:"
	}
	host, reason := dns(text, value[at+1:])
	if reason != "" {
		return text, "is not an address after email:"
	}
	return "email:" + value[:at+1] + strings.TrimPrefix(host, "DNS:"), ""
}

// visible reports whether the text is ASCII without spaces and controls.
func visible(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}
