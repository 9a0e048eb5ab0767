package admission

import (
	"cmp"
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// directory is a policy that asks one: at which place it stands, and what it is called.
type directory struct {
	index int
	name  string
}

// directories are those that the policies of a resource ask.
func directories(m proto.Message) iter.Seq2[directory, *policyv1.LdapAuth] {
	return func(yield func(directory, *policyv1.LdapAuth) bool) {
		owner, ok := m.(interface{ GetPolicies() []*configv1.Binding })
		if !ok {
			return
		}
		for i, b := range owner.GetPolicies() {
			cfg := &policyv1.LdapAuth{}
			if b.GetConfig().MessageIs(cfg) && b.GetConfig().UnmarshalTo(cfg) == nil && !yield(directory{i, b.GetType() + "/" + cmp.Or(b.GetName(), b.GetType())}, cfg) {
				return
			}
		}
	}
}

// directories looks at policies that ask directories, now that it is known which passwords are kept, and tells those to which
// only insecure_plaintext lets passwords go.
func (j *judge) directories(e *entry) {
	for d, cfg := range directories(e.msg) {
		at := problem.Join(e.path, problem.Index("policies", d.index)+".config.")
		// One that could not be kept is told of already.
		if why := check.DirectoryPassword(cfg); why != "" && !cfg.GetSearch().GetBindPassword().GetSet() {
			j.fail(at+"search.bind_password", "%s", why)
		}
		if cfg.GetServer().GetInsecurePlaintext() {
			j.audit = append(j.audit, "passwords go to a directory in the clear for "+catalog.Ref(e.kind.Name, e.name))
			j.warnings = append(j.warnings, problem.Violation{Path: at + "server.insecure_plaintext", Reason: "passwords go over the network in the clear"})
		}
	}
}

// sent says who gets the secrets of a policy: directories as they are reached and believed, by what the policy is called.
func sent(m proto.Message) map[string]*policyv1.LdapServer {
	out := map[string]*policyv1.LdapServer{}
	for d, cfg := range directories(m) {
		s := cfg.GetServer()
		out[problem.Key("policies", d.name)] = &policyv1.LdapServer{
			Addresses: s.GetAddresses(), Tls: s.GetTls(), Ca: s.GetCa(), ServerName: s.GetServerName(), InsecurePlaintext: s.GetInsecurePlaintext(),
		}
	}
	return out
}

// movedField reports whether what stands in a place would be sent to somebody else than what was stored there: then it is not
// kept, or whoever may write the address could have it sent to themselves.
func movedField(e *entry, id string) bool {
	if e.stored == nil || e.stored.Message == nil || !strings.Contains(id, "(") {
		return false // only what is packed is a policy's
	}
	before, after := sent(e.stored.Message), sent(e.msg)
	for place, to := range after {
		if strings.HasPrefix(id, place+".") {
			was, ok := before[place]
			return ok && !proto.Equal(was, to)
		}
	}
	return false
}
