// Package authorize enforces the authorize policy: it lets requests pass by conditions over the request, who sends it and
// the time. Package expression compiles and evaluates the conditions; this one gives them what they see of an exchange,
// and only what they name.
package authorize

import (
	"errors"
	"fmt"
	"sync"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/expression"
)

type authorize struct {
	deny, allow []rule
	variables   sync.Pool // *variables
}

// rule is a condition and the refusals that name it in the access log.
type rule struct {
	holds                  *expression.Condition
	denied, failed, costly *exchange.Refusal
}

// Callers are told the same whatever the reason is; the access log says it.
var (
	refuse           = exchange.NewRefusal(403, "forbidden", "The request is not allowed.")
	refuseNotAllowed = refuse.Because("authorize_not_allowed")
)

// Build makes the policy.
func Build(cfg *policyv1.Authorize) (policy.Policy, error) {
	if len(cfg.GetRules()) == 0 {
		return nil, errors.New("there is nothing to allow or deny")
	}
	a := &authorize{}
	a.variables.New = func() any { return newVariables() }
	for i, r := range cfg.GetRules() {
		made, err := newRule(r)
		if err != nil {
			return nil, fmt.Errorf("rules[%d].when: %w", i, err)
		}
		switch r.GetEffect() {
		case policyv1.AuthorizeEffect_AUTHORIZE_EFFECT_UNSPECIFIED, policyv1.AuthorizeEffect_AUTHORIZE_EFFECT_ALLOW:
			a.allow = append(a.allow, made)
		case policyv1.AuthorizeEffect_AUTHORIZE_EFFECT_DENY:
			a.deny = append(a.deny, made)
		default:
			return nil, fmt.Errorf("rules[%d].effect is not known", i)
		}
	}
	return a, nil
}

func newRule(r *policyv1.AuthorizeRule) (rule, error) {
	c, err := expression.Compile(r.GetWhen())
	if err != nil {
		return rule{}, fmt.Errorf("compile: %w", err)
	}
	because := func(word string) *exchange.Refusal {
		if r.GetName() != "" {
			word += ":" + r.GetName()
		}
		return refuse.Because(word)
	}
	return rule{
		holds: c, denied: because("authorize_denied"), failed: because("authorize_failed"), costly: because("authorize_over_cost"),
	}, nil
}

// Request implements policy.Policy.
func (a *authorize) Request(x *exchange.Exchange) policy.Verdict {
	v, ok := a.variables.Get().(*variables)
	if !ok {
		v = newVariables()
	}
	v.x = x
	r := a.refusal(v)
	v.x = nil
	a.variables.Put(v)
	if r != nil {
		x.Refuse(r)
		return policy.Stop
	}
	return policy.Next
}

// refusal returns nil if the request may pass. A denial that cannot be evaluated might hold, so it refuses; one to allow
// that cannot be evaluated does not hold, and another may, as with CEL's own "or".
func (a *authorize) refusal(v *variables) *exchange.Refusal {
	for i := range a.deny {
		if holds, r := a.deny[i].evaluate(v); r != nil {
			return r
		} else if holds {
			return a.deny[i].denied
		}
	}
	if len(a.allow) == 0 {
		return nil
	}
	why := refuseNotAllowed
	for i := range a.allow {
		holds, r := a.allow[i].evaluate(v)
		if holds {
			return nil
		}
		if r != nil && why == refuseNotAllowed {
			why = r
		}
	}
	return why
}

func (r *rule) evaluate(v *variables) (holds bool, failure *exchange.Refusal) {
	holds, err := r.holds.Holds(v)
	switch {
	case err == nil:
		return holds, nil
	case errors.Is(err, expression.ErrCost):
		return false, r.costly
	default:
		return false, r.failed
	}
}
