package admission

import (
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

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

// loggedCredentials refuses to log header fields in which authentication looks for credentials.
func (j *judge) loggedCredentials() {
	found, _ := j.set.get("settings", "settings")
	settings, _ := found.msg.(*configv1.Settings)
	logged := settings.GetAccessLog().GetHeaders()
	if len(logged) == 0 {
		return
	}
	for _, kind := range []string{"settings", "services", "routes"} {
		j.eachConcerned(kind, found.entry != nil, func(m member) {
			for l := range credentialHeaders(m) {
				i := slices.IndexFunc(logged, func(name string) bool { return strings.EqualFold(name, l.header) })
				switch {
				case i < 0:
				case found.entry != nil:
					j.fail(problem.Join(found.entry.path, problem.Index("access_log.headers", i)),
						"carries credentials, which are never logged: %s of %s looks there", l.policy, catalog.Ref(m.kind, m.name))
				default:
					j.fail(problem.Join(m.entry.path, l.at), "%s is logged by access_log of the settings, and credentials never are", l.header)
				}
			}
		})
	}
}

// loggable is a header field in which a binding looks for credentials.
type loggable struct{ policy, at, header string }

// credentialHeaders yields the header fields that the authentication bindings of a resource look in, with their places.
func credentialHeaders(m member) func(yield func(loggable) bool) {
	return func(yield func(loggable) bool) {
		for i, b := range policies(m.msg) {
			if !b.GetEnabled() || !isAuthn(b) {
				continue
			}
			cfg, err := b.GetConfig().UnmarshalNew()
			looks, ok := cfg.(interface{ GetHeader() []string })
			if err != nil || !ok {
				continue
			}
			for n, h := range looks.GetHeader() {
				if !yield(loggable{b.GetType(), problem.Index(problem.Index("policies", i)+".config.header", n), h}) {
					return
				}
			}
		}
	}
}
