package sealedset

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a key of 256 bits that does not print itself.
type Secret [32]byte

// Format implements fmt.Formatter.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[secret]") }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// NewSecret draws a key.
func NewSecret() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// Derive makes a key for one purpose out of another secret.
func Derive(from []byte, purpose string) (Secret, error) {
	b, err := hkdf.Key(sha256.New, from, nil, purpose, len(Secret{}))
	if err != nil {
		return Secret{}, fmt.Errorf("derive key: %w", err)
	}
	return Secret(b), nil
}

// Wrap seals a file's key to whoever holds the private key, bound to aad.
func Wrap(to hpke.PublicKey, purpose string, key Secret, aad []byte) (enc, wrapped []byte, err error) {
	enc, aead, err := SealTo(to, purpose)
	if err != nil {
		return nil, nil, fmt.Errorf("wrap data key: %w", err)
	}
	return enc, aead.Seal(nil, nil, key[:], aad), nil
}

// Unwrap opens a file's key.
func Unwrap(private hpke.PrivateKey, purpose string, enc, wrapped, aad []byte) (Secret, error) {
	aead, err := OpenWith(private, purpose, enc)
	if err != nil {
		return Secret{}, fmt.Errorf("unwrap data key: %w", err)
	}
	b, err := aead.Open(nil, nil, wrapped, aad)
	if err != nil || len(b) != len(Secret{}) {
		return Secret{}, errors.New("unwrap data key: it does not open")
	}
	return Secret(b), nil
}
