// Package uri reads the names by which settings say where a key-encryption key is, and opens the key. A name holds no
// secret: where a way to log in needs one, it says in which file or variable that is. Only the wiring uses it.
package uri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"time"

	"keyward.dev/controlplane/internal/kek"
	"keyward.dev/controlplane/internal/kek/awskms"
	"keyward.dev/controlplane/internal/kek/file"
	"keyward.dev/controlplane/internal/kek/vault"
	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
)

// Source is an open key. Run, if it is not nil, has to run as long as the key is used.
type Source struct {
	kek.Wrapper
	Run func(ctx context.Context, log *slog.Logger) error
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
	case "awskms":
		open, err = fromKMS(rest)
	default:
		err = errForm
	}
	return Location{open}, err
}

var errForm = errors.New("is not of the form file:PATH, env:VARIABLE, vault:https://HOST:PORT/MOUNT/KEY?auth=… or awskms:ARN")

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

func fromKMS(text string) (opener, error) {
	arn, query, _ := strings.Cut(text, "?")
	p, err := parameters(query)
	if err != nil {
		return nil, err
	}
	endpoint := p.take("endpoint")
	if err := p.rest(); err != nil {
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

const vaultTimeout = 5 * time.Second

func fromVault(text string) (opener, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, errForm
	}
	mount, key := path.Split(strings.TrimPrefix(u.Path, "/"))
	mount = strings.TrimSuffix(mount, "/")
	if mount == "" || key == "" || path.Clean(mount) != mount || strings.HasPrefix(mount, "../") || key == ".." || key == "." {
		return nil, errors.New("names no mount and key: https://HOST:PORT/MOUNT/KEY")
	}
	p, err := parameters(u.RawQuery)
	if err != nil {
		return nil, err
	}
	cfg := vaultclient.Config{
		Address: u.Scheme + "://" + u.Host, Namespace: p.take("namespace"), CAFile: p.take("ca"),
		ServerName: p.take("server-name"), Timeout: vaultTimeout,
	}
	if text := p.take("timeout"); text != "" {
		if cfg.Timeout, err = time.ParseDuration(text); err != nil || cfg.Timeout <= 0 || cfg.Timeout > time.Minute {
			return nil, errors.New("the timeout must be a duration of at most 1m")
		}
	}
	variable := login(&cfg.Auth, p)
	if err := p.rest(); err != nil {
		return nil, err
	}
	return func(lookup settings.Lookup) (Source, error) {
		cfg := cfg
		if variable != "" {
			text, _ := lookup(variable)
			cfg.Auth.Secret = settings.NewSecret(text)
		}
		client, err := vaultclient.New(cfg)
		if err != nil {
			return Source{}, err
		}
		return Source{Wrapper: vault.New(client, mount, key), Run: client.Run}, nil
	}, nil
}

// login reads how to log in, and answers the variable with the secret, if it is in one.
func login(a *vaultclient.Auth, p values) (variable string) {
	a.Method, a.Mount = p.take("auth"), p.take("auth-mount")
	switch a.Method {
	case "", vaultclient.MethodToken:
		a.Method = vaultclient.MethodToken
		a.SecretFile, variable = p.take("token-file"), p.take("token-env")
	case vaultclient.MethodAppRole:
		a.Role = p.take("role-id")
		a.SecretFile, variable = p.take("secret-id-file"), p.take("secret-id-env")
	case vaultclient.MethodKubernetes:
		a.Role, a.SecretFile = p.take("role"), p.take("jwt-file")
		if a.SecretFile == "" {
			a.SecretFile = vaultclient.KubernetesTokenFile
		}
	}
	return variable
}

// values are parameters; take removes one, so that rest can name those that nobody knows.
type values map[string]string

func parameters(query string) (values, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters behind the question mark cannot be read")
	}
	p := values{}
	for name, given := range q {
		if len(given) != 1 || given[0] == "" {
			return nil, fmt.Errorf("the parameter %q is there twice, or empty", name)
		}
		p[name] = given[0]
	}
	return p, nil
}

func (p values) take(name string) string {
	defer delete(p, name)
	return p[name]
}

func (p values) rest() error {
	for name := range p {
		return fmt.Errorf("there is no parameter %q, or not for this way to log in", name)
	}
	return nil
}
