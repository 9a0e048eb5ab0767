package certs

import (
	"crypto/x509"
	"encoding/pem"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

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
