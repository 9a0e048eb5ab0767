package admission

import (
	"iter"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/problem"
)

// name is one by which a resource is known besides its own.
type name struct {
	claim string
	// at is the field that says it, taken how another one that has it already is told of, as in "credential x … the same".
	at, taken string
}

// names refuses that two resources are known by one name: it says who calls.
func (j *judge) names() {
	held := map[string]*entry{}
	for _, e := range j.entries {
		for n := range namesOf(e.msg) {
			other := ""
			if h := held[n.claim]; h != nil {
				other = catalog.Ref(h.kind.Name, h.name)
			} else if ref, ok := j.set.view.Claimant(n.claim); ok && j.set.over[id{ref.Kind, ref.Name}] == nil {
				other = catalog.Ref(ref.Kind, ref.Name)
			}
			held[n.claim] = e
			if other != "" {
				j.failWith(problem.Conflict, problem.Join(e.path, n.at), "%s %s", other, n.taken)
			}
		}
	}
}

func namesOf(m proto.Message) iter.Seq[name] {
	return func(yield func(name) bool) {
		switch m := m.(type) {
		case *configv1.Consumer:
			if u := m.GetUsername(); u != "" && !yield(name{claims.Username(u), "username", "has the same"}) {
				return
			}
			if c := m.GetCustomId(); c != "" {
				yield(name{claims.CustomID(c), "custom_id", "has the same"})
			}
		case *configv1.Credential:
			if n, ok := credentialName(m); ok {
				yield(n)
			}
		}
	}
}

func credentialName(m *configv1.Credential) (name, bool) {
	cfg, err := m.GetConfig().UnmarshalNew()
	if err != nil {
		return name{}, false // told elsewhere
	}
	if certificate, ok := cfg.(*credentialv1.MtlsAuth); ok {
		n := certname.OfCredential(certificate)
		return name{claims.Named(n), "config", "knows certificates by the same"}, n.Text != ""
	}
	field, value := check.Identifier(cfg)
	return name{claims.Identified(m.GetType(), value), problem.Join("config", field), "has the same"}, value != ""
}
