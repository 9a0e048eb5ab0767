package admission

import (
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
)

// signers yields the configurations by which a resource has tokens signed, with their places.
func signers(m proto.Message) iter.Seq2[string, *policyv1.JwtSigner] {
	return func(yield func(string, *policyv1.JwtSigner) bool) {
		for i, b := range policies(m) {
			cfg := &policyv1.JwtSigner{}
			if !b.GetEnabled() || !b.GetConfig().MessageIs(cfg) || b.GetConfig().UnmarshalTo(cfg) != nil {
				continue
			}
			if !yield(problem.Index("policies", i)+".config", cfg) {
				return
			}
		}
	}
}

// signedFields refuses that a header field carries a token that gateways sign and is logged, or says who calls in another way.
func (j *judge) signedFields() {
	found, _ := j.set.get("settings", "settings")
	settings, _ := found.msg.(*configv1.Settings)
	taken := map[string]string{} // by the field's folded name: the settings' place
	for i, name := range settings.GetAccessLog().GetHeaders() {
		taken[check.FoldField(name)] = problem.Index("access_log.headers", i)
	}
	for _, h := range check.IdentityHeaders(settings.GetIdentityHeaders()) {
		taken[check.FoldField(h.Name)] = "identity_headers." + h.Says
	}
	if len(taken) == 0 {
		return
	}
	for _, kind := range []string{"settings", "services", "routes"} {
		j.eachConcerned(kind, found.entry != nil, func(m member) {
			for at, cfg := range signers(m.msg) {
				place := taken[check.FoldField(cfg.GetHeader())]
				switch {
				case place == "":
				case found.entry != nil:
					j.fail(problem.Join(found.entry.path, place), "carries the token that jwt-signer of %s signs", catalog.Ref(m.kind, m.name))
				default:
					j.fail(problem.Join(m.entry.path, at+".header"), "is named by %s of the settings, and carries a token", place)
				}
			}
		})
	}
}

// keylessSigners refuses to have tokens signed by certificates without a private key.
func (j *judge) keylessSigners() {
	for _, e := range j.entries {
		for at, cfg := range signers(e.msg) {
			if c := j.set.certificate(cfg.GetCertificate()); c != nil && !hasKey(c, cfg.GetCertificate()) {
				j.fail(problem.Join(e.path, at+".certificate"), "has no private key, without which it signs nothing")
			}
		}
		c, ok := e.msg.(*configv1.Certificate)
		if !ok {
			continue
		}
		if users := j.signingWith(c); len(users) > 0 {
			j.fail(e.path, "needs a private key: it signs tokens for %s", enumerate(users))
		}
	}
}

// signingWith lists what the request leaves alone and what signs by a version of a certificate that has no key.
func (j *judge) signingWith(c *configv1.Certificate) []string {
	var users []string
	for _, name := range append(certs.IDs(c), c.GetName()) {
		if hasKey(c, name) {
			continue
		}
		for m := range j.set.untouched(certs.Kind, name) {
			for _, cfg := range signers(m.msg) {
				if cfg.GetCertificate() == name {
					users = append(users, catalog.Ref(m.kind, m.name))
				}
			}
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}
