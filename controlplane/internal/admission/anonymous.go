package admission

import configv1 "keyward.dev/proto/gen/keyward/config/v1"

// anonymous refuses an anonymous consumer where nothing asks for credentials: everybody would pass without one, and as
// nobody. It also refuses one where a wider level asks for credentials and is locked.
func (j *judge) anonymous(m member, r *configv1.Route, settings, service *level) {
	if r.GetAuthn().GetAnonymous() == "" {
		return
	}
	const at = "authn.anonymous"
	own := levelOf(m)
	asked := false
	for _, l := range []*level{settings, service, own} {
		if l == nil {
			continue
		}
		for _, b := range l.list {
			if !isAuthn(b) || !b.GetEnabled() {
				continue
			}
			asked = true
			if b.GetLocked() && l != own {
				j.relate(m, at, l, "%q is locked on %s, and requests without a credential would pass it", b.GetName(), l.ref)
			}
		}
	}
	cause := settings
	if service != nil && service.member.entry != nil {
		cause = service
	}
	if !asked && (cause != nil || m.entry != nil) {
		j.relate(m, at, cause, "no authentication policy of the route, its service or the settings applies, so nobody is told apart")
	}
}
