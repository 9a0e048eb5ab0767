// Package acl enforces the acl policy: it lets identified consumers pass by their groups and names.
package acl

import (
	"errors"
	"fmt"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

type set map[string]struct{}

type acl struct {
	allow, deny                   set
	allowConsumers, denyConsumers set
	rules                         []rule
	// passOthers: only denials are given
	passOthers bool
}

var (
	refuseAnonymous = exchange.NewRefusal(401, "unauthenticated", "This route needs an identified consumer.")
	refuseConsumer  = exchange.NewRefusal(403, "forbidden", "The consumer may not do this.")
)

type rule struct {
	allow set
	// methods is nil for all
	methods set
}

// Build makes the policy.
func Build(cfg *policyv1.Acl, _ policy.Deps) (policy.Policy, error) {
	if len(cfg.GetAllow())+len(cfg.GetDeny())+len(cfg.GetAllowConsumers())+len(cfg.GetDenyConsumers())+len(cfg.GetRules()) == 0 {
		return nil, errors.New("there is nothing to allow or deny")
	}
	a := &acl{
		allow: setOf(cfg.GetAllow()), deny: setOf(cfg.GetDeny()),
		allowConsumers: setOf(cfg.GetAllowConsumers()), denyConsumers: setOf(cfg.GetDenyConsumers()),
	}
	for i, r := range cfg.GetRules() {
		if len(r.GetAllow()) == 0 {
			return nil, fmt.Errorf("rules[%d] allows nobody", i)
		}
		a.rules = append(a.rules, rule{allow: setOf(r.GetAllow()), methods: setOf(r.GetMethods())})
	}
	denials := len(a.deny) + len(a.denyConsumers)
	a.passOthers = denials > 0 && len(a.allow)+len(a.allowConsumers)+len(a.rules) == 0
	return a, nil
}

// Request implements policy.Policy.
func (a *acl) Request(x *exchange.Exchange) policy.Verdict {
	p := x.Principal
	if p == nil || p.ConsumerUID == "" {
		x.Refuse(refuseAnonymous)
		return policy.Stop
	}
	if a.denyConsumers.has(p.Consumer) || a.deny.hasAny(p.Groups) || !a.allowed(p, x.Request.Method) {
		x.Refuse(refuseConsumer)
		return policy.Stop
	}
	return policy.Next
}

func (a *acl) allowed(p *exchange.Principal, method []byte) bool {
	if a.passOthers || a.allowConsumers.has(p.Consumer) || a.allow.hasAny(p.Groups) {
		return true
	}
	for i := range a.rules {
		r := &a.rules[i]
		if r.methods != nil {
			if _, ok := r.methods[string(method)]; !ok {
				continue
			}
		}
		if r.allow.hasAny(p.Groups) {
			return true
		}
	}
	return false
}

// setOf returns nil for an empty list.
func setOf(list []string) set {
	if len(list) == 0 {
		return nil
	}
	s := make(set, len(list))
	for _, v := range list {
		s[v] = struct{}{}
	}
	return s
}

func (s set) has(v string) bool {
	_, ok := s[v]
	return ok
}

func (s set) hasAny(list []string) bool {
	if len(s) == 0 {
		return false
	}
	for _, v := range list {
		if _, ok := s[v]; ok {
			return true
		}
	}
	return false
}
