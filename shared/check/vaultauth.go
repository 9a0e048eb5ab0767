package check

import (
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/problem"
)

func vaultAuth(cfg *policyv1.VaultAuth) violations {
	var vs violations
	access, secret := cfg.GetAccessToken(), cfg.GetSecretToken()
	carries(&vs, "access_token.header", access.GetHeader(), "a token")
	carries(&vs, "secret_token.header", secret.GetHeader(), "a token")
	apart := func(path string, other []string, mine []string, equal func(a, b string) bool) {
		for i, name := range mine {
			if slices.ContainsFunc(other, func(o string) bool { return equal(o, name) }) {
				vs.add(problem.Index(path, i), "the access token is looked for there, too")
			}
		}
	}
	exactly := func(a, b string) bool { return a == b }
	apart("secret_token.header", vaultFields(access, "access_token"), vaultFields(secret, "secret_token"), strings.EqualFold)
	apart("secret_token.query", access.GetQuery(), secret.GetQuery(), exactly)
	apart("secret_token.cookie", access.GetCookie(), secret.GetCookie(), exactly)
	apart("secret_token.body", access.GetBody(), secret.GetBody(), exactly)
	if cfg.MaxBody != nil && len(access.GetBody())+len(secret.GetBody()) == 0 {
		vs.add("max_body", "goes with body of a token")
	}
	return vs
}

// vaultFields are the header fields in which a token is looked for.
func vaultFields(t *policyv1.VaultToken, otherwise string) []string {
	if t == nil {
		return []string{otherwise}
	}
	return t.GetHeader()
}

func credentialStore(m *configv1.CredentialStore) violations {
	var vs violations
	if m.GetStaleBound().AsDuration() < m.GetRefresh().AsDuration() {
		vs.add("stale_bound", "is less than refresh")
	}
	return vs
}
