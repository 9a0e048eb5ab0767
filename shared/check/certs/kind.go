package certs

import (
	"crypto/x509"
	"encoding/pem"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// KeyKinds are the kinds of key that a version may be for: its own, or all that there are for one that is read from elsewhere.
func KeyKinds(v *configv1.CertificateVersion) []string {
	if kind := KeyKind(v); kind != "" {
		return []string{kind}
	}
	if !elsewhere(v) {
		return nil
	}
	return AllKeyKinds()
}

// AllKeyKinds are the kinds of keys that there are.
func AllKeyKinds() []string {
	return []string{x509.RSA.String(), x509.ECDSA.String(), x509.Ed25519.String()}
}

// KeyKind is the kind of key that a version in stored form is for, by which clients tell certificates apart that they can
// verify: ECDSA, Ed25519 or RSA; empty if it cannot be read.
func KeyKind(v *configv1.CertificateVersion) string {
	block, _ := pem.Decode([]byte(v.GetChain()))
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return leaf.PublicKeyAlgorithm.String()
}
