package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"sync"

	"keyward.dev/dataplane/internal/exchange"
)

// Algorithm is how a key verifies.
type Algorithm uint8

// Algorithms, under the names of RFC 9421 where it has one.
const (
	HMACSHA256 Algorithm = iota + 1
	HMACSHA512
	Ed25519
	ECDSAP256SHA256
	ECDSAP384SHA384
	RSAPSSSHA512
	RSAPKCS1SHA256
)

// minSecret is 112 bits.
const minSecret = 14

// Key verifies signatures by one algorithm, whatever these say. It is immutable and used by many exchanges at once.
type Key struct {
	algorithm Algorithm
	states    sync.Pool // of HMAC
	public    crypto.PublicKey
	size      int
}

// macState is an HMAC ready to be used again, and room for its result.
type macState struct {
	mac hash.Hash
	sum [sha512.Size]byte
}

// NewSecret makes a key of a shared secret.
func NewSecret(a Algorithm, secret []byte) (*Key, error) {
	var sum func() hash.Hash
	k := &Key{algorithm: a}
	switch a {
	case HMACSHA256:
		sum, k.size = sha256.New, sha256.Size
	case HMACSHA512:
		sum, k.size = sha512.New, sha512.Size
	default:
		return nil, errors.New("the algorithm takes no secret")
	}
	if len(secret) < minSecret { // which the FIPS 140-3 module panics at
		return nil, errors.New("the secret is too short")
	}
	own := slices.Clone(secret)
	k.states.New = func() any { return &macState{mac: hmac.New(sum, own)} }
	return k, nil
}

// NewPublic makes a key of a public key.
func NewPublic(a Algorithm, public crypto.PublicKey) (*Key, error) {
	k := &Key{algorithm: a, public: public}
	ok := false
	switch p := public.(type) {
	case ed25519.PublicKey:
		ok, k.size = a == Ed25519 && len(p) == ed25519.PublicKeySize, ed25519.SignatureSize
	case *ecdsa.PublicKey:
		ok = a == ECDSAP256SHA256 && p.Curve == elliptic.P256() || a == ECDSAP384SHA384 && p.Curve == elliptic.P384()
		k.size = 2 * ((p.Params().BitSize + 7) / 8)
	case *rsa.PublicKey:
		ok, k.size = a == RSAPSSSHA512 || a == RSAPKCS1SHA256, p.Size()
	}
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not go with the algorithm", public)
	}
	return k, nil
}

// Algorithm returns how the key verifies.
func (k *Key) Algorithm() Algorithm { return k.algorithm }

// Size returns the length of its signatures.
func (k *Key) Size() int { return k.size }

// Verify reports whether the signature was made over the bytes by who has the secret or the private key.
func (k *Key) Verify(base, signature []byte) bool {
	if len(signature) != k.size {
		return false
	}
	switch p := k.public.(type) {
	case nil:
		return k.verifyMAC(base, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(p, base, signature)
	case *ecdsa.PublicKey:
		return k.verifyECDSA(p, base, signature)
	case *rsa.PublicKey:
		if k.algorithm == RSAPKCS1SHA256 {
			digest := sha256.Sum256(base)
			return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest[:], signature) == nil
		}
		digest := sha512.Sum512(base)
		return rsa.VerifyPSS(p, crypto.SHA512, digest[:], signature, &rsa.PSSOptions{SaltLength: sha512.Size}) == nil
	}
	return false
}

func (k *Key) verifyMAC(base, signature []byte) bool {
	s, ok := k.states.Get().(*macState)
	if !ok {
		return false
	}
	s.mac.Reset()
	s.mac.Write(base)
	sum := s.mac.Sum(s.sum[:0])
	same := subtle.ConstantTimeCompare(sum, signature) == 1
	clear(s.sum[:])
	k.states.Put(s)
	return same
}

// verifyECDSA takes the two numbers side by side, as RFC 9421 section 3.3.4 has them.
func (k *Key) verifyECDSA(p *ecdsa.PublicKey, base, signature []byte) bool {
	r, s := new(big.Int).SetBytes(signature[:k.size/2]), new(big.Int).SetBytes(signature[k.size/2:])
	if k.algorithm == ECDSAP384SHA384 {
		digest := sha512.Sum384(base)
		return ecdsa.Verify(p, digest[:], r, s)
	}
	digest := sha256.Sum256(base)
	return ecdsa.Verify(p, digest[:], r, s)
}

// Admits reports whether a signature may say that it was made by this algorithm: by its name in RFC 9421, or in the drafts by
// one of those that were in use for it, or that the key tells.
func (a Algorithm) Admits(s *Signature) bool {
	if s.Algorithm == nil {
		return true
	}
	if !s.draft {
		return string(s.Algorithm) == a.String()
	}
	if exchange.EqualFold(s.Algorithm, "hs2019") || exchange.EqualFold(s.Algorithm, a.String()) {
		return true
	}
	switch a {
	case RSAPKCS1SHA256:
		return exchange.EqualFold(s.Algorithm, "rsa-sha256")
	case ECDSAP256SHA256:
		return exchange.EqualFold(s.Algorithm, "ecdsa-sha256")
	case ECDSAP384SHA384:
		return exchange.EqualFold(s.Algorithm, "ecdsa-sha384")
	}
	return false
}

// String returns the algorithm's name.
func (a Algorithm) String() string {
	if a > 0 && int(a) < len(names) {
		return names[a]
	}
	return "unknown"
}

// AlgorithmOf returns the algorithm of that name, 0 if there is none.
func AlgorithmOf(name string) Algorithm {
	for a := HMACSHA256; int(a) < len(names); a++ {
		if names[a] == name {
			return a
		}
	}
	return 0
}

// names are those of the algorithms.
var names = [...]string{
	HMACSHA256: "hmac-sha256", HMACSHA512: "hmac-sha512", Ed25519: "ed25519", ECDSAP256SHA256: "ecdsa-p256-sha256",
	ECDSAP384SHA384: "ecdsa-p384-sha384", RSAPSSSHA512: "rsa-pss-sha512", RSAPKCS1SHA256: "rsa-v1_5-sha256",
}
