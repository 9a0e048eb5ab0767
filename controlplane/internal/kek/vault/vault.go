// Package vault is a key-encryption key that never leaves HashiCorp Vault: a key of its Transit engine encrypts and
// decrypts keyrings for whoever Vault lets. Whoever has the database alone, or its backup, opens nothing, and access can
// be taken away. Package vaultclient does the talking.
package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/vaultclient"
)

var _ kek.Wrapper = (*Key)(nil)

// Writer asks Vault; *vaultclient.Client does. Its errors are those of package vaultclient.
type Writer interface {
	Write(ctx context.Context, path string, body map[string]any) (map[string]any, error)
}

const (
	format = 1
	header = 1 + 4
	// prefix begins what Vault calls a ciphertext: vault:v3:BASE64.
	prefix = "vault:v"
)

// Key is a key of a Transit engine.
type Key struct {
	vault       Writer
	mount, name string
}

// New names a key; nothing is asked yet.
func New(w Writer, mount, name string) *Key { return &Key{vault: w, mount: mount, name: name} }

// ID names the key. It stays the same when Vault rotates the key, and when Vault moves to another address.
func (k *Key) ID() string { return "vault:" + k.mount + "/" + k.name }

// Wrap has Vault encrypt. The context goes along twice: as Vault's own, from which a key with derivation is derived, and
// as a hash inside of what is encrypted, because a key without derivation passes it over in silence.
func (k *Key) Wrap(ctx context.Context, wrapContext, plaintext []byte) ([]byte, error) {
	bound := bind(wrapContext, plaintext)
	defer clear(bound)
	text, err := k.ask(ctx, "encrypt", "ciphertext", map[string]any{"plaintext": encode(bound), "context": encode(wrapContext)})
	if err != nil {
		return nil, fmt.Errorf("wrap with %s: %w: %w", k.ID(), kek.ErrUnavailable, err)
	}
	wrapped, err := pack(text)
	if err != nil {
		return nil, fmt.Errorf("wrap with %s: %w: %w", k.ID(), kek.ErrUnavailable, err)
	}
	return wrapped, nil
}

// Unwrap has Vault decrypt.
func (k *Key) Unwrap(ctx context.Context, wrapContext, wrapped []byte) ([]byte, error) {
	ciphertext, ok := unpack(wrapped)
	if !ok {
		return nil, fmt.Errorf("unwrap with %s: %w: malformed", k.ID(), kek.ErrRefused)
	}
	text, err := k.ask(ctx, "decrypt", "plaintext", map[string]any{"ciphertext": ciphertext, "context": encode(wrapContext)})
	if err != nil {
		return nil, fmt.Errorf("unwrap with %s: %w: %w", k.ID(), meaning(err), err)
	}
	bound, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("unwrap with %s: %w: its answer is malformed", k.ID(), kek.ErrUnavailable)
	}
	plaintext, ok := unbind(wrapContext, bound)
	if !ok {
		return nil, fmt.Errorf("unwrap with %s: %w: it was wrapped for something else", k.ID(), kek.ErrRefused)
	}
	return plaintext, nil
}

func (k *Key) ask(ctx context.Context, operation, field string, body map[string]any) (string, error) {
	answer, err := k.vault.Write(ctx, k.mount+"/"+operation+"/"+k.name, body)
	if err != nil {
		return "", err
	}
	text, ok := answer[field].(string)
	if !ok {
		return "", fmt.Errorf("the answer has no %s", field)
	}
	return text, nil
}

// meaning says whether trying again may help. Vault rejects what it cannot decrypt, but also the name of a key that is not
// there, which whoever removed it may put back.
func meaning(err error) error {
	if errors.Is(err, vaultclient.ErrRejected) && !errors.Is(err, vaultclient.ErrNoLogin) &&
		!strings.Contains(err.Error(), "key not found") {
		return kek.ErrRefused
	}
	return kek.ErrUnavailable
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func bind(wrapContext, plaintext []byte) []byte {
	sum := sha256.Sum256(wrapContext)
	return append(sum[:], plaintext...)
}

func unbind(wrapContext, bound []byte) ([]byte, bool) {
	sum := sha256.Sum256(wrapContext)
	if len(bound) < len(sum) || subtle.ConstantTimeCompare(bound[:len(sum)], sum[:]) != 1 {
		return nil, false
	}
	return bytes.Clone(bound[len(sum):]), true
}

// pack stores Vault's text in the one way in which it can be stored: base64 has several texts for the same bytes.
func pack(text string) ([]byte, error) {
	version, body, ok := strings.Cut(strings.TrimPrefix(text, prefix), ":")
	n, err := strconv.ParseUint(version, 10, 32)
	if !strings.HasPrefix(text, prefix) || !ok || err != nil || n == 0 {
		return nil, errors.New("the ciphertext has another form than vault:vN:…")
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return nil, errors.New("the ciphertext is not base64")
	}
	wrapped := binary.BigEndian.AppendUint32([]byte{format}, uint32(n))
	return append(wrapped, raw...), nil
}

func unpack(wrapped []byte) (string, bool) {
	if len(wrapped) <= header || wrapped[0] != format {
		return "", false
	}
	version := binary.BigEndian.Uint32(wrapped[1:header])
	if version == 0 { // Vault takes it for 1
		return "", false
	}
	return prefix + strconv.FormatUint(uint64(version), 10) + ":" + encode(wrapped[header:]), true
}
