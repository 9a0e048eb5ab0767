package admission

import (
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// upgrades refuses routes that let connections switch to another protocol on their way to a service that is spoken to in
// HTTP/2, where they cannot.
func (j *judge) upgrades() {
	for _, e := range j.entries {
		switch m := e.msg.(type) {
		case *configv1.Route:
			to, _ := j.set.get("services", m.GetService())
			if s, ok := to.msg.(*configv1.Service); ok && len(m.GetUpgrade()) > 0 && check.OverHTTP2(s) {
				j.fail(problem.Join(e.path, "upgrade"), "%s is spoken to in HTTP/2, which cannot be upgraded", catalog.Ref("services", m.GetService()))
			}
		case *configv1.Service:
			if users := j.upgrading(e.name); check.OverHTTP2(m) && len(users) > 0 {
				j.fail(problem.Join(e.path, "protocol"), "HTTP/2 cannot be upgraded, which %s may do", enumerate(users))
			}
		}
	}
}

// upgrading lists the routes to a service that may upgrade and that the request leaves alone.
func (j *judge) upgrading(service string) []string {
	var users []string
	for m := range j.set.untouched("services", service) {
		if r, ok := m.msg.(*configv1.Route); ok && len(r.GetUpgrade()) > 0 {
			users = append(users, catalog.Ref(m.kind, m.name))
		}
	}
	slices.Sort(users)
	return users
}

// loggedKeys refuses to log header fields in which key-auth looks for keys.
func (j *judge) loggedKeys() {
	found, _ := j.set.get("settings", "settings")
	settings, _ := found.msg.(*configv1.Settings)
	logged := settings.GetAccessLog().GetHeaders()
	if len(logged) == 0 {
		return
	}
	for _, kind := range []string{"settings", "services", "routes"} {
		j.eachConcerned(kind, found.entry != nil, func(m member) {
			for at, header := range keyHeaders(m) {
				i := slices.IndexFunc(logged, func(l string) bool { return strings.EqualFold(l, header) })
				switch {
				case i < 0:
				case found.entry != nil:
					j.fail(problem.Join(found.entry.path, problem.Index("access_log.headers", i)),
						"carries keys, which are never logged: key-auth of %s looks there", catalog.Ref(m.kind, m.name))
				default:
					j.fail(problem.Join(m.entry.path, at), "%s is logged by access_log of the settings, and keys never are", header)
				}
			}
		})
	}
}

// keyHeaders yields the header fields that the key-auth bindings of a resource look in, with their places.
func keyHeaders(m member) func(yield func(at, header string) bool) {
	return func(yield func(at, header string) bool) {
		for i, b := range policies(m.msg) {
			var cfg policyv1.KeyAuth
			if !b.GetEnabled() || !b.GetConfig().MessageIs(&cfg) || b.GetConfig().UnmarshalTo(&cfg) != nil {
				continue
			}
			for n, h := range cfg.GetHeader() {
				if !yield(problem.Index(problem.Index("policies", i)+".config.header", n), h) {
					return
				}
			}
		}
	}
}
