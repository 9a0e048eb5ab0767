package jwtsigner

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check"
)

// claims says what tokens say.
type claims struct {
	issuer    string
	audience  any // a text, or several
	consumers bool
	// consumer, groups and scope: these claims are written.
	consumer, groups, scope bool
	all                     bool
	copied                  []string
	// never are the claims that are not taken from the caller's token.
	never map[string]bool
	set   map[string]string
}

func claimsOf(cfg *policyv1.JwtSigner) (claims, error) {
	c := claims{
		issuer: cfg.GetIssuer(), audience: cfg.GetAudience(),
		consumer: cfg.Consumer == nil || cfg.GetConsumer(), groups: cfg.Groups == nil || cfg.GetGroups(), scope: cfg.Scope == nil || cfg.GetScope(),
		all: slices.Contains(cfg.GetCopy(), "*"), copied: cfg.GetCopy(), never: map[string]bool{}, set: map[string]string{},
	}
	if len(cfg.GetAudience()) == 1 {
		c.audience = cfg.GetAudience()[0]
	}
	switch {
	case c.issuer == "":
		return c, errors.New("issuer must say who signs")
	case len(cfg.GetAudience()) == 0:
		return c, errors.New("audience must say whom tokens are for")
	}
	switch cfg.GetSubject() {
	case policyv1.JwtSignerSubject_JWT_SIGNER_SUBJECT_UNSPECIFIED, policyv1.JwtSignerSubject_JWT_SIGNER_SUBJECT_CALLER:
	case policyv1.JwtSignerSubject_JWT_SIGNER_SUBJECT_CONSUMER:
		c.consumers = true
	default:
		return c, errors.New("subject is not known")
	}
	for _, name := range slices.Concat(check.SignedClaims(), cfg.GetRemove()) {
		c.never[name] = true
	}
	for _, s := range cfg.GetSet() {
		if slices.Contains(check.SignedClaims(), s.GetName()) {
			return c, errors.New("set writes " + s.GetName() + ", which only the gateway does")
		}
		c.set[s.GetName()] = s.GetValue()
	}
	return c, nil
}

// of returns the claims of a token of somebody.
func (c *claims) of(p *exchange.Principal, now, ends time.Time) map[string]any {
	out := map[string]any{}
	c.take(out, p.Claims())
	for name, value := range c.set {
		out[name] = value
	}
	out["sub"] = p.Subject()
	if c.consumers || p.Subject() == "" {
		out["sub"] = p.Consumer
	}
	if c.consumer && p.Consumer != "" {
		out["consumer"] = p.Consumer
	}
	if c.groups && len(p.Groups) > 0 {
		out["groups"] = p.Groups
	}
	if c.scope && len(p.Scopes()) > 0 {
		out["scope"] = strings.Join(p.Scopes(), " ")
	}
	out["iss"], out["aud"], out["jti"] = c.issuer, c.audience, rand.Text()
	out["iat"], out["nbf"], out["exp"] = now.Unix(), now.Unix(), ends.Unix()
	return out
}

// take takes claims from the caller's token.
func (c *claims) take(out, from map[string]any) {
	if c.all {
		for name, v := range from {
			if !c.never[name] {
				out[name] = v
			}
		}
		return
	}
	for _, name := range c.copied {
		if v, ok := from[name]; ok && !c.never[name] {
			out[name] = v
		}
	}
}
