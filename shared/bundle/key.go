package bundle

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
)

const (
	pemKey     = "KEYWARD BUNDLE KEY"
	pemSigner  = "PUBLIC KEY"
	pemGroup   = "Group"
	pemVersion = "Version"
)

// Key is one version of a group's bundle key. It does not print its private half.
type Key struct {
	Group   string
	Version uint32
	private *ecdh.PrivateKey
}

// NewKey makes a version of the group's key.
func NewKey(group string, version uint32) (Key, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make bundle key: %w", err)
	}
	return Key{Group: group, Version: version, private: private}, nil
}

// seal returns the public half.
func (k Key) seal() (hpke.PublicKey, error) { return hpke.NewDHKEMPublicKey(k.private.PublicKey()) }

// open returns the private half.
func (k Key) open() (hpke.PrivateKey, error) { return hpke.NewDHKEMPrivateKey(k.private) }

// Format implements fmt.Formatter.
func (k Key) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "[bundle key %d of group %s]", k.Version, k.Group)
}

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// MarshalPEM returns the key as gateways read it. It is secret.
func (k Key) MarshalPEM() []byte {
	headers := map[string]string{pemGroup: k.Group, pemVersion: strconv.FormatUint(uint64(k.Version), 10)}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Headers: headers, Bytes: k.private.Bytes()})
}

// ParseKeys reads the keys in a file: one, or several versions one behind the other.
func ParseKeys(file []byte) ([]Key, error) {
	var keys []Key
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		k, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no bundle key in it")
	}
	return keys, nil
}

func parseKey(block *pem.Block) (Key, error) {
	version, err := strconv.ParseUint(block.Headers[pemVersion], 10, 31)
	if block.Type != pemKey || err != nil || version == 0 || block.Headers[pemGroup] == "" {
		return Key{}, errors.New("a block in it is no bundle key with group and version")
	}
	private, err := ecdh.P256().NewPrivateKey(block.Bytes)
	if err != nil {
		return Key{}, errors.New("a bundle key in it does not parse")
	}
	return Key{Group: block.Headers[pemGroup], Version: uint32(version), private: private}, nil
}

// Signer is the installation's key that signs bundles. It does not print itself.
type Signer struct{ private ed25519.PrivateKey }

// NewSigner makes a signer.
func NewSigner() (Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Signer{}, fmt.Errorf("make bundle signer: %w", err)
	}
	return Signer{private}, nil
}

// Format implements fmt.Formatter.
func (Signer) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[bundle signer]")) }

// LogValue implements slog.LogValuer.
func (Signer) LogValue() slog.Value { return slog.StringValue("[bundle signer]") }

// Seed is the secret the signer is made of.
func (s Signer) Seed() []byte { return bytes.Clone(s.private.Seed()) }

// SignerFrom returns the signer of that seed.
func SignerFrom(seed []byte) (Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return Signer{}, errors.New("the seed of the bundle signer has a wrong length")
	}
	return Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// Public is what bundles are verified with.
func (s Signer) Public() ed25519.PublicKey { return s.private.Public().(ed25519.PublicKey) }

// MarshalSigner returns a signer's public key as gateways read it.
func MarshalSigner(public ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("write public key of the bundle signer: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemSigner, Bytes: der}), nil
}

// ParseSigner reads what MarshalSigner wrote.
func ParseSigner(file []byte) (ed25519.PublicKey, error) {
	block, rest := pem.Decode(file)
	if block == nil || block.Type != pemSigner || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one public key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("its public key is not of a bundle signer (Ed25519)")
	}
	return public, nil
}
