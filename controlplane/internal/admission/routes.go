package admission

import (
	"iter"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/claims"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/match"
	"keyward.dev/shared/problem"
)

// routes refuses routes that nothing but their name tells apart, whether they are enabled or not, and more expressions
// on a host than gateways should try one by one.
func (j *judge) routes() {
	held := map[string]*entry{}
	crowded := map[string]bool{} // hosts for which the request has expressions
	for _, e := range j.entries {
		r, ok := e.msg.(*configv1.Route)
		if !ok {
			continue
		}
		j.place(e, r, held)
		for kind, host := range claims.Marks(r) {
			if kind == claims.RegexHost {
				crowded[host] = true
			}
		}
	}
	if len(crowded) > 0 {
		j.countRegexes(crowded)
	}
}

// place takes up every host and path of a route and tells the first that another route has already.
func (j *judge) place(e *entry, r *configv1.Route, held map[string]*entry) {
	for i, host := range claims.Hosts(r) {
		for n, path := range match.Paths(r) {
			other := j.placeHolder(e, claimAt(r, host, path), held)
			if other == "" {
				continue
			}
			j.failWith(problem.Conflict, problem.Join(e.path, placeOf(r, i, n)),
				"%s has the same host, path, conditions and priority: give one of them another priority", other)
			return
		}
	}
}

// claimAt is what a route claims at one of its hosts and paths, empty if it can claim nothing there.
func claimAt(r *configv1.Route, host string, path *configv1.PathMatch) string {
	one := &configv1.Route{
		Hosts: []string{host}, Paths: []*configv1.PathMatch{path},
		Methods: r.GetMethods(), Headers: r.GetHeaders(), Query: r.GetQuery(), Priority: r.GetPriority(),
	}
	for claim := range claims.Of(one) {
		return claim
	}
	return ""
}

func (j *judge) placeHolder(e *entry, claim string, held map[string]*entry) string {
	if claim == "" {
		return ""
	}
	if other := held[claim]; other != nil && other != e {
		return catalog.Ref(other.kind.Name, other.name)
	}
	held[claim] = e
	if ref, ok := j.set.view.Claimant(claim); ok && j.set.over[id{ref.Kind, ref.Name}] == nil {
		return catalog.Ref(ref.Kind, ref.Name)
	}
	return ""
}

// placeOf says where the clash stands: at the path, or at the host or the route where there is none.
func placeOf(r *configv1.Route, host, path int) string {
	switch {
	case len(r.GetPaths()) > 0:
		return problem.Index("paths", path)
	case len(r.GetHosts()) > 0:
		return problem.Index("hosts", host)
	default:
		return ""
	}
}

// countRegexes bounds the expressions of the hosts for which the request has some.
func (j *judge) countRegexes(wanted map[string]bool) {
	count := map[string]int{}
	for host := range wanted {
		for m := range j.set.untouched(claims.RegexHost, host) {
			r, _ := m.msg.(*configv1.Route)
			for range regexes(r) {
				count[host]++
			}
		}
	}
	for _, o := range j.set.sorted() {
		if o.entry == nil {
			continue
		}
		r, _ := o.entry.msg.(*configv1.Route) // of nothing else there are expressions
		for _, host := range claims.Hosts(r) {
			for n := range regexes(r) {
				if count[host]++; count[host] == j.limits.HostRegexes+1 {
					j.fail(problem.Join(o.entry.path, problem.Index("paths", n)), "host %q has more than %d regular expressions", strings.ToLower(host), j.limits.HostRegexes)
				}
			}
		}
	}
}

// regexes yields the places of a route's expressions among its paths.
func regexes(r *configv1.Route) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n, p := range r.GetPaths() {
			if p.GetRegex() != "" && !yield(n) {
				return
			}
		}
	}
}
