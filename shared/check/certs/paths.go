package certs

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

// Local is from where a gateway reads a version: files of its own.
type Local struct {
	// Chain is the file of the certificates; empty: they are in the file of the key, or given.
	Chain string
	// Given are the certificates where the configuration has them.
	Given string
	// Key is the file of the private key.
	Key string
}

// LocalOf returns from where gateways read a version in stored form; false: it is not theirs to read.
func LocalOf(v *configv1.CertificateVersion) (Local, bool) {
	key, ok := secret.ParsePath(Reference(v))
	if !ok || !key.Gateway {
		return Local{}, false
	}
	l := Local{Key: key.Name, Given: v.GetChain()}
	if chain, ok := secret.ParsePath(v.GetChain()); ok {
		if l.Given = ""; chain.Gateway {
			l.Chain = chain.Name
		}
	}
	return l, true
}

// ReferenceOf is the reference that the control plane reads for a version, the zero one if it cannot be read as a reference.
func ReferenceOf(v *configv1.CertificateVersion) secret.Reference {
	if p, ok := secret.ParsePath(Reference(v)); ok {
		return p.Reference()
	}
	r, _ := secret.ParseReference(Reference(v))
	return r
}

// ChainOf is the reference to the certificates of a version that are a file of their own; false: they are not.
func ChainOf(v *configv1.CertificateVersion) (secret.Reference, bool) {
	p, ok := secret.ParsePath(v.GetChain())
	return p.Reference(), ok
}

// Given is the chain of a version, empty if it is elsewhere.
func Given(v *configv1.CertificateVersion) string {
	if secret.LooksLikePath(v.GetChain()) {
		return ""
	}
	return v.GetChain()
}

const badPath = "is not an absolute path without . and ..: /path for a file of the control plane, gateway:/path for one of each gateway"

// Named brings a version that names files into stored form, in which one file with everything is a reference without a chain.
// It reports whether the version names any.
func Named(v *configv1.CertificateVersion) (bool, []problem.Violation) {
	key, chainText := v.GetPrivateKey(), v.GetChain()
	keyText := cmp.Or(key.GetRef(), key.GetPlaintext())
	chainNamed, keyNamed := secret.LooksLikePath(chainText), secret.LooksLikePath(keyText)
	if !chainNamed && !keyNamed {
		return false, nil
	}
	if chainNamed && key == nil {
		keyText = chainText
	}
	var vs faults
	chain, chainOK := secret.ParsePath(chainText)
	at, keyOK := secret.ParsePath(keyText)
	if chainNamed && !chainOK {
		vs.add("chain", badPath)
	}
	switch {
	case keyNamed && !keyOK:
		vs.add("private_key", badPath)
	case chainNamed && key != nil && !keyOK, chainOK && keyOK && chain.Gateway != at.Gateway:
		vs.add("private_key", "must be a file at the same place as chain, or left out if it is in that file")
	}
	if v.PrivateKey = nil; len(vs) > 0 {
		return true, vs
	}
	v.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: keyText}}
	if chainText == keyText {
		v.Chain = ""
	}
	return true, nil
}

// FromFiles puts what a gateway has read from its files in their place and tells what could not be read. The certificate itself
// is not changed. A version of which nothing is read is left out.
func FromFiles(c *configv1.Certificate, read func(Local) (*configv1.CertificateVersion, string)) (*configv1.Certificate, []problem.Violation) {
	var vs faults
	out := c
	for _, slot := range Slots(c) {
		local, ok := LocalOf(slot.Version)
		if !ok {
			continue
		}
		if out == c {
			out = proto.CloneOf(c)
		}
		v, reason := read(local)
		if reason != "" {
			vs.add(slot.Name+".private_key", "%s", reason)
		}
		*slotOf(out, slot.Name) = v
	}
	return out, vs
}

// Public is a certificate as the control plane knows it where private keys are files of gateways: with the chains that are given.
// The certificate itself is not changed.
func Public(c *configv1.Certificate) *configv1.Certificate {
	out := c
	for _, slot := range Slots(c) {
		if local, ok := LocalOf(slot.Version); ok && local.Given != "" {
			if out == c {
				out = proto.CloneOf(c)
			}
			(*slotOf(out, slot.Name)).PrivateKey = nil
		}
	}
	return out
}
