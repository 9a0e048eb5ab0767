package hostsvc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"

	"keyward.dev/dataplane/internal/httpsig"
)

// strangers are keys to spend time on for those who name a key that is not there: one for each algorithm and length of
// signatures. What they say is never believed, so it does not matter that everybody has them.
func strangers() []*httpsig.Key {
	var out []*httpsig.Key
	add := func(k *httpsig.Key, err error) {
		if err == nil {
			out = append(out, k)
		}
	}
	secret := make([]byte, 32)
	add(httpsig.NewSecret(httpsig.HMACSHA256, secret))
	add(httpsig.NewSecret(httpsig.HMACSHA512, secret))
	add(httpsig.NewPublic(httpsig.Ed25519, ed25519.NewKeyFromSeed(secret).Public()))
	for a, curve := range map[httpsig.Algorithm]elliptic.Curve{httpsig.ECDSAP256SHA256: elliptic.P256(), httpsig.ECDSAP384SHA384: elliptic.P384()} {
		if base, err := basePoint(curve); err == nil {
			add(httpsig.NewPublic(a, base))
		}
	}
	for _, bits := range [...]int{2048, 3072, 4096} {
		add(httpsig.NewPublic(httpsig.RSAPSSSHA512, modulus(bits)))
		add(httpsig.NewPublic(httpsig.RSAPKCS1SHA256, modulus(bits)))
	}
	return out
}

// basePoint is a point that every curve comes with.
func basePoint(curve elliptic.Curve) (*ecdsa.PublicKey, error) {
	p := curve.Params()
	size := (p.BitSize + 7) / 8
	text := make([]byte, 1+2*size)
	text[0] = 4 // both coordinates follow
	p.Gx.FillBytes(text[1 : 1+size])
	p.Gy.FillBytes(text[1+size:])
	return ecdsa.ParseUncompressedPublicKey(curve, text)
}

// modulus is an odd number of that length. To verify with it costs as much as with the product of two primes.
func modulus(bits int) crypto.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(bytes.Repeat([]byte{0xd5}, bits/8)), E: 65537}
}
