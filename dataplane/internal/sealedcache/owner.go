package sealedcache

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"errors"
	"fmt"

	"keyward.dev/shared/mtls"
	"keyward.dev/shared/sealedset"
)

// Purposes of keys, so that no key serves two.
const (
	purposeWrap    = "keyward/sealed-cache/v1 wrap"
	purposeBind    = "keyward/sealed-cache/v1 bind"
	purposeRecords = "keyward/sealed-cache/v1 records"
	purposeSeen    = "keyward/sealed-cache/v1 seen"
)

// owner is a gateway and what its identity key can do for the cache.
type owner struct {
	id      mtls.ID
	keyHash [sha256.Size]byte // of the public key
	public  hpke.PublicKey
	private hpke.PrivateKey
	// bind goes into the key of every file. Anybody can wrap a key to a public key; only the private key's holder knows
	// bind, so nobody else can make a file that opens.
	bind sealedset.Secret
	// seen authenticates the seen file.
	seen sealedset.Secret
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
	if o.bind, err = sealedset.Derive(shared, purposeBind); err != nil {
		return nil, err
	}
	o.seen, err = sealedset.Derive(shared, purposeSeen)
	return o, err
}

// wrap seals a file's data key to the owner.
func (o *owner) wrap(data sealedset.Secret, aad []byte) (enc, wrapped []byte, err error) {
	return sealedset.Wrap(o.public, purposeWrap, data, aad)
}

// unwrap opens a file's data key.
func (o *owner) unwrap(enc, wrapped, aad []byte) (sealedset.Secret, error) {
	return sealedset.Unwrap(o.private, purposeWrap, enc, wrapped, aad)
}

// recordsKey is the key of a file's chunks.
func (o *owner) recordsKey(data sealedset.Secret) (sealedset.Secret, error) {
	return sealedset.Derive(append(data[:], o.bind[:]...), purposeRecords)
}
