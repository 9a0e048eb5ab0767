package sealedcache

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"keyward.dev/shared/mtls"
)

// Purposes of keys, so that no key serves two.
const (
	purposeWrap    = "keyward/sealed-cache/v1 wrap"
	purposeBind    = "keyward/sealed-cache/v1 bind"
	purposeRecords = "keyward/sealed-cache/v1 records"
	purposeSeen    = "keyward/sealed-cache/v1 seen"
)

// secret is a key of 256 bits that does not print itself.
type secret [32]byte

// Format implements fmt.Formatter.
func (secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[secret]") }

// LogValue implements slog.LogValuer.
func (secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText implements encoding.TextMarshaler.
func (secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// owner is a gateway and what its identity key can do for the cache.
type owner struct {
	id      mtls.ID
	keyHash [sha256.Size]byte // of the public key
	public  hpke.PublicKey
	private hpke.PrivateKey
	// bind goes into the key of every file. Anybody can wrap a key to a public key; only the private key's holder knows
	// bind, so nobody else can make a file that opens.
	bind secret
	// seen authenticates the seen file.
	seen secret
}

// newOwner derives from an identity key. bind and seen come from the key's exchange with itself, not from its bytes, so
// that a key which never leaves its hardware serves as well.
func newOwner(id mtls.ID, signer crypto.Signer) (*owner, error) {
	convertible, ok := signer.(interface {
		ECDH() (*ecdh.PrivateKey, error)
	})
	if !ok {
		return nil, errors.New("the identity key is of a kind that cannot seal")
	}
	key, err := convertible.ECDH()
	if err != nil {
		return nil, fmt.Errorf("use identity key: %w", err)
	}
	o := &owner{id: id, keyHash: sha256.Sum256(key.PublicKey().Bytes())}
	if o.private, err = hpke.NewDHKEMPrivateKey(key); err != nil {
		return nil, fmt.Errorf("use identity key: %w", err)
	}
	o.public = o.private.PublicKey()
	shared, err := key.ECDH(key.PublicKey())
	if err != nil {
		return nil, fmt.Errorf("use identity key: %w", err)
	}
	if o.bind, err = derive(shared, purposeBind); err != nil {
		return nil, err
	}
	o.seen, err = derive(shared, purposeSeen)
	return o, err
}

func derive(from []byte, purpose string) (secret, error) {
	b, err := hkdf.Key(sha256.New, from, nil, purpose, len(secret{}))
	if err != nil {
		return secret{}, fmt.Errorf("derive key: %w", err)
	}
	return secret(b), nil
}

// wrap seals a file's data key to the owner.
func (o *owner) wrap(data secret, aad []byte) (enc, wrapped []byte, err error) {
	enc, sender, err := hpke.NewSender(o.public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purposeWrap))
	if err != nil {
		return nil, nil, fmt.Errorf("wrap data key: %w", err)
	}
	if wrapped, err = sender.Seal(aad, data[:]); err != nil {
		return nil, nil, fmt.Errorf("wrap data key: %w", err)
	}
	return enc, wrapped, nil
}

// unwrap opens a file's data key.
func (o *owner) unwrap(enc, wrapped, aad []byte) (secret, error) {
	recipient, err := hpke.NewRecipient(enc, o.private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purposeWrap))
	if err != nil {
		return secret{}, fmt.Errorf("unwrap data key: %w", err)
	}
	b, err := recipient.Open(aad, wrapped)
	if err != nil || len(b) != len(secret{}) {
		return secret{}, errors.New("unwrap data key: it does not open")
	}
	return secret(b), nil
}

// recordsKey is the key of a file's chunks.
func (o *owner) recordsKey(data secret) (secret, error) {
	return derive(append(data[:], o.bind[:]...), purposeRecords)
}
