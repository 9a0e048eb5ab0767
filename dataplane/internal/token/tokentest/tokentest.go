// Package tokentest mints tokens for tests, honest ones and such as only an attacker makes. It uses none of what package token
// does, so that a mistake there does not look right here.
package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"

	"keyward.dev/shared/check/jwk"
)

// Key signs tokens.
type Key struct {
	ID      string
	Alg     jwk.Algorithm
	private crypto.Signer
	Secret  []byte
}

// NewKey makes a key for an algorithm.
func NewKey(t testing.TB, alg jwk.Algorithm, id string) *Key {
	t.Helper()
	k := &Key{ID: id, Alg: alg}
	var err error
	switch alg {
	case jwk.HS256, jwk.HS384, jwk.HS512:
		k.Secret = make([]byte, alg.Hash().Size())
		_, err = rand.Read(k.Secret)
	case jwk.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwk.ES384:
		k.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jwk.ES512:
		k.private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jwk.EdDSA, jwk.Ed25519:
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Private returns the private key, nil for a secret.
func (k *Key) Private() crypto.Signer { return k.private }

// As returns the same key for another algorithm.
func (k *Key) As(alg jwk.Algorithm) *Key {
	other := *k
	other.Alg = alg
	return &other
}

// PEM returns the public key.
func (k *Key) PEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Members returns the public key's JWK.
func (k *Key) Members() map[string]any {
	m := map[string]any{"kid": k.ID, "use": "sig", "alg": string(k.Alg)}
	switch p := k.private.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, _ := p.Bytes()
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", p.Curve.Params().Name, encode(point[1:1+half]), encode(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", encode(p)
	}
	return m
}

// Set returns the key set of some keys.
func Set(keys ...*Key) []byte {
	list := []any{}
	for _, k := range keys {
		list = append(list, k.Members())
	}
	return marshal(map[string]any{"keys": list})
}

// Token returns a token with these claims. Members of header replace what stands there otherwise; nil ones are left out.
func (k *Key) Token(header, claims map[string]any) string {
	h := map[string]any{"alg": string(k.Alg), "typ": "JWT"}
	if k.ID != "" {
		h["kid"] = k.ID
	}
	maps.Copy(h, header)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	return k.Raw(string(marshal(h)), string(marshal(claims)))
}

// Raw returns a token of a header and a payload as they are, signed as the key's algorithm says whatever the header does.
func (k *Key) Raw(header, payload string) string {
	input := encode([]byte(header)) + "." + encode([]byte(payload))
	return input + "." + encode(k.Sign([]byte(input)))
}

// Sign signs as the key's algorithm says.
func (k *Key) Sign(input []byte) []byte {
	h := k.Alg.Hash()
	if k.Alg.Symmetric() {
		mac := hmac.New(h.New, k.Secret)
		mac.Write(input)
		return mac.Sum(nil)
	}
	message, opts := input, crypto.SignerOpts(h)
	if h != 0 {
		d := h.New()
		d.Write(input)
		message = d.Sum(nil)
	}
	if strings.HasPrefix(string(k.Alg), "PS") {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	if key, ok := k.private.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, key, message)
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	out, err := k.private.Sign(rand.Reader, message, opts)
	if err != nil {
		panic(err)
	}
	return out
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
