// Package uri reads the names by which settings say where a key-encryption key is, and opens the key. A name holds no
// secret: where a way to log in needs one, it says in which file or variable that is. Only the wiring uses it.
package uri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/awskms"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/kek/vault"
	"keyward.dev/controlplane/internal/vaultclient/vaulturi"
	"keyward.dev/controlplane/internal/vaultkv"
	"keyward.dev/shared/settings"
)

// Source is an open key. Run, if it is not nil, has to run as long as the key is used. With Kept there is no key yet but its text,
// in Vault.
type Source struct {
	kek.Wrapper
	Run  func(ctx context.Context, log *slog.Logger) error
	Kept *vaultkv.Secret
}

// opener opens a key; lookup finds environment variables.
type opener func(lookup settings.Lookup) (Source, error)

// Location is where a key is. The zero value is nowhere.
type Location struct{ open opener }

// Parse reads one of
//
//	file:PATH
//	env:VARIABLE
//	vault:https://HOST:PORT/MOUNT/KEY?PARAMETERS
//	vaultkv:https://HOST:PORT/MOUNT/PATH?PARAMETERS#FIELD
//	awskms:ARN?endpoint=URL
//
// Its errors do not quote the text.
func Parse(text string) (Location, error) {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok || rest == "" {
		return Location{}, errForm
	}
	var open opener
	var err error
	switch kind {
	case "file":
		open = fromFile(rest)
	case "env":
		open = fromVariable(rest)
	case "vault":
		open, err = fromVault(rest)
	case "vaultkv":
		open = fromKV(rest)
	case "awskms":
		open, err = fromKMS(rest)
	default:
		err = errForm
	}
	return Location{open}, err
}

var errForm = errors.New("is not of the form file:PATH, env:VARIABLE, vault:https://HOST:PORT/MOUNT/KEY?auth=…, vaultkv:https://HOST:PORT/MOUNT/PATH?auth=…#FIELD or awskms:ARN")

// Open opens the key. Files and variables are read now, a service is not asked yet.
func (l Location) Open(lookup settings.Lookup) (Source, error) {
	if l.open == nil {
		return Source{}, errForm
	}
	return l.open(lookup)
}

func fromFile(path string) opener {
	return func(settings.Lookup) (Source, error) {
		k, err := file.Open(path)
		if err != nil { // a nil *file.Key must not become a key
			return Source{}, err
		}
		return Source{Wrapper: k}, nil
	}
}

func fromVariable(name string) opener {
	return func(lookup settings.Lookup) (Source, error) {
		text, _ := lookup(name)
		if text == "" {
			return Source{}, fmt.Errorf("the variable %s is not set", name)
		}
		k, err := file.Parse([]byte(text))
		if err != nil {
			return Source{}, fmt.Errorf("the variable %s: %w", name, err)
		}
		return Source{Wrapper: k}, nil
	}
}

func fromKV(text string) opener {
	return func(lookup settings.Lookup) (Source, error) {
		kept, err := vaultkv.Open(text, lookup)
		return Source{Kept: kept}, err
	}
}

func fromKMS(text string) (opener, error) {
	arn, query, _ := strings.Cut(text, "?")
	p, err := vaulturi.ParseValues(query)
	if err != nil {
		return nil, err
	}
	endpoint := p.Take("endpoint")
	if err := p.Check(); err != nil {
		return nil, err
	}
	if endpoint != "" && !strings.HasPrefix(endpoint, "https://") {
		return nil, errors.New("the endpoint must begin with https://")
	}
	return func(settings.Lookup) (Source, error) {
		k, err := awskms.New(awskms.Config{ARN: arn, Endpoint: endpoint})
		if err != nil {
			return Source{}, err
		}
		return Source{Wrapper: k}, nil
	}, nil
}

func fromVault(text string) (opener, error) {
	location, err := vaulturi.Parse(text)
	switch {
	case errors.Is(err, vaulturi.ErrForm):
		return nil, errForm
	case err != nil:
		return nil, err
	}
	mount, key := path.Split(location.Path)
	mount = strings.TrimSuffix(mount, "/")
	if mount == "" {
		return nil, errors.New("names no mount and key: https://HOST:PORT/MOUNT/KEY")
	}
	if err := location.Rest.Check(); err != nil {
		return nil, err
	}
	return func(lookup settings.Lookup) (Source, error) {
		client, err := location.Open(lookup)
		if err != nil {
			return Source{}, err
		}
		return Source{Wrapper: vault.New(client, mount, key), Run: client.Run}, nil
	}, nil
}
