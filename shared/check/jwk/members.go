package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
)

// FromMembers makes a key of the members of a JWK. Only public keys are taken: secrets are given otherwise, and a private key
// that is shown is nobody's any more.
func FromMembers(o map[string]any) (*Key, error) {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, has := o[private]; has {
			return nil, errors.New("is not a public key: " + private + " is a part of the private one, or a secret")
		}
	}
	id, alg, err := usage(o)
	if err != nil {
		return nil, err
	}
	public, err := material(o)
	if err != nil {
		return nil, err
	}
	return FromPublic(public, id, alg)
}

// usage reads what the key is for.
func usage(o map[string]any) (id string, alg Algorithm, err error) {
	use, err := optional(o, "use")
	if err == nil && use != "" && use != "sig" {
		err = errors.New("is not for signatures")
	}
	if err != nil {
		return "", "", err
	}
	if ops, has := o["key_ops"]; has {
		if list, ok := ops.([]any); !ok || !slices.Contains(list, any("verify")) {
			return "", "", errors.New("is not for verifying signatures")
		}
	}
	name, err := optional(o, "alg")
	if alg = Algorithm(name); err == nil && alg != "" && !alg.Known() {
		err = errors.New("is for an algorithm that is not known")
	}
	if err != nil {
		return "", "", err
	}
	if id, err = optional(o, "kid"); err == nil && len(id) > maxID {
		err = errors.New("has a kid that is too long")
	}
	return id, alg, err
}

func optional(o map[string]any, name string) (string, error) {
	v, has := o[name]
	s, ok := v.(string)
	if has && !ok {
		return "", errors.New(name + " is not a string")
	}
	return s, nil
}

func material(o map[string]any) (crypto.PublicKey, error) {
	kind, _ := o["kty"].(string)
	switch kind {
	case "RSA":
		return rsaKey(o)
	case "EC":
		return ecKey(o)
	case "OKP":
		x, err := binary(o, "x")
		if err != nil {
			return nil, err
		}
		if crv, _ := o["crv"].(string); crv != "Ed25519" {
			return nil, errors.New("is on a curve that is not known")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errors.New("is of a kind that is not known")
}

func rsaKey(o map[string]any) (crypto.PublicKey, error) {
	n, err := binary(o, "n")
	if err != nil {
		return nil, err
	}
	e, err := binary(o, "e")
	if err != nil {
		return nil, err
	}
	const most = 4 // bytes; what crypto/rsa takes
	exponent := new(big.Int).SetBytes(e)
	if len(e) > most || !exponent.IsInt64() || exponent.Int64() > 1<<31-1 {
		return nil, errors.New("has an exponent that is too large")
	}
	if len(n) > maxRSA/8+1 {
		return nil, errors.New("has a modulus that is too large")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

// ecKey reads a point. RFC 7518 section 6.2.1.2: coordinates have their full length; and they are on the curve.
func ecKey(o map[string]any) (crypto.PublicKey, error) {
	crv, _ := o["crv"].(string)
	var curve elliptic.Curve
	switch crv {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, errors.New("is on a curve that is not known")
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		c, err := binary(o, name)
		if err != nil {
			return nil, err
		}
		if len(c) != (curve.Params().BitSize+7)/8 {
			return nil, errors.New("has a coordinate of the wrong length")
		}
		point = append(point, c...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errors.New("is not a point on its curve")
	}
	return public, nil
}

func binary(o map[string]any, name string) ([]byte, error) {
	s, ok := o[name].(string)
	if !ok || s == "" {
		return nil, errors.New("has no " + name)
	}
	b, err := Bytes(s)
	if err != nil {
		return nil, errors.New(name + " " + err.Error())
	}
	return b, nil
}

// Thumbprint returns the SHA-256 thumbprint of a public key's JWK (RFC 7638) in Base64, and the members it is made of. Both
// are empty for a secret.
func (k *Key) Thumbprint() (print string, members []byte) {
	b64 := base64.RawURLEncoding.EncodeToString
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		members = []byte(`{"e":"` + b64(big.NewInt(int64(p.E)).Bytes()) + `","kty":"RSA","n":"` + b64(p.N.Bytes()) + `"}`)
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			return "", nil
		}
		half := len(point) / 2
		members = []byte(`{"crv":"` + p.Curve.Params().Name + `","kty":"EC","x":"` + b64(point[1:1+half]) + `","y":"` + b64(point[1+half:]) + `"}`)
	case ed25519.PublicKey:
		members = []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + b64(p) + `"}`)
	default:
		return "", nil
	}
	sum := sha256.Sum256(members)
	return b64(sum[:]), members
}
