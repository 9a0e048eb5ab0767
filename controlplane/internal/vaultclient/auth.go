package vaultclient

import (
	"errors"
	"fmt"

	"keyward.dev/shared/settings"
)

// Ways to log in.
const (
	MethodToken      = "token"
	MethodAppRole    = "approle"
	MethodKubernetes = "kubernetes"
)

// KubernetesTokenFile is where a pod finds the token of its service account.
const KubernetesTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// Auth says who asks. Files are read again at every login, so that what is mounted can change.
type Auth struct {
	Method string
	// Mount is where the method is mounted; empty: at its name.
	Mount string
	// Role is the role id of AppRole, or the role of Kubernetes.
	Role string
	// Secret, or what SecretFile holds, is the token, the secret id of AppRole or the service account's token.
	Secret     settings.Secret
	SecretFile string
}

func (a *Auth) check() error {
	switch a.Method {
	case MethodToken:
		if a.Role != "" || a.Mount != "" {
			return errors.New("vault: a role or mount is for the other ways to log in, not for a token")
		}
	case MethodAppRole, MethodKubernetes:
		if a.Role == "" {
			return fmt.Errorf("vault: %s needs a role", a.Method)
		}
	default:
		return fmt.Errorf("vault: there is no way to log in called %q; there are %s, %s and %s", a.Method, MethodToken, MethodAppRole, MethodKubernetes)
	}
	if a.Secret.IsSet() == (a.SecretFile != "") {
		return fmt.Errorf("vault: %s needs its secret from one place, a file or the environment", a.Method)
	}
	return nil
}

func (a *Auth) secret() (settings.Secret, error) {
	if a.SecretFile == "" {
		return a.Secret, nil
	}
	s, err := settings.ReadSecret(a.SecretFile)
	if err != nil {
		return settings.Secret{}, fmt.Errorf("%w: %w", ErrNoLogin, err)
	}
	return s, nil
}

// request is the path and the body of a login.
func (a *Auth) request(secret settings.Secret) (string, map[string]any) {
	mount := a.Mount
	if mount == "" {
		mount = a.Method
	}
	path := "auth/" + mount + "/login"
	if a.Method == MethodAppRole {
		return path, map[string]any{"role_id": a.Role, "secret_id": secret.Reveal()}
	}
	return path, map[string]any{"role": a.Role, "jwt": secret.Reveal()}
}
