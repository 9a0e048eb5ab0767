// Package file is a key-encryption key held in a file or an environment variable, e.g. a mounted Secret: 32 random bytes,
// raw or as hexadecimal or base64 text. Whoever has the file and the database can read everything.
package file

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"keyward.dev/controlplane/internal/kek"
)

const (
	keySize  = 32
	saltSize = 32
	format   = 1
	header   = 1 + saltSize
)

var _ kek.Wrapper = (*Key)(nil)

// ErrKey says that something is not a key of this package.
var ErrKey = errors.New("key-encryption key is not 32 bytes, raw or in hexadecimal or base64")

// Key is a key-encryption key in memory.
type Key struct {
	id  string
	key [keySize]byte
}

// Open reads a key from a file.
func Open(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open key-encryption key: %w", err)
	}
	k, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("open key-encryption key %s: %w", path, err)
	}
	return k, nil
}

// Parse takes 32 raw bytes, or their hexadecimal or base64 text with white space around it.
func Parse(b []byte) (*Key, error) {
	raw, ok := decode(b)
	if !ok {
		return nil, ErrKey
	}
	k := &Key{}
	copy(k.key[:], raw)
	if k.key == [keySize]byte{} {
		return nil, fmt.Errorf("%w: it is all zero", ErrKey)
	}
	h := hmac.New(sha256.New, k.key[:])
	h.Write([]byte("keyward/kek/file/id/v1"))
	k.id = "file:" + hex.EncodeToString(h.Sum(nil)[:8])
	return k, nil
}

func decode(b []byte) ([]byte, bool) {
	if len(b) == keySize {
		return b, true
	}
	text := string(bytes.TrimSpace(b))
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == keySize {
		return raw, true
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if raw, err := e.DecodeString(text); err == nil && len(raw) == keySize {
			return raw, true
		}
	}
	return nil, false
}

// ID is a fingerprint of the key.
func (k *Key) ID() string { return k.id }

// String keeps the key out of logs.
func (k *Key) String() string { return k.id }

// GoString keeps the key out of %#v.
func (k *Key) GoString() string { return k.id }

// Wrap encrypts with AES-256-GCM under a key derived from this one and a random salt.
func (k *Key) Wrap(_ context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	out := make([]byte, header, header+12+len(plaintext)+16)
	out[0] = format
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("wrap: %w: %w", kek.ErrUnavailable, err)
	}
	aead, err := k.aead(out[1:])
	if err != nil {
		return nil, fmt.Errorf("wrap: %w: %w", kek.ErrUnavailable, err)
	}
	return aead.Seal(out, nil, plaintext, additional(out, wrapContext)), nil
}

// Unwrap decrypts what Wrap made.
func (k *Key) Unwrap(_ context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	if len(wrapped) < header || wrapped[0] != format {
		return nil, fmt.Errorf("unwrap: %w: malformed", kek.ErrRefused)
	}
	aead, err := k.aead(wrapped[1:header])
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w: %w", kek.ErrUnavailable, err)
	}
	plaintext, err := aead.Open(nil, nil, wrapped[header:], additional(wrapped, wrapContext))
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", kek.ErrRefused)
	}
	return plaintext, nil
}

func (k *Key) aead(salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, k.key[:], salt, "keyward/kek/file/v1", keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	clear(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func additional(wrapped, wrapContext []byte) []byte {
	return append(bytes.Clone(wrapped[:header]), wrapContext...)
}
