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
			for at, header := range credentialHeaders(m) {
				i := slices.IndexFunc(told, func(h check.IdentityHeader) bool { return check.FoldField(h.Name) == check.FoldField(header) })
				switch {
				case i < 0:
				case found.entry != nil:
					j.fail(problem.Join(found.entry.path, "identity_headers."+told[i].Says),
						"is removed from requests: authentication of %s would find no credentials there", catalog.Ref(m.kind, m.name))
				default:
					j.fail(problem.Join(m.entry.path, at), "%s is removed from requests, because identity_headers of the settings names it", header)
				}
			}
		})
	}
}

// credentialHeaders yields the header fields that the authentication bindings of a resource look in, with their places.
func credentialHeaders(m member) func(yield func(at, header string) bool) {
	return func(yield func(at, header string) bool) {
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
				if !yield(problem.Index(problem.Index("policies", i)+".config.header", n), h) {
					return
				}
			}
		}
	}
}
