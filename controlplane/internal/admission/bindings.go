package admission

import (
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/problem"
)

// level is a resource with bindings.
type level struct {
	ref    string // for people
	member member
	list   []*configv1.Binding
}

func levelOf(m member) *level {
	if m.msg == nil {
		return nil
	}
	return &level{ref: catalog.Ref(m.kind, m.name), member: m, list: policies(m.msg)}
}

func (j *judge) level(kind, name string) *level {
	m, ok := j.set.get(kind, name)
	if !ok {
		return nil
	}
	return levelOf(m)
}

// bindings checks what bindings of different resources say about each other: locks, and the authentication bindings
// that routes combine. Resources that the request leaves alone are checked where a change of the request concerns them.
func (j *judge) bindings() {
	settings := j.level("settings", "settings")
	all := settings != nil && settings.member.entry != nil && j.bindingsChanged(settings.member.entry)
	changed := map[string]bool{} // services whose bindings the request changes
	for _, e := range j.entries {
		if e.kind.Name == "services" && j.bindingsChanged(e) {
			changed[e.name] = true
		}
	}
	for _, kind := range []string{"services", "consumer-groups", "consumers"} {
		j.eachConcerned(kind, all, func(m member) { j.locked(m, settings) })
	}
	for m := range j.concernedRoutes(all, changed) {
		j.route(m, settings)
	}
	j.groupLocks()
}

// bindingsChanged reports whether an entry could change what its bindings demand of others.
func (j *judge) bindingsChanged(e *entry) bool {
	return len(policies(e.msg)) > 0 || e.stored != nil && e.stored.Message != nil && len(policies(e.stored.Message)) > 0
}

// eachConcerned visits the request's resources of a kind, or all of them.
func (j *judge) eachConcerned(kind string, all bool, visit func(member)) {
	if all {
		for m := range j.set.all(kind) {
			visit(m)
		}
		return
	}
	for _, e := range j.entries {
		if e.kind.Name == kind {
			visit(member{kind, e.name, e.msg, e})
		}
	}
}

// concernedRoutes yields the routes of the request, and those whose settings or service it changes.
func (j *judge) concernedRoutes(all bool, services map[string]bool) func(yield func(member) bool) {
	return func(yield func(member) bool) {
		if all {
			j.set.all("routes")(yield)
			return
		}
		for _, e := range j.entries {
			if e.kind.Name == "routes" && !yield(member{"routes", e.name, e.msg, e}) {
				return
			}
		}
		for _, e := range j.entries {
			if e.kind.Name != "services" || !services[e.name] {
				continue
			}
			for m := range j.set.untouched("services", e.name) {
				if m.kind == "routes" && !yield(m) {
					return
				}
			}
		}
	}
}

// route checks a route against its service and the settings.
func (j *judge) route(m member, settings *level) {
	r, ok := m.msg.(*configv1.Route)
	if !ok {
		return
	}
	service := j.level("services", r.GetService())
	j.locked(m, settings, service)
	j.anyOf(m, r, settings, service)
	j.anonymous(m, r, settings, service)
}

// locked refuses bindings that would override one that is locked on a wider level.
func (j *judge) locked(m member, wider ...*level) {
	for i, b := range policies(m.msg) {
		for _, w := range wider {
			if w == nil || !overridesLocked(w.list, b) {
				continue
			}
			j.relate(m, problem.Index("policies", i), w, "%s %q is locked on %s and cannot be overridden or switched off below", b.GetType(), b.GetName(), w.ref)
		}
	}
}

// overridesLocked reports whether a narrower binding would replace one of the wider level that is locked. Types of which
// every binding applies can only be added to, so nothing there is overridden.
func overridesLocked(wider []*configv1.Binding, b *configv1.Binding) bool {
	return slices.ContainsFunc(wider, func(w *configv1.Binding) bool {
		return w.GetLocked() && w.GetEnabled() && w.GetType() == b.GetType() && w.GetName() == b.GetName()
	}) && combine(b) == optionsv1.Combine_COMBINE_MOST_SPECIFIC
}

// relate tells a violation between two levels at the narrower one, if the request puts it, else at the wider one.
func (j *judge) relate(narrow member, part string, wide *level, format string, args ...any) {
	if narrow.entry != nil {
		j.fail(problem.Join(narrow.entry.path, part), format, args...)
		return
	}
	args = append(args, catalog.Ref(narrow.kind, narrow.name))
	j.fail(problem.Join(wide.member.path(""), "policies"), format+" (by %s)", args...)
}

// groupLocks checks consumers against the locks of the consumer groups whose label they carry.
func (j *judge) groupLocks() {
	seen := map[string]bool{}
	check := func(m member) {
		c, ok := m.msg.(*configv1.Consumer)
		if !ok || len(c.GetPolicies()) == 0 || seen[m.name] {
			return
		}
		seen[m.name] = true
		for _, label := range c.GetGroups() {
			j.locked(m, j.level("consumer-groups", label))
		}
	}
	j.eachConcerned("consumers", false, check)
	for _, e := range j.entries {
		if e.kind.Name == "consumer-groups" && slices.ContainsFunc(policies(e.msg), (*configv1.Binding).GetLocked) {
			for m := range j.set.untouched(claims.Label, e.name) {
				check(m)
			}
		}
	}
}

// anyOf checks that the alternatives of a route name active authentication bindings, and leave out none that is locked.
func (j *judge) anyOf(m member, r *configv1.Route, settings, service *level) {
	if r.GetAuthn() == nil {
		return
	}
	known := map[string]bool{}
	var locks []string
	lockedOn := map[string]*level{}
	own := levelOf(m)
	for _, l := range []*level{settings, service, own} {
		if l == nil {
			continue
		}
		for _, b := range l.list {
			if !isAuthn(b) || !b.GetEnabled() {
				continue
			}
			known[b.GetName()] = true
			if b.GetLocked() && l != own && lockedOn[b.GetName()] == nil {
				locks = append(locks, b.GetName())
				lockedOn[b.GetName()] = l
			}
		}
	}
	for i, branch := range r.GetAuthn().GetAnyOf() {
		at := problem.Index("authn.any_of", i)
		for n, name := range branch.GetBindings() {
			if !known[name] {
				j.anyOfUnknown(m, problem.Index(at+".bindings", n), name, settings, service)
			}
		}
		for _, name := range locks {
			if !slices.Contains(branch.GetBindings(), name) {
				j.relate(m, at, lockedOn[name], "leaves out %q, which is locked on %s", name, lockedOn[name].ref)
			}
		}
	}
}

// anyOfUnknown tells a name that no binding has, at the route or at the change that took the binding away.
func (j *judge) anyOfUnknown(m member, part, name string, settings, service *level) {
	cause := settings
	if service != nil && service.member.entry != nil && (settings == nil || settings.member.entry == nil) {
		cause = service
	}
	if cause == nil && m.entry == nil {
		return
	}
	j.relate(m, part, cause, "%q names no active authentication binding of the route, its service or the settings", name)
}

func isAuthn(b *configv1.Binding) bool {
	o := optionsOf(b)
	return o != nil && o.GetPhase() == optionsv1.Phase_PHASE_AUTHN
}

func combine(b *configv1.Binding) optionsv1.Combine { return optionsOf(b).GetCombine() }
