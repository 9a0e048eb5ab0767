package jwtauth

import (
	"errors"
	"slices"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/token"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// More reasons why a token does not count.
const (
	unknownConsumer token.Fault = "token_of_no_consumer"
	ambiguous       token.Fault = "token_of_several_consumers"
)

// callers say who the caller is by what a token says.
type callers struct {
	identity    string
	by          []exchange.ConsumerBy
	optional    bool
	groupsClaim string
	scopeClaims []string
	scopeGroups map[string]string
	defaults    []string
}

func callersOf(cfg *policyv1.JwtAuth) (callers, error) {
	c := callers{
		identity: cfg.GetIdentityClaim(), optional: cfg.GetConsumerOptional(), groupsClaim: cfg.GetGroupsClaim(),
		scopeClaims: []string{"scope", "scp"}, scopeGroups: cfg.GetScopeGroups(), defaults: cfg.GetDefaultGroups(),
	}
	if c.identity == "" {
		c.identity = "sub"
	}
	if cfg.GetScopeClaim() != "" {
		c.scopeClaims = []string{cfg.GetScopeClaim()}
	}
	for _, by := range cfg.GetConsumerBy() {
		switch by {
		case policyv1.JwtConsumerBy_JWT_CONSUMER_BY_NAME:
			c.by = append(c.by, exchange.ConsumerByName)
		case policyv1.JwtConsumerBy_JWT_CONSUMER_BY_USERNAME:
			c.by = append(c.by, exchange.ConsumerByUsername)
		case policyv1.JwtConsumerBy_JWT_CONSUMER_BY_CUSTOM_ID:
			c.by = append(c.by, exchange.ConsumerByCustomID)
		default:
			return c, errors.New("consumer_by is not known")
		}
	}
	return c, nil
}

// caller makes the principal of a verified token. It is made once, and again when the directory has changed.
func (j *jwtAuth) caller(x *exchange.Exchange, v *verified, credential *exchange.Credential) (*exchange.Principal, *exchange.Refusal) {
	if credential != nil {
		return j.callers.own(v, credential), nil
	}
	c := &j.callers
	name := token.Name(token.Lookup(v.token.Claims, c.identity))
	p := exchange.Principal{Kind: exchange.KindUser}
	switch {
	case name == "":
		return nil, j.refusals.of(token.Subject)
	case len(c.by) > 0:
		found := c.find(x, name)
		switch {
		case found != nil:
			p = *found
		case !x.Directory.Complete(""):
			return nil, j.refusals.unavailable
		case !c.optional:
			return nil, j.refusals.of(unknownConsumer)
		}
	}
	p.How, p.Expires = credentialType, v.ends
	if p.ConsumerUID == "" && machine(v.token.Claims) {
		p.Kind = exchange.KindMachine
	}
	said := p.Own()
	said.Subject, said.Claims, said.Scopes = name, v.token.Claims, c.scopes(v.token.Claims)
	c.groups(&p)
	return &p, nil
}

// own is the consumer that has signed the token. What it says in there are its own words: they prove who it is, and grant
// it nothing, whatever groups, scopes or subject it gives itself.
func (c *callers) own(v *verified, credential *exchange.Credential) *exchange.Principal {
	p := *credential.Principal
	p.Standing = nil // it is kept
	p.How, p.Own().Subject, p.Expires = credentialType, p.Consumer, earlier(p.Expires, v.ends)
	if len(p.Groups) == 0 && len(c.defaults) > 0 {
		p.Dynamic, p.Groups = true, c.defaults
	}
	return &p
}

func (c *callers) find(x *exchange.Exchange, name string) *exchange.Principal {
	for _, by := range c.by {
		if p := x.Directory.Consumer(by, []byte(name)); p != nil {
			return p
		}
	}
	return nil
}

// machine reports whether a client speaks for itself (RFC 9068 section 2.2: its sub is its client_id then).
func machine(claims map[string]any) bool {
	id, _ := claims["client_id"].(string)
	sub, _ := claims["sub"].(string)
	return id != "" && id == sub
}

// earlier returns the first of two moments of which zero ones never come.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (c *callers) scopes(claims map[string]any) []string {
	for _, name := range c.scopeClaims {
		if v := token.Lookup(claims, name); v != nil {
			return token.Words(v)
		}
	}
	return nil
}

// groups adds to the consumer's groups those that the token says.
func (c *callers) groups(p *exchange.Principal) {
	groups := slices.Clone(p.Groups)
	add := func(name string) {
		if name != "" && !slices.Contains(groups, name) {
			groups = append(groups, name)
		}
	}
	for _, s := range p.Scopes() {
		add(c.scopeGroups[s])
	}
	if c.groupsClaim != "" {
		for _, g := range token.Words(token.Lookup(p.Claims(), c.groupsClaim)) {
			add(g)
		}
	}
	if len(groups) == 0 {
		groups = c.defaults
	}
	p.Dynamic = p.ConsumerUID == "" || len(groups) != len(p.Groups)
	p.Groups = groups
}
