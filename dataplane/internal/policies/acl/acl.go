// Package acl enforces the acl policy: it lets callers pass by their groups, names, scopes and labels.
package acl

import (
	"errors"
	"fmt"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

type acl struct {
	allow, deny callers
	require     []string // scopes, all of them
	rules       []rule
	// passOthers: nothing is allowed by name, so what is not denied passes
	passOthers bool
	scopeless  *exchange.Refusal // of callers by a token
}

type rule struct {
	allow   callers
	require []string
	// methods is nil for all
	methods set
}

var (
	refuseUnknown   = exchange.NewRefusal(401, "unauthenticated", "This route needs an identified caller.")
	refuseForbidden = exchange.NewRefusal(403, "forbidden", "The caller may not do this.")
)

// Build makes the policy.
func Build(cfg *policyv1.Acl) (policy.Policy, error) {
	a := &acl{
		allow:   callersOf(cfg.GetAllow(), cfg.GetAllowConsumers(), cfg.GetAllowScopes(), cfg.GetAllowLabels()),
		deny:    callersOf(cfg.GetDeny(), cfg.GetDenyConsumers(), cfg.GetDenyScopes(), cfg.GetDenyLabels()),
		require: cfg.GetRequireScopes(),
	}
	if a.allow.empty() && a.deny.empty() && len(a.require)+len(cfg.GetRules()) == 0 {
		return nil, errors.New("there is nothing to allow or deny")
	}
	for i, r := range cfg.GetRules() {
		made := rule{
			allow:   callersOf(r.GetAllow(), r.GetAllowConsumers(), r.GetAllowScopes(), r.GetAllowLabels()),
			require: r.GetRequireScopes(), methods: setOf(r.GetMethods()),
		}
		if made.allow.empty() && len(made.require) == 0 {
			return nil, fmt.Errorf("rules[%d] allows nobody", i)
		}
		a.rules = append(a.rules, made)
	}
	a.passOthers = a.allow.empty() && len(a.rules) == 0
	a.scopeless = scopeRefusal(a.require)
	return a, nil
}

// scopeRefusal tells callers by a token which scopes they need (RFC 6750 section 3.1).
func scopeRefusal(scopes []string) *exchange.Refusal {
	const word, detail = "insufficient_scope", "The token does not grant all scopes that this needs."
	challenge := `Bearer error="insufficient_scope", scope="` + strings.Join(scopes, " ") + `"`
	return exchange.NewRefusal(403, word, detail, exchange.Field("WWW-Authenticate", challenge))
}

// Request implements policy.Policy.
func (a *acl) Request(x *exchange.Exchange) policy.Verdict {
	p := x.Principal
	switch {
	case p == nil:
		x.Refuse(refuseUnknown)
	case a.deny.include(p):
		x.Refuse(refuseForbidden)
	case !hasAll(p.Scopes(), a.require):
		if p.Claims() == nil {
			x.Refuse(refuseForbidden)
		} else {
			x.Refuse(a.scopeless)
		}
	case !a.allowed(p, x.Request.Method):
		x.Refuse(refuseForbidden)
	default:
		return policy.Next
	}
	return policy.Stop
}

func (a *acl) allowed(p *exchange.Principal, method []byte) bool {
	if a.passOthers || a.allow.include(p) {
		return true
	}
	for i := range a.rules {
		if r := &a.rules[i]; r.covers(method) && hasAll(p.Scopes(), r.require) && (r.allow.empty() || r.allow.include(p)) {
			return true
		}
	}
	return false
}

func (r *rule) covers(method []byte) bool {
	if r.methods == nil {
		return true
	}
	_, ok := r.methods[string(method)]
	return ok
}
