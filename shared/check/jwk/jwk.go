// Package jwk reads the keys that tokens are verified with: JSON Web Keys (RFC 7517), sets of them, and PEM. A key says itself
// what it may be used for, so that no token can have it used for something else, and a key that is too weak is none.
//
// It is pure. Admission checks with it what gateways are then given; gateways also read what issuers publish.
package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyward.dev/shared/check/strictjson"
)

// Bounds of what is read.
const (
	// MaxSet is the most bytes a set may have.
	MaxSet = 256 << 10
	// MaxKeys is the most keys a set may have.
	MaxKeys = 128
	maxID   = 256
	// minRSA is that of RFC 7518 section 3.3, maxRSA keeps a signature from costing milliseconds.
	minRSA, maxRSA = 2048, 8192
	minExponent    = 65537
)

// Key verifies signatures. It is never changed.
type Key struct {
	// ID is what tokens name it by in kid; empty: they need not.
	ID string
	// alg is the only algorithm it is for, if it says so.
	alg    Algorithm
	public crypto.PublicKey
	secret []byte
	print  [sha256.Size]byte
}

// Permits reports whether signatures of the algorithm may be verified with the key.
func (k *Key) Permits(a Algorithm) bool { return a.fits(k) && (k.alg == "" || sameAlgorithm(k.alg, a)) }

// sameAlgorithm knows that EdDSA and Ed25519 are two names of what an Ed25519 key does (RFC 9864 section 2.2).
func sameAlgorithm(a, b Algorithm) bool {
	edwards := func(x Algorithm) bool { return x == EdDSA || x == Ed25519 }
	return a == b || edwards(a) && edwards(b)
}

// Public returns the public key, nil for a secret.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Secret returns the secret, nil for a public key.
func (k *Key) Secret() []byte { return k.secret }

// Same reports whether two keys verify the same, wherever they come from and whatever they are called.
func (k *Key) Same(other *Key) bool { return k.print == other.print && k.alg == other.alg }

// Set is a set of keys. It is never changed.
type Set struct {
	Keys []*Key
	// Skipped counts those that are of no use here: for encryption, of other kinds, or too weak.
	Skipped int
}

// Has reports whether the set still has the key.
func (s *Set) Has(k *Key) bool { return slices.ContainsFunc(s.Keys, k.Same) }

// ParseSet reads a key set. Keys that are of no use here are passed over, as RFC 7517 section 5 says; a set that has no
// others is none.
func ParseSet(b []byte) (*Set, error) {
	if len(b) > MaxSet {
		return nil, fmt.Errorf("has more than %d bytes", MaxSet)
	}
	o, err := strictjson.Object(b)
	if err != nil {
		return nil, err
	}
	list, ok := o["keys"].([]any)
	if !ok {
		return nil, errors.New("has no list of keys")
	}
	if len(list) > MaxKeys {
		return nil, fmt.Errorf("has more than %d keys", MaxKeys)
	}
	s := &Set{}
	for _, e := range list {
		members, ok := e.(map[string]any)
		if !ok {
			return nil, errors.New("has a key that is not an object")
		}
		k, err := FromMembers(members)
		if err != nil {
			s.Skipped++
			continue
		}
		s.Keys = append(s.Keys, k)
	}
	if len(s.Keys) == 0 {
		return nil, errors.New("has no key that signatures could be verified with")
	}
	return s, nil
}

// Parse reads a public key as people write it: PEM (a public key or a certificate), a JWK, or a set of JWKs.
func Parse(text string) ([]*Key, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		k, err := parsePEM(text)
		if err != nil {
			return nil, err
		}
		return []*Key{k}, nil
	}
	o, err := strictjson.Object([]byte(text))
	if err != nil {
		return nil, err
	}
	if _, ok := o["keys"]; !ok {
		k, err := FromMembers(o)
		if err != nil {
			return nil, err
		}
		return []*Key{k}, nil
	}
	s, err := ParseSet([]byte(text))
	if err != nil {
		return nil, err
	}
	if s.Skipped > 0 {
		return nil, fmt.Errorf("has %d keys that cannot be used: leave them out", s.Skipped)
	}
	return s.Keys, nil
}

func parsePEM(text string) (*Key, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("is neither PEM nor a JWK")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("has something behind the first PEM block")
	}
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = c.PublicKey
		}
	default:
		return nil, errors.New("is PEM, but neither a public key nor a certificate")
	}
	if err != nil {
		return nil, errors.New("is PEM that does not hold what it says")
	}
	return FromPublic(public, "", "")
}

// FromPublic makes a key of a public key. Without alg it is for every algorithm that fits it.
func FromPublic(public crypto.PublicKey, id string, alg Algorithm) (*Key, error) {
	k := &Key{ID: id, alg: alg, public: public}
	if err := strong(public); err != nil {
		return nil, err
	}
	if alg != "" && !alg.fits(k) {
		return nil, errors.New("is not a key for its algorithm")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, errors.New("is not a key that signatures could be verified with")
	}
	k.print = sha256.Sum256(der)
	return k, nil
}

func strong(public crypto.PublicKey) error {
	switch p := public.(type) {
	case *rsa.PublicKey:
		switch bits := p.N.BitLen(); {
		case bits < minRSA:
			return fmt.Errorf("is an RSA key of %d bits; it needs %d", bits, minRSA)
		case bits > maxRSA:
			return fmt.Errorf("is an RSA key of %d bits; more than %d cost too much", bits, maxRSA)
		case p.N.Bit(0) == 0 || p.E < minExponent || p.E&1 == 0:
			return errors.New("is an RSA key with a weak modulus or exponent")
		}
		return nil
	case *ecdsa.PublicKey:
		if !slices.Contains([]string{"P-256", "P-384", "P-521"}, p.Curve.Params().Name) {
			return errors.New("is on a curve that tokens are not signed with")
		}
		return nil
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return errors.New("is not an Ed25519 key")
		}
		return nil
	}
	return errors.New("is not a key that signatures could be verified with")
}

// FromSecret makes a key of a secret for one algorithm. RFC 7518 section 3.2: it has at least as many bytes as the hash.
func FromSecret(secret []byte, alg Algorithm) (*Key, error) {
	if !alg.Symmetric() {
		return nil, errors.New("is a secret, but the algorithm is not one of HS256, HS384 and HS512")
	}
	if floor := alg.Hash().Size(); len(secret) < floor {
		return nil, fmt.Errorf("must have at least %d bytes for %s", floor, alg)
	}
	return &Key{alg: alg, secret: slices.Clone(secret), print: sha256.Sum256(append([]byte("secret "), secret...))}, nil
}

// Bytes decodes Base64 of RFC 7515 section 2: URL-safe, without padding, and with nothing in it that would be passed over.
func Bytes(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("has a line break in Base64")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("is not Base64 for URLs without padding")
	}
	return b, nil
}
