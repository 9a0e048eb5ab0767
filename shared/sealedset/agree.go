package sealedset

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"fmt"
)

// exported names the one secret that is taken from an exchange.
const exported = "aes-256-gcm key"

// SealTo agrees on a key with whoever holds the private key, who finds it by enc. It is HPKE's secret export (RFC 9180,
// section 5.3) and not HPKE's own encryption, because that counts its nonces, and FIPS 140-3 approves only of random ones.
func SealTo(to hpke.PublicKey, purpose string) (enc []byte, aead cipher.AEAD, err error) {
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purpose))
	if err != nil {
		return nil, nil, fmt.Errorf("agree on a key: %w", err)
	}
	aead, err = exportedAEAD(sender.Export)
	return enc, aead, err
}

// OpenWith is the other side of SealTo.
func OpenWith(private hpke.PrivateKey, purpose string, enc []byte) (cipher.AEAD, error) {
	recipient, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	return exportedAEAD(recipient.Export)
}

func exportedAEAD(export func(string, int) ([]byte, error)) (cipher.AEAD, error) {
	key, err := export(exported, len(Secret{}))
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	defer clear(key)
	return randomGCM(Secret(key))
}

// randomGCM is AES-256-GCM that draws its nonces and puts them in front.
func randomGCM(key Secret) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return aead, nil
}
