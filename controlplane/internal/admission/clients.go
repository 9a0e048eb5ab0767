package admission

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// vouched refuses mtls-auth without authorities where nothing beside it or wider says whom to believe. A narrower level can
// name others, but not lift that.
func (j *judge) vouched() {
	found, _ := j.set.get("settings", "settings")
	if demands(found.msg) {
		return
	}
	lost := j.lost("settings", "settings")
	for _, kind := range []string{"settings", "services"} {
		j.eachConcerned(kind, lost != "", func(m member) {
			if !demands(m.msg) {
				j.unvouched(m, lost)
			}
		})
	}
	services := map[string]bool{} // that demand nothing any more
	for _, e := range j.entries {
		if e.kind.Name == "services" {
			services[e.name] = j.lost("services", e.name) != ""
		}
	}
	for m := range j.concernedRoutes(lost != "", services) {
		r, ok := m.msg.(*configv1.Route)
		if !ok || r.GetClientCertificates() != nil {
			continue
		}
		if to, ok := j.set.get("services", r.GetService()); ok && !demands(to.msg) {
			j.unvouched(m, cmp.Or(j.lost("services", r.GetService()), lost))
		}
	}
}

// demands reports whether settings or a service say which client certificates are believed.
func demands(m proto.Message) bool {
	o, ok := m.(interface {
		GetClientCertificates() *configv1.ClientCertificates
	})
	return ok && o.GetClientCertificates() != nil
}

// lost is the place of the change that has a resource demand no client certificates any more, empty if there is none.
func (j *judge) lost(kind, name string) string {
	o := j.set.over[id{kind, name}]
	if o == nil || o.entry == nil || o.entry.stored == nil || !demands(o.entry.stored.Message) || demands(o.entry.msg) {
		return "" // settings cannot be removed, nor a service that has routes
	}
	return problem.Join(o.entry.path, "client_certificates")
}

// unvouched tells of the bindings of a resource that need somebody else to name authorities: there, or if the request leaves
// it alone, at the change that took them away.
func (j *judge) unvouched(m member, lost string) {
	for i, b := range policies(m.msg) {
		cfg := new(policyv1.MtlsAuth)
		if !b.GetEnabled() || !b.GetConfig().MessageIs(cfg) || b.GetConfig().UnmarshalTo(cfg) != nil || len(cfg.GetCa()) > 0 {
			continue
		}
		if m.entry != nil {
			j.fail(problem.Join(m.entry.path, problem.Index("policies", i)+".config.ca"),
				"is needed here: client_certificates do not say whom to believe, neither here nor above")
			continue
		}
		j.fail(lost, "is needed by mtls-auth of %s, which names no authorities", catalog.Ref(m.kind, m.name))
	}
}
