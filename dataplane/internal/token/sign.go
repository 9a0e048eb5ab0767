package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"keyward.dev/shared/check/jwk"
)

// Signer makes tokens with one key.
type Signer struct {
	key  crypto.Signer
	alg  jwk.Algorithm
	head string // encoded, with the dot
}

// NewSigner makes a signer that names its key by id. The key says the algorithm; rsaAlgorithm is that of RSA keys.
func NewSigner(key crypto.Signer, id string, rsaAlgorithm jwk.Algorithm) (*Signer, error) {
	s := &Signer{key: key, alg: AlgorithmOf(key.Public())}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		s.alg = rsaAlgorithm
	}
	// What verifiers, ours among them, take for a key of the algorithm.
	if _, err := jwk.FromPublic(key.Public(), id, s.alg); err != nil || s.alg == "" {
		return nil, fmt.Errorf("the key cannot sign tokens by %q: %w", s.alg, err)
	}
	head, err := json.Marshal(map[string]string{"alg": string(s.alg), "kid": id, "typ": "JWT"})
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	s.head = base64.RawURLEncoding.EncodeToString(head) + "."
	return s, nil
}

// AlgorithmOf returns the only algorithm that a public key is for; empty for RSA keys, which are for several.
func AlgorithmOf(public crypto.PublicKey) jwk.Algorithm {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve.Params().Name {
		case "P-256":
			return jwk.ES256
		case "P-384":
			return jwk.ES384
		case "P-521":
			return jwk.ES512
		}
	case ed25519.PublicKey:
		return jwk.EdDSA
	}
	return ""
}

// Slow reports whether a signature takes so long that many at once would be felt by others.
func (s *Signer) Slow() bool { return s.alg != jwk.ES256 && s.alg != jwk.EdDSA }

// Sign returns a token that says these claims.
func (s *Signer) Sign(claims map[string]any) ([]byte, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("write claims: %w", err)
	}
	out := base64.RawURLEncoding.AppendEncode([]byte(s.head), payload)
	signature, err := s.signature(out)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return base64.RawURLEncoding.AppendEncode(append(out, '.'), signature), nil
}

func (s *Signer) signature(message []byte) ([]byte, error) {
	h := s.alg.Hash()
	if h == 0 {
		return s.key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	sum := digest(h, message)
	switch key := s.key.(type) {
	case *ecdsa.PrivateKey: // the two numbers at their full length (RFC 7518 section 3.4)
		a, b, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			return nil, err
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(a.FillBytes(make([]byte, size)), b.FillBytes(make([]byte, size))...), nil
	case *rsa.PrivateKey:
		if s.alg == jwk.PS256 {
			return key.Sign(rand.Reader, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h})
		}
		return key.Sign(rand.Reader, sum, h)
	}
	return nil, errors.New("the key is of a kind that is not known")
}
