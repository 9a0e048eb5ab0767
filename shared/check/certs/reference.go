package certs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/problem"
)

// KindResolved is the kind of the system records with what references mean.
const KindResolved = "resolved-secrets"

// Reference is the reference that a version has instead of its private key; empty if it has none.
func Reference(v *configv1.CertificateVersion) string { return v.GetPrivateKey().GetRef() }

// elsewhere reports whether the whole version is read from elsewhere.
func elsewhere(v *configv1.CertificateVersion) bool { return Reference(v) != "" && Given(v) == "" }

// ResolvedName is the name of the system record with what the reference in a version of a certificate means. The chain is part
// of it: a key that was read to go with one chain is never used with another.
func ResolvedName(certificate string, v *configv1.CertificateVersion) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "certificate %q %q %q", certificate, Reference(v), v.GetChain()))
	return hex.EncodeToString(sum[:])
}

// ValueName is the name of the system record with what a reference means that stands for anything but a private key.
func ValueName(reference string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "value %q", reference))
	return hex.EncodeToString(sum[:])
}

// Lookup answers the system record of a name, or why there is none that can be used.
type Lookup func(name string) (r *systemv1.ResolvedSecret, reason string)

// Resolve puts what references mean in their place and tells those for which nothing does. The certificate itself is not
// changed. No version of what is answered has a reference: one that means nothing is left out.
func Resolve(c *configv1.Certificate, find Lookup) (*configv1.Certificate, []problem.Violation) {
	var vs faults
	out := c
	for _, name := range referring(c) {
		if out == c {
			out = proto.CloneOf(c)
		}
		place := slotOf(out, name)
		v, reason := resolved(c.GetName(), *place, find)
		if reason != "" {
			vs.add(name+".private_key", "%s", reason)
		}
		*place = v
	}
	return out, vs
}

// referring names the versions that have a reference.
func referring(c *configv1.Certificate) []string {
	var names []string
	for _, s := range Slots(c) {
		if Reference(s.Version) != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

func slotOf(c *configv1.Certificate, name string) **configv1.CertificateVersion {
	switch name {
	case "current":
		return &c.Current
	case "next":
		return &c.Next
	default:
		return &c.Previous
	}
}

func resolved(certificate string, v *configv1.CertificateVersion, find Lookup) (*configv1.CertificateVersion, string) {
	if _, ok := LocalOf(v); ok {
		return nil, "is read by gateways only"
	}
	r, reason := find(ResolvedName(certificate, v))
	switch {
	case reason != "":
		return nil, "refers to what cannot be used: " + reason
	case r.GetReference() != Reference(v): // the name says so already; it costs nothing to look
		return nil, "refers to what has not been read yet"
	case r.GetCertificate() == nil:
		return nil, "refers to what could not be read for too long"
	case r.GetCertificate().GetPrivateKey().GetPlaintext() == "" || Given(v) != "" && Given(v) != r.GetCertificate().GetChain():
		return nil, "refers to what is not its private key"
	}
	return r.GetCertificate(), ""
}
