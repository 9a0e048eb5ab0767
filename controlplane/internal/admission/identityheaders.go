package admission

import (
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// identityKeys refuses to tell services who calls in a field in which authentication looks for credentials: what clients
// send there is removed, and nobody could present one.
func (j *judge) identityKeys() {
	found, _ := j.set.get("settings", "settings")
	settings, _ := found.msg.(*configv1.Settings)
	told := check.IdentityHeaders(settings.GetIdentityHeaders())
	if len(told) == 0 {
		return
	}
	for _, kind := range []string{"settings", "services", "routes"} {
		j.eachConcerned(kind, found.entry != nil, func(m member) {
			for l := range credentialHeaders(m) {
				i := slices.IndexFunc(told, func(h check.IdentityHeader) bool { return check.FoldField(h.Name) == check.FoldField(l.header) })
				switch {
				case i < 0:
				case found.entry != nil:
					j.fail(problem.Join(found.entry.path, "identity_headers."+told[i].Says),
						"is removed from requests: authentication of %s would find no credentials there", catalog.Ref(m.kind, m.name))
				default:
					j.fail(problem.Join(m.entry.path, l.at), "%s is removed from requests, because identity_headers of the settings names it", l.header)
				}
			}
		})
	}
}
