package check

import (
	"slices"
	"strings"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/problem"
)

// SignedClaims lists the claims of a token of jwt-signer that the gateway itself answers for, so that nothing else may write
// them, and cnf, which says whose token it is by a key that the gateway does not have.
func SignedClaims() []string {
	return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "consumer", "groups", "scope"}
}

func jwtSigner(cfg *policyv1.JwtSigner) violations {
	var vs violations
	if reason := tokenField(cfg.GetHeader()); reason != "" {
		vs.add("header", "%s", reason)
	}
	for i, name := range cfg.GetCopy() {
		if slices.Contains(SignedClaims(), name) {
			vs.add(problem.Index("copy", i), "%s is the gateway's to write, or nobody's", name)
		}
		if name == "*" && len(cfg.GetCopy()) > 1 {
			vs.add(problem.Index("copy", i), "'*' already takes every claim; leave the others out, or it")
		}
	}
	if len(cfg.GetRemove()) > 0 && !slices.Contains(cfg.GetCopy(), "*") {
		vs.add("remove", "goes with copy: '*'; without it only the claims that copy names are taken")
	}
	for i, c := range cfg.GetSet() {
		at := problem.Join(problem.Index("set", i), "name")
		same := func(o *policyv1.JwtSignerClaim) bool { return o.GetName() == c.GetName() }
		if j := slices.IndexFunc(cfg.GetSet()[:i], same); j >= 0 {
			vs.add(at, "the claim of element %d, too", j)
		}
		if slices.Contains(SignedClaims(), c.GetName()) {
			vs.add(at, "%s is the gateway's to write, or nobody's", c.GetName())
		}
	}
	return vs
}

// tokenField says why a header field cannot carry the gateway's token.
func tokenField(name string) string {
	folded := FoldField(name)
	reserved := slices.ContainsFunc(gatewayFields(), func(f string) bool { return FoldField(f) == folded })
	switch {
	case folded == "authorization":
		return ""
	case framing(folded) || reserved || strings.HasPrefix(folded, "x-forwarded-"):
		return name + " has another meaning and cannot carry a token"
	}
	return ""
}
