package bundle

import (
	"crypto/ed25519"
	"crypto/sha256"
)

// Sign signs anything as if it were a bundle.
func Sign(key ed25519.PrivateKey, content []byte) []byte {
	sum := sha256.Sum256(content)
	return ed25519.Sign(key, signed(sum[:]))
}
