// Package vaultauth enforces the vault-auth policy: it identifies a consumer by a pair of tokens that is kept in HashiCorp Vault.
// It never sees stored tokens and never talks to Vault: the control plane does, and the directory of the exchange finds pairs by
// keyed hashes of both tokens together, so that a wrong secret token is not told from an unknown access token, not by time
// either.
package vaultauth

import (
	"errors"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/presented"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/tokenpair"
)

const (
	defaultAccess = "access_token"
	defaultSecret = "secret_token"
	defaultRealm  = "keyward"
)

type vaultAuth struct {
	store          string
	access, secret *presented.Places
	challenge      exchange.Header
}

// The refusals, one per reason; callers are not told which of the tokens is wrong.
var (
	refuseMissing     = exchange.NewRefusal(401, "unauthenticated", "This route needs an access token and a secret token.").Absent()
	refuseHalf        = exchange.NewRefusal(401, "unauthenticated", "An access token needs its secret token, and a secret token its access token.")
	refuseInvalid     = exchange.NewRefusal(401, "unauthenticated", "The tokens are not valid.")
	refuseSeveral     = exchange.NewRefusal(401, "unauthenticated", "The request presents more than one access token or secret token.")
	refuseUnavailable = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5"))
)

// Build makes the policy.
func Build(cfg *policyv1.VaultAuth) (policy.Policy, error) {
	v := &vaultAuth{
		store: cfg.GetStore(), access: places(cfg, cfg.GetAccessToken(), defaultAccess), secret: places(cfg, cfg.GetSecretToken(), defaultSecret),
	}
	realm := cfg.GetRealm()
	if realm == "" {
		realm = defaultRealm
	}
	switch {
	case v.store == "":
		return nil, errors.New("it names no credential store")
	case strings.ContainsAny(realm, "\"\\\r\n"):
		return nil, errors.New("realm has characters that a quoted string cannot carry")
	}
	v.challenge = exchange.Field("WWW-Authenticate", `Vault realm="`+realm+`"`)
	return v, nil
}

// places are where a token is looked for.
func places(cfg *policyv1.VaultAuth, t *policyv1.VaultToken, header string) *presented.Places {
	c := presented.Config{
		Header: t.GetHeader(), Query: t.GetQuery(), Cookie: t.GetCookie(), Body: t.GetBody(), MaxBody: int64(cfg.GetMaxBody()),
		Keep: cfg.HideCredentials != nil && !cfg.GetHideCredentials(),
	}
	if len(c.Header)+len(c.Query)+len(c.Cookie)+len(c.Body) == 0 {
		c.Header = []string{header}
	}
	return presented.New(c)
}

// Request implements policy.Policy.
func (v *vaultAuth) Request(x *exchange.Exchange) policy.Verdict {
	access := v.access.Find(x)
	if access.Outcome == presented.Unread {
		return policy.Stop // why is recorded
	}
	secret := v.secret.Find(x)
	if secret.Outcome == presented.Unread {
		return policy.Stop
	}
	c, refusal := v.find(x, &access, &secret)
	if refusal != nil {
		x.Refuse(refusal)
		return policy.Stop
	}
	x.Principal = c.Principal
	return policy.Next
}

// find finds the pair, or why it does not count.
func (v *vaultAuth) find(x *exchange.Exchange, access, secret *presented.Found) (*exchange.Credential, *exchange.Refusal) {
	switch {
	case access.Outcome == presented.Several || secret.Outcome == presented.Several:
		return nil, refuseSeveral
	case access.Outcome == presented.None && secret.Outcome == presented.None:
		return nil, refuseMissing
	case access.Outcome == presented.None || secret.Outcome == presented.None:
		return nil, refuseHalf
	case x.Directory == nil || !x.Directory.Knows(v.store):
		return nil, refuseUnavailable
	case !tokenpair.Token(access.Value) || !tokenpair.Token(secret.Value):
		return nil, refuseInvalid
	}
	pair := tokenpair.Append(x.Alloc(tokenpair.Size(v.store, access.Value, secret.Value)), v.store, access.Value, secret.Value)
	c := x.Directory.Credential(tokenpair.Type, pair)
	if c == nil && !x.Directory.Complete(tokenpair.Type) {
		return nil, refuseUnavailable // not to know is not to refuse
	}
	if c == nil || !c.ValidAt(x.Timings.Received) {
		return nil, refuseInvalid
	}
	return c, nil
}

// Hide implements policy.Hider.
func (v *vaultAuth) Hide(x *exchange.Exchange) {
	v.access.Hide(x)
	v.secret.Hide(x)
}

// CredentialFields implements policy.Bearer.
func (v *vaultAuth) CredentialFields() []string {
	return slices.Concat(v.access.Fields(), v.secret.Fields())
}

// Invalid implements policy.Uniform.
func (v *vaultAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (v *vaultAuth) Challenge() exchange.Header { return v.challenge }
