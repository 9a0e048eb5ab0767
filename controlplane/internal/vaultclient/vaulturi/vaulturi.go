// Package vaulturi reads how settings name a place in HashiCorp Vault and the way to log in there:
// https://HOST:PORT/PATH?auth=…. A name holds no secret: where a way to log in needs one, it says in which file or variable
// that is. The readers of key-encryption keys and of secret providers use it. It asks nobody.
package vaulturi

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"keyward.dev/controlplane/internal/vaultclient"
	"keyward.dev/shared/settings"
)

// ErrForm says that a text is not a URL of the form.
var ErrForm = errors.New("is not of the form https://HOST:PORT/PATH")

// Location is a place in Vault and how to come there.
type Location struct {
	// Path is clean, without slashes at its ends, and not empty.
	Path string
	// Rest are the parameters that are not about Vault.
	Rest Values

	config   vaultclient.Config
	variable string
}

const defaultTimeout = 5 * time.Second

// Parse reads a location. Its errors do not quote the text.
func Parse(text string) (Location, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return Location{}, ErrForm
	}
	l := Location{Path: strings.TrimPrefix(u.Path, "/")}
	if l.Path == "" || path.Clean("/"+l.Path) != "/"+l.Path {
		return Location{}, ErrForm
	}
	if l.Rest, err = ParseValues(u.RawQuery); err != nil {
		return Location{}, err
	}
	l.config = vaultclient.Config{
		Address: u.Scheme + "://" + u.Host, Namespace: l.Rest.Take("namespace"), CAFile: l.Rest.Take("ca"),
		ServerName: l.Rest.Take("server-name"), Timeout: defaultTimeout,
	}
	if text := l.Rest.Take("timeout"); text != "" {
		if l.config.Timeout, err = time.ParseDuration(text); err != nil || l.config.Timeout <= 0 || l.config.Timeout > time.Minute {
			return Location{}, errors.New("the timeout must be a duration of at most 1m")
		}
	}
	l.variable = login(&l.config.Auth, l.Rest)
	return l, nil
}

// Open makes the client. Variables and the CA are read now, Vault is not asked yet.
func (l Location) Open(lookup settings.Lookup) (*vaultclient.Client, error) {
	cfg := l.config
	if l.variable != "" {
		text, _ := lookup(l.variable)
		cfg.Auth.Secret = settings.NewSecret(text)
	}
	return vaultclient.New(cfg)
}

// login reads how to log in, and answers the variable with the secret, if it is in one.
func login(a *vaultclient.Auth, p Values) (variable string) {
	a.Method, a.Mount = p.Take("auth"), p.Take("auth-mount")
	switch a.Method {
	case "", vaultclient.MethodToken:
		a.Method = vaultclient.MethodToken
		a.SecretFile, variable = p.Take("token-file"), p.Take("token-env")
	case vaultclient.MethodAppRole:
		a.Role = p.Take("role-id")
		a.SecretFile, variable = p.Take("secret-id-file"), p.Take("secret-id-env")
	case vaultclient.MethodKubernetes:
		a.Role, a.SecretFile = p.Take("role"), p.Take("jwt-file")
		if a.SecretFile == "" {
			a.SecretFile = vaultclient.KubernetesTokenFile
		}
	}
	return variable
}

// Values are parameters; Take removes one, so that Check can name those that nobody knows.
type Values map[string]string

// ParseValues reads what stands behind a question mark.
func ParseValues(query string) (Values, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters behind the question mark cannot be read")
	}
	p := Values{}
	for name, given := range q {
		if len(given) != 1 || given[0] == "" {
			return nil, fmt.Errorf("the parameter %q is there twice, or empty", name)
		}
		p[name] = given[0]
	}
	return p, nil
}

// Take answers a parameter and removes it; empty if there is none.
func (p Values) Take(name string) string {
	defer delete(p, name)
	return p[name]
}

// Check refuses parameters that are left.
func (p Values) Check() error {
	for name := range p {
		return fmt.Errorf("there is no parameter %q, or not for this way to log in", name)
	}
	return nil
}
