package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
)

// Algorithm is the name of a signature algorithm as a JWS header has it (RFC 7518 section 3.1, RFC 8037, RFC 9864).
type Algorithm string

// The algorithms that there are. "none" is not one.
const (
	HS256   Algorithm = "HS256"
	HS384   Algorithm = "HS384"
	HS512   Algorithm = "HS512"
	RS256   Algorithm = "RS256"
	RS384   Algorithm = "RS384"
	RS512   Algorithm = "RS512"
	PS256   Algorithm = "PS256"
	PS384   Algorithm = "PS384"
	PS512   Algorithm = "PS512"
	ES256   Algorithm = "ES256"
	ES384   Algorithm = "ES384"
	ES512   Algorithm = "ES512"
	EdDSA   Algorithm = "EdDSA"
	Ed25519 Algorithm = "Ed25519"
)

// Algorithms lists those whose keys are public, and then those whose keys are secrets.
func Algorithms() (public, secret []Algorithm) {
	return []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519},
		[]Algorithm{HS256, HS384, HS512}
}

// Default are the algorithms of whoever names none.
func Default() []Algorithm { return []Algorithm{RS256, ES256, EdDSA} }

// Symmetric reports whether whoever can verify a signature can also make it.
func (a Algorithm) Symmetric() bool { return a == HS256 || a == HS384 || a == HS512 }

// Known reports whether it is one of Algorithms.
func (a Algorithm) Known() bool { return a.Symmetric() || a.Hash() != 0 || a == EdDSA || a == Ed25519 }

// Hash is what is signed in the place of the message; 0 for those that hash by themselves.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case HS256, RS256, PS256, ES256:
		return crypto.SHA256
	case HS384, RS384, PS384, ES384:
		return crypto.SHA384
	case HS512, RS512, PS512, ES512:
		return crypto.SHA512
	}
	return 0
}

// fits reports whether a key can be for the algorithm: the key says what it is for, a token only agrees.
func (a Algorithm) fits(k *Key) bool {
	if k.secret != nil {
		return a.Symmetric()
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return a == RS256 || a == RS384 || a == RS512 || a == PS256 || a == PS384 || a == PS512
	case *ecdsa.PublicKey:
		switch public.Curve.Params().Name {
		case "P-256":
			return a == ES256
		case "P-384":
			return a == ES384
		case "P-521":
			return a == ES512
		}
	case ed25519.PublicKey:
		return a == EdDSA || a == Ed25519
	}
	return false
}
