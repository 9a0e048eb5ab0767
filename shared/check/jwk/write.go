package jwk

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// MarshalSet writes public keys as a JWK set. The algorithm is said where the key fits one only.
func MarshalSet(keys []*Key) ([]byte, error) {
	list := make([]map[string]any, 0, len(keys))
	for _, k := range keys {
		m, err := members(k)
		if err != nil {
			return nil, fmt.Errorf("write key %s: %w", k.ID, err)
		}
		list = append(list, m)
	}
	return json.Marshal(map[string]any{"keys": list})
}

func members(k *Key) (map[string]any, error) {
	m := map[string]any{"use": "sig"}
	if k.ID != "" {
		m["kid"] = k.ID
	}
	if alg := k.alg; alg != "" {
		m["alg"] = string(alg)
	}
	encode := base64.RawURLEncoding.EncodeToString
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			return nil, err
		}
		half := len(point) / 2 // one byte says how the two that follow are written
		m["kty"], m["crv"], m["x"], m["y"] = "EC", p.Curve.Params().Name, encode(point[1:1+half]), encode(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", encode(p)
	default:
		return nil, errors.New("is a secret")
	}
	return m, nil
}
