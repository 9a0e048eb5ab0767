// Package signingkey reads the keys of hmac-auth credentials, once for the control plane, which tells what is wrong with them,
// and for gateways, which verify with them.
package signingkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
)

const (
	maxSecret = 512
	minSecret = 32
	// leastSecret is what FIPS 140-3 approves of (112 bits), and nothing below it is worth its name.
	leastSecret = 14
)

// Key is what signatures are verified with: a secret or a public key.
type Key struct {
	// Algorithm is its name in RFC 9421, or what stands for it.
	Algorithm string
	Secret    []byte
	Public    crypto.PublicKey
}

// Fault is what is wrong with a credential, in which field.
type Fault struct {
	Field, Reason string
}

// Secret decodes a secret and says what is wrong with it; the algorithm has to be one that takes secrets.
func Secret(m *credentialv1.HmacAuth, plaintext string) (Key, *Fault) {
	k := Key{Algorithm: m.GetAlgorithm(), Secret: []byte(plaintext)}
	if k.Algorithm == "" {
		k.Algorithm = "hmac-sha256"
	}
	if !strings.HasPrefix(k.Algorithm, "hmac-") {
		return Key{}, &Fault{"algorithm", fmt.Sprintf("%s needs a public_key, not a secret", k.Algorithm)}
	}
	if m.GetBase64() {
		var err error
		if k.Secret, err = base64.StdEncoding.Strict().DecodeString(plaintext); err != nil || strings.ContainsAny(plaintext, "\r\n") {
			return Key{}, &Fault{"secret", "is not in Base64 (RFC 4648 section 4, with its padding)"}
		}
	}
	switch n := len(k.Secret); {
	case n > maxSecret:
		return Key{}, &Fault{"secret", fmt.Sprintf("must have at most %d bytes", maxSecret)}
	case n < leastSecret:
		return Key{}, &Fault{"secret", fmt.Sprintf("must have at least %d bytes, and %d without allow_weak", leastSecret, minSecret)}
	case n < minSecret && !m.GetAllowWeak():
		return Key{}, &Fault{"secret", fmt.Sprintf("must have at least %d bytes; allow_weak accepts less", minSecret)}
	}
	return k, nil
}

// Public reads the public key and says what is wrong with it.
func Public(m *credentialv1.HmacAuth) (Key, *Fault) {
	block, rest := pem.Decode([]byte(m.GetPublicKey()))
	if block == nil || strings.TrimSpace(string(rest)) != "" || block.Type != "PUBLIC KEY" {
		return Key{}, &Fault{"public_key", "is not one PEM block of the type PUBLIC KEY"}
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, &Fault{"public_key", "is not a public key"}
	}
	fits := algorithms(public)
	if len(fits) == 0 {
		return Key{}, &Fault{"public_key", "is of a kind that is not taken: Ed25519, ECDSA on P-256 or P-384, and RSA of 2048, 3072 or 4096 bits are"}
	}
	if m.GetAlgorithm() == "" {
		return Key{Algorithm: fits[0], Public: public}, nil
	}
	for _, a := range fits {
		if a == m.GetAlgorithm() {
			return Key{Algorithm: a, Public: public}, nil
		}
	}
	return Key{}, &Fault{"algorithm", fmt.Sprintf("%s does not go with this public_key, %s does", m.GetAlgorithm(), strings.Join(fits, " or "))}
}

// algorithms are those that a key can be used with, the one that is meant if nothing is said first.
func algorithms(public crypto.PublicKey) []string {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return []string{"ed25519"}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ecdsa-p256-sha256"}
		case elliptic.P384():
			return []string{"ecdsa-p384-sha384"}
		}
	case *rsa.PublicKey:
		// Of a few sizes only, so that a gateway can spend as much on keys that it does not know.
		if n := k.N.BitLen(); n == 2048 || n == 3072 || n == 4096 {
			return []string{"rsa-pss-sha512", "rsa-v1_5-sha256"}
		}
	}
	return nil
}
