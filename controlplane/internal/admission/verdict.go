package admission

import (
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// verdict joins what is wrong with the faults that reading the document brought up, without what only follows from them.
func (j *judge) verdict() []problem.Violation {
	own := slices.DeleteFunc(fresh(j.violations, j.req.Faults), func(v problem.Violation) bool {
		return slices.ContainsFunc(j.req.Faults, func(f problem.Violation) bool { return missedBy(v.Path, f.Path) })
	})
	return problem.Sort(slices.Concat(j.req.Faults, own))
}

// missedBy reports whether a fault is at a field of the very message that a path names: a rule about the whole message
// may be broken only because the field could not be read.
func missedBy(path, fault string) bool {
	if path == "" || len(fault) <= len(path) || !problem.Overlap(path, fault) {
		return false
	}
	return !strings.ContainsAny(strings.TrimPrefix(fault[len(path):], "."), ".[")
}

// optionsOf returns what the type of a binding declares, nil for an unknown one.
func optionsOf(b *configv1.Binding) *optionsv1.PolicyOptions { return check.PolicyOptions(b) }

// labelWarnings tells labels that access control lists of the request speak of and that no consumer carries.
func (j *judge) labelWarnings() []problem.Violation {
	asked := map[string][]string{} // label → places
	for _, e := range j.entries {
		for at, cfg := range configs(e.msg) {
			if acl, ok := cfg.(*policyv1.Acl); ok {
				aclLabels(acl, problem.Join(e.path, at), asked)
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	for _, e := range j.entries {
		if c, ok := e.msg.(*configv1.Consumer); ok {
			for _, label := range c.GetGroups() {
				delete(asked, label)
			}
		}
	}
	var vs []problem.Violation
	for label, places := range asked {
		if j.carried(label) {
			continue
		}
		for _, at := range places {
			vs = append(vs, problem.Violation{Path: at, Reason: "no consumer carries the label " + strings.TrimSpace(label)})
		}
	}
	return vs
}

// carried reports whether a consumer that the request leaves alone carries the label.
func (j *judge) carried(label string) bool {
	for range j.set.untouched(claims.Label, label) {
		return true
	}
	return false
}

func aclLabels(acl *policyv1.Acl, at string, into map[string][]string) {
	add := func(path string, labels []string) {
		for i, l := range labels {
			into[l] = append(into[l], problem.Index(problem.Join(at, path), i))
		}
	}
	add("allow", acl.GetAllow())
	add("deny", acl.GetDeny())
	for i, r := range acl.GetRules() {
		add(problem.Index("rules", i)+".allow", r.GetAllow())
	}
}
