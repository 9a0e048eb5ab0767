package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"hash"
	"math/big"
	"slices"

	"keyward.dev/shared/check/jwk"
)

// maxTries is how many keys a token without kid is tried with: each try costs what an attacker does not pay.
const maxTries = 8

// Verify returns the key that the token is signed with. Only keys that are for the token's algorithm are tried, and only if
// that is among the allowed ones. A token that names a key is tried with keys of that name and with those that have none; NoKey
// says that there is none to try, and that another key set may have one.
func (t *Token) Verify(keys []*jwk.Key, allowed []jwk.Algorithm) (*jwk.Key, Fault) {
	if !slices.Contains(allowed, t.Algorithm) {
		return nil, Algorithm
	}
	tries := 0
	for _, k := range keys {
		if !t.names(k) || !k.Permits(t.Algorithm) {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if t.signedBy(k) {
			return k, OK
		}
	}
	if tries == 0 {
		return nil, NoKey
	}
	return nil, Signature
}

func (t *Token) names(k *jwk.Key) bool { return t.KeyID == "" || k.ID == "" || t.KeyID == k.ID }

func (t *Token) signedBy(k *jwk.Key) bool {
	if secret := k.Secret(); secret != nil {
		mac := hmac.New(hasher(t.Algorithm), secret)
		mac.Write(t.signed)
		return hmac.Equal(mac.Sum(nil), t.signature)
	}
	switch public := k.Public().(type) {
	case *rsa.PublicKey:
		return verifyRSA(public, t.Algorithm, t.signed, t.signature)
	case *ecdsa.PublicKey:
		return verifyECDSA(public, t.Algorithm, t.signed, t.signature)
	case ed25519.PublicKey:
		return ed25519.Verify(public, t.signed, t.signature)
	}
	return false
}

func hasher(a jwk.Algorithm) func() hash.Hash { return a.Hash().New }

func digest(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

func verifyRSA(public *rsa.PublicKey, a jwk.Algorithm, message, signature []byte) bool {
	sum := digest(a.Hash(), message)
	switch a {
	case jwk.PS256, jwk.PS384, jwk.PS512:
		o := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash()} // RFC 7518 section 3.5
		return rsa.VerifyPSS(public, a.Hash(), sum, signature, o) == nil
	default:
		return rsa.VerifyPKCS1v15(public, a.Hash(), sum, signature) == nil
	}
}

// verifyECDSA takes the two numbers at their full length (RFC 7518 section 3.4), neither of which is zero.
func verifyECDSA(public *ecdsa.PublicKey, a jwk.Algorithm, message, signature []byte) bool {
	size := (public.Curve.Params().BitSize + 7) / 8
	if len(signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	if order := public.Curve.Params().N; r.Sign() == 0 || s.Sign() == 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return false
	}
	return ecdsa.Verify(public, digest(a.Hash(), message), r, s)
}
