package recovery

import (
	"crypto/fips140"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"keyward.dev/shared/sealedset"
)

const (
	wholeFile = "keyward/backup/v1"
	pemPublic = "KEYWARD RECOVERY PUBLIC KEY"
	pemSecret = "KEYWARD RECOVERY KEY"
	// pemKEM says what a key is; the first ones, which were of ML-KEM-768 with X25519, do not have it.
	pemKEM = "KEM"
)

// ErrNotApproved says that something was sealed as FIPS 140-3 does not approve of, and this process may do nothing else.
var ErrNotApproved = errors.New("it was sealed as FIPS 140-3 does not approve of: open it without fips140=only")

// Identity is the private half of a recovery key. It does not print itself.
type Identity struct{ private hpke.PrivateKey }

// Format implements fmt.Formatter.
func (Identity) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[recovery key]") }

// LogValue implements slog.LogValuer.
func (Identity) LogValue() slog.Value { return slog.StringValue("[recovery key]") }

// Recipient is the public half of a recovery key.
type Recipient struct{ public hpke.PublicKey }

// NewIdentity makes a recovery key.
func NewIdentity() (Identity, error) {
	private, err := hpke.MLKEM768P256().GenerateKey()
	if err != nil {
		return Identity{}, fmt.Errorf("make recovery key: %w", err)
	}
	return Identity{private}, nil
}

// Recipient is the public half.
func (i Identity) Recipient() Recipient { return Recipient{i.private.PublicKey()} }

// ID is a fingerprint of the key: the same for both halves.
func (r Recipient) ID() string {
	sum := sha256.Sum256(r.public.Bytes())
	return hex.EncodeToString(sum[:8])
}

// WrapKey seals the key of a whole backup, bound to aad.
func (r Recipient) WrapKey(key sealedset.Secret, aad []byte) (encapsulated, sealed []byte, err error) {
	return sealedset.Wrap(r.public, wholeFile, key, aad)
}

// UnwrapKey is the reverse of Recipient.WrapKey. The format is that of the whole backup.
func (i Identity) UnwrapKey(format byte, encapsulated, sealed, aad []byte) (sealedset.Secret, error) {
	b, err := i.open(format, wholeFile, encapsulated, sealed, aad)
	if err != nil {
		return sealedset.Secret{}, err
	}
	defer clear(b)
	if len(b) != len(sealedset.Secret{}) {
		return sealedset.Secret{}, ErrMalformed
	}
	return sealedset.Secret(b), nil
}

// open opens what is sealed to the key, as it was done in that format.
func (i Identity) open(format byte, purpose string, enc, sealed, aad []byte) ([]byte, error) {
	if format == 1 {
		return i.openFirst(purpose, enc, sealed, aad)
	}
	aead, err := sealedset.OpenWith(i.private, purpose, enc)
	if err != nil {
		return nil, ErrOtherKey
	}
	plain, err := aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, ErrOtherKey
	}
	return plain, nil
}

func (i Identity) openFirst(purpose string, enc, sealed, aad []byte) ([]byte, error) {
	if fips140.Enforced() {
		return nil, ErrNotApproved
	}
	recipient, err := hpke.NewRecipient(enc, i.private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(purpose))
	if err != nil {
		return nil, ErrOtherKey
	}
	plain, err := recipient.Open(aad, sealed)
	if err != nil {
		return nil, ErrOtherKey
	}
	return plain, nil
}

// MarshalPEM gives the private half. It is secret.
func (i Identity) MarshalPEM() ([]byte, error) {
	b, err := i.private.Bytes()
	if err != nil {
		return nil, fmt.Errorf("marshal recovery key: %w", err)
	}
	return marshalKey(pemSecret, i.private.KEM(), b), nil
}

// MarshalPEM gives the public half.
func (r Recipient) MarshalPEM() []byte {
	return marshalKey(pemPublic, r.public.KEM(), r.public.Bytes())
}

func marshalKey(kind string, kem hpke.KEM, b []byte) []byte {
	block := &pem.Block{Type: kind, Bytes: b}
	for name, k := range kems() {
		if name != "" && k.ID() == kem.ID() {
			block.Headers = map[string]string{pemKEM: name}
		}
	}
	return pem.EncodeToMemory(block)
}

// kems are the kinds of recovery keys, by their names in files.
func kems() map[string]hpke.KEM {
	return map[string]hpke.KEM{"": hpke.MLKEM768X25519(), "MLKEM768-P256": hpke.MLKEM768P256()}
}

// parseKey reads a file with one key.
func parseKey(file []byte, kind string) (hpke.KEM, []byte, error) {
	b, err := block(file, kind)
	if err != nil {
		return nil, nil, err
	}
	name, headers := b.Headers[pemKEM], 0
	if name != "" {
		headers = 1
	}
	kem, known := kems()[name]
	if !known || len(b.Headers) != headers {
		return nil, nil, fmt.Errorf("%q is of a kind that this program does not know: %w", kind, ErrMalformed)
	}
	return kem, b.Bytes, nil
}

// ParseIdentity is the reverse of Identity.MarshalPEM.
func ParseIdentity(file []byte) (Identity, error) {
	kem, b, err := parseKey(file, pemSecret)
	if err != nil {
		return Identity{}, err
	}
	private, err := kem.NewPrivateKey(b)
	if err != nil {
		return Identity{}, fmt.Errorf("recovery key: %w", ErrMalformed)
	}
	return Identity{private}, nil
}

// ParseRecipient is the reverse of Recipient.MarshalPEM.
func ParseRecipient(file []byte) (Recipient, error) {
	kem, b, err := parseKey(file, pemPublic)
	if err != nil {
		return Recipient{}, err
	}
	public, err := kem.NewPublicKey(b)
	if err != nil {
		return Recipient{}, fmt.Errorf("public recovery key: %w", ErrMalformed)
	}
	return Recipient{public}, nil
}
