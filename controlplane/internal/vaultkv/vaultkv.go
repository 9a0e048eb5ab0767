// Package vaultkv reads single secrets from the KV engine of HashiCorp Vault: those of the control plane's own settings. It does
// not keep them; who wants to know again reads again. What tenants refer to is not its business.
package vaultkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/shared/settings"
)

var (
	// ErrDown says that Vault did not answer, or cannot now: waiting may help.
	ErrDown = errors.New("vault cannot be asked now")
	// ErrForm says that a text names no secret in Vault.
	ErrForm = errors.New("is not of the form {vault://HOST:PORT/MOUNT/PATH?…#FIELD}")
	errNone = errors.New("there is nothing, or nothing that is text")
)

// Secret is one field of a secret in Vault.
type Secret struct {
	client      *vaultclient.Client
	path, field string
	nested      bool // version 2 of the engine
	name        string
}

var fieldForm = regexp.MustCompile(`^[A-Za-z0-9._@-]+$`)

// Open reads https://HOST:PORT/MOUNT/PATH?PARAMETERS#FIELD. Beside those of the login there are `mount`, where it has more than
// one part, and `kv`, the version of the engine. Files and variables for the login are read now, Vault is not asked yet. Errors do
// not quote the text.
func Open(text string, lookup settings.Lookup) (*Secret, error) {
	place, field, _ := strings.Cut(text, "#")
	if !fieldForm.MatchString(field) {
		return nil, ErrForm
	}
	l, err := vaulturi.Parse(place)
	switch {
	case errors.Is(err, vaulturi.ErrForm):
		return nil, ErrForm
	case err != nil:
		return nil, err
	}
	mount := l.Rest.Take("mount")
	if mount == "" {
		mount, _, _ = strings.Cut(l.Path, "/")
	}
	rest, ok := strings.CutPrefix(l.Path, mount+"/")
	if !ok {
		return nil, errors.New("names no secret below the mount: https://HOST:PORT/MOUNT/PATH")
	}
	s := &Secret{path: l.Path, field: field, name: "vault:" + l.Path + "#" + field}
	switch l.Rest.Take("kv") {
	case "", "2":
		s.path, s.nested = mount+"/data/"+rest, true
	case "1":
	default:
		return nil, errors.New("kv must be 1 or 2, the version of the KV engine")
	}
	if err := l.Rest.Check(); err != nil {
		return nil, err
	}
	s.client, err = l.Open(lookup)
	return s, err
}

// Read asks Vault. Errors name the secret, and never tell it.
func (s *Secret) Read(ctx context.Context) (string, error) {
	text, err := s.read(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.name, err)
	}
	return text, nil
}

func (s *Secret) read(ctx context.Context) (string, error) {
	data, err := s.client.Read(ctx, s.path)
	if vaultclient.Down(err) {
		return "", fmt.Errorf("%w: %w", ErrDown, err)
	}
	if err != nil {
		return "", err
	}
	if s.nested {
		data, _ = data["data"].(map[string]any) // nil for a version that was deleted
	}
	text, _ := data[s.field].(string)
	if text == "" {
		return "", errNone
	}
	return text, nil
}

// Run keeps the login valid until ctx ends.
func (s *Secret) Run(ctx context.Context, log *slog.Logger) error { return s.client.Run(ctx, log) }
