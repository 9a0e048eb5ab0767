package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	sealFormat = 1
	saltSize   = 32
	headerSize = 1 + 4 + saltSize
	nonceSize  = 12
	tagSize    = 16
	// Overhead is how much longer a ciphertext is than its plain text.
	Overhead = headerSize + nonceSize + tagSize

	sealInfo = "keyward/seal/v1"
)

var (
	// ErrMalformed says that bytes are not a ciphertext of this package.
	ErrMalformed = errors.New("malformed ciphertext")
	// ErrDamaged says that a ciphertext does not open in this place: it was altered, moved from another row or group, or
	// its row's revision was.
	ErrDamaged = errors.New("ciphertext was altered or does not belong here")
)

// Seal encrypts for a place, with the newest term and a key of its own.
func (r *Ring) Seal(p Place, plaintext []byte) ([]byte, error) {
	t := r.newest()
	out := make([]byte, headerSize, len(plaintext)+Overhead)
	out[0] = sealFormat
	binary.BigEndian.PutUint32(out[1:], t.number)
	if _, err := rand.Read(out[5:headerSize]); err != nil {
		return nil, fmt.Errorf("seal %v: %w", p, err)
	}
	aead, err := t.aead(out[5:headerSize])
	if err != nil {
		return nil, fmt.Errorf("seal %v: %w", p, err)
	}
	return aead.Seal(out, nil, plaintext, additional(out, p)), nil
}

// Open decrypts what Seal made for the same place.
func (r *Ring) Open(p Place, ciphertext []byte) ([]byte, error) {
	number, err := Term(ciphertext)
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", p, err)
	}
	t := r.find(number)
	if t == nil || t.removed {
		return nil, fmt.Errorf("open %v: term %d: %w", p, number, ErrUnknownTerm)
	}
	header := ciphertext[:headerSize]
	aead, err := t.aead(header[5:])
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", p, err)
	}
	plaintext, err := aead.Open(nil, nil, ciphertext[headerSize:], additional(header, p))
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", p, ErrDamaged)
	}
	return plaintext, nil
}

// Rewrap seals anew, with the newest term, what an older one sealed for the place. What is inside stays what it was, and so
// does the place.
func (r *Ring) Rewrap(p Place, ciphertext []byte) ([]byte, error) {
	plaintext, err := r.Open(p, ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return r.Seal(p, plaintext)
}

// Term answers the number of the term that sealed a ciphertext.
func Term(ciphertext []byte) (uint32, error) {
	if len(ciphertext) < Overhead || ciphertext[0] != sealFormat {
		return 0, ErrMalformed
	}
	number := binary.BigEndian.Uint32(ciphertext[1:])
	if number == 0 {
		return 0, ErrMalformed
	}
	return number, nil
}

func (t *term) aead(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, t.key[:], salt, sealInfo, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func additional(header []byte, p Place) []byte {
	b := make([]byte, 0, headerSize+4*4+len(p.Purpose)+len(p.Group)+len(p.Kind)+len(p.UID)+8)
	return p.appendTo(append(b, header[:headerSize]...))
}
