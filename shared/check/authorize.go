package check

import (
	"slices"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/expression"
	"keyward.dev/shared/problem"
)

// authorize compiles the conditions: what is admitted gateways can evaluate.
func authorize(cfg *policyv1.Authorize) violations {
	var vs violations
	rules := cfg.GetRules()
	for i, r := range rules {
		at := problem.Index("rules", i)
		same := func(o *policyv1.AuthorizeRule) bool { return r.GetName() != "" && o.GetName() == r.GetName() }
		if j := slices.IndexFunc(rules[:i], same); j >= 0 {
			vs.add(problem.Join(at, "name"), "the name of element %d, too", j)
		}
		if r.GetWhen() == "" {
			continue // told by the schema
		}
		if _, err := expression.Compile(r.GetWhen()); err != nil {
			vs.add(problem.Join(at, "when"), "%v", err)
		}
	}
	return vs
}
