// Package policies lists every policy this gateway can enforce. Adding one means a proto, a folder and a line here; a
// test holds the list against the proto descriptors.
package policies

import (
	"keyward.dev/dataplane/internal/policies/acl"
	"keyward.dev/dataplane/internal/policies/authorize"
	"keyward.dev/dataplane/internal/policies/basicauth"
	"keyward.dev/dataplane/internal/policies/cors"
	"keyward.dev/dataplane/internal/policies/hmacauth"
	"keyward.dev/dataplane/internal/policies/iprestriction"
	"keyward.dev/dataplane/internal/policies/jwks"
	"keyward.dev/dataplane/internal/policies/jwtauth"
	"keyward.dev/dataplane/internal/policies/jwtsigner"
	"keyward.dev/dataplane/internal/policies/keyauth"
	"keyward.dev/dataplane/internal/policies/ldapauth"
	"keyward.dev/dataplane/internal/policies/mtlsauth"
	"keyward.dev/dataplane/internal/policies/ratelimit"
	"keyward.dev/dataplane/internal/policies/requestsizelimit"
	"keyward.dev/dataplane/internal/policies/vaultauth"
	"keyward.dev/dataplane/internal/policy"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// All returns the factories of all policies.
func All() []policy.Factory {
	return []policy.Factory{
		policy.OfPure(acl.Build),
		policy.OfPure(authorize.Build),
		policy.Of(basicauth.Build),
		policy.OfPure(cors.Build),
		policy.Of(hmacauth.Build),
		policy.OfPure(iprestriction.Build),
		policy.Of(jwks.Build),
		policy.Of(jwtauth.Build),
		policy.Of(jwtsigner.Build),
		policy.OfPure(keyauth.Build),
		policy.Of(ldapauth.Build),
		policy.Of(mtlsauth.Build),
		policy.Of(ratelimit.Build),
		policy.OfPure(requestsizelimit.Build),
		policy.OfPure(vaultauth.Build),
	}
}

// Authentication returns the types of those that say who calls.
func Authentication() (types []string) {
	for _, f := range All() {
		if f.Phase == optionsv1.Phase_PHASE_AUTHN {
			types = append(types, f.Type)
		}
	}
	return types
}
