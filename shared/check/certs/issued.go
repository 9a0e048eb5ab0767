package certs

import (
	"crypto/x509"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/problem"
)

// KindIssuer is the kind of ACME issuers. KindIssued and KindChallenge are the kinds of the system records with what they issued,
// by the names of certificates, and with what they are answered meanwhile.
const (
	KindIssuer    = "acme-issuers"
	KindIssued    = "issued-certificates"
	KindChallenge = "acme-challenges"
)

// The challenges that can be answered.
const (
	ChallengeHTTP = "http-01"
	ChallengeTLS  = "tls-alpn-01"
)

// IssuedLookup answers the system record of a certificate, nil if there is none, or why it cannot be used.
type IssuedLookup func(name string) (r *systemv1.IssuedCertificate, reason string)

// Ordered puts what an ACME authority issued in the place of an order for it. Until something was issued the previous version is
// presented, which was the current one before the order. Names that what is presented is not for are left out: they are added
// or changed, and what is there goes on for the others. The certificate itself is not changed. It is nil if there is nothing to
// present yet, or, with a reason, if what was issued cannot be read.
func Ordered(c *configv1.Certificate, find IssuedLookup) (*configv1.Certificate, string) {
	if c.GetAcme() == nil {
		return c, ""
	}
	r, reason := find(c.GetName())
	if reason != "" {
		return nil, "what was issued for it cannot be used: " + reason
	}
	out := proto.CloneOf(c)
	out.Acme, out.Next = nil, nil
	if out.Current = r.GetCertificate(); out.Current == nil {
		out.Current, out.Previous = out.GetPrevious(), nil
	}
	if out.GetCurrent() == nil {
		return nil, ""
	}
	v, _ := openVersion(out.GetCurrent())
	if v != nil { // else Open tells why not
		out.Snis = slices.DeleteFunc(out.GetSnis(), func(sni string) bool { return !v.covers(sni) })
	}
	return out, ""
}

// covers reports whether a version is for a server name.
func (v *Version) covers(sni string) bool {
	return slices.ContainsFunc(v.Leaf().DNSNames, func(name string) bool { return Covers(hostForm(name), sni) })
}

// orderKinds are the kinds of key that an order is for.
func orderKinds(c *configv1.Certificate) []string {
	switch {
	case c.GetAcme() == nil:
		return nil
	case strings.HasPrefix(c.GetAcme().GetKeyType(), "rsa"):
		return []string{x509.RSA.String()}
	default:
		return []string{x509.ECDSA.String()}
	}
}

// ShownKinds are the kinds of key that a certificate is presented with, or may come to be.
func ShownKinds(c *configv1.Certificate) []string {
	kinds := orderKinds(c)
	for _, v := range []*configv1.CertificateVersion{c.GetCurrent(), c.GetNext()} {
		for _, kind := range KeyKinds(v) {
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// Order tells what is wrong with the way in which a certificate comes to be: one that is given has a current version, and one
// that is issued has names that an authority can look up.
func Order(c *configv1.Certificate) []problem.Violation {
	var vs faults
	switch {
	case c.GetAcme() == nil && c.GetCurrent() == nil:
		vs.add("current", "required, unless an authority issues the certificate (acme)")
		return vs
	case c.GetAcme() == nil:
		return nil
	}
	for _, slot := range Slots(c) {
		if slot.Name != "previous" {
			vs.add(slot.Name, "cannot be given beside acme: the authority issues what is in use")
		}
	}
	if len(c.GetSnis()) == 0 {
		vs.add("snis", "required with acme: the authority issues the certificate for them")
	}
	for i, sni := range c.GetSnis() {
		switch {
		case strings.HasPrefix(sni, "*."):
			vs.add(problem.Index("snis", i), "cannot be issued: names with * are proved by dns-01 only, which is not spoken here; list the names, or store a certificate that you got otherwise")
		case !strings.Contains(sni, "."):
			vs.add(problem.Index("snis", i), "cannot be issued: it is not a full host name")
		}
	}
	return vs
}
