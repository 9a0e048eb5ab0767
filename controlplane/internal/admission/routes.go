package admission

import (
	"fmt"
	"slices"
	"strings"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check"
	"keyward.dev/shared/problem"
)

// routes refuses routes that nothing but their name tells apart, and more expressions on a host than gateways should
// try one by one.
func (j *judge) routes() {
	put := map[string]bool{} // hosts of the request's routes
	for _, e := range j.entries {
		if r, ok := e.msg.(*configv1.Route); ok {
			for _, h := range hosts(r) {
				put[h] = true
			}
		}
	}
	if len(put) == 0 {
		return
	}
	places := map[string]member{}
	regexes := map[string]int{}
	for m := range j.set.all("routes") {
		r, ok := m.msg.(*configv1.Route)
		if !ok {
			continue
		}
		for i, h := range hosts(r) {
			if put[h] {
				j.place(places, regexes, m, r, i, h)
			}
		}
	}
}

// place takes up one host of a route, in the order in which set.all yields: the request's routes last.
func (j *judge) place(places map[string]member, regexes map[string]int, m member, r *configv1.Route, i int, host string) {
	paths := r.GetPaths()
	if len(paths) == 0 {
		paths = []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/"}}}
	}
	condition := conditionKey(r)
	for n, p := range paths {
		entry, _, reason := check.PathEntry(p)
		if reason != "" || entry == "" {
			continue
		}
		if strings.HasPrefix(entry, "regex ") {
			regexes[host]++
			if m.entry != nil && regexes[host] == j.limits.HostRegexes+1 {
				j.fail(problem.Join(m.entry.path, problem.Index("paths", n)), "host %q has more than %d regular expressions", host, j.limits.HostRegexes)
			}
		}
		key := host + "\x00" + entry + "\x00" + condition
		other, taken := places[key]
		if !taken {
			places[key] = m
			continue
		}
		if m.entry != nil && other.name != m.name {
			j.failWith(problem.Conflict, problem.Join(m.entry.path, placeOf(r, i, n)),
				"%s has the same host, path, conditions and priority: give one of them another priority", catalog.Ref("routes", other.name))
			return
		}
	}
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

// hosts of a route; none means every host that no other route names.
func hosts(r *configv1.Route) []string {
	if len(r.GetHosts()) == 0 {
		return []string{""}
	}
	return r.GetHosts()
}

// conditionKey is equal for routes with equal conditions and priority, in whatever order they are written.
func conditionKey(r *configv1.Route) string {
	parts := []string{fmt.Sprint(r.GetPriority())}
	methods := slices.Sorted(slices.Values(r.GetMethods()))
	parts = append(parts, strings.Join(methods, ","))
	for i, fields := range [][]*configv1.FieldMatch{r.GetHeaders(), r.GetQuery()} {
		var keys []string
		for _, f := range fields {
			name := f.GetName()
			if i == 0 {
				name = strings.ToLower(name)
			}
			keys = append(keys, fmt.Sprintf("%q %s", name, matchKey(f)))
		}
		slices.Sort(keys)
		parts = append(parts, strings.Join(keys, ","))
	}
	return strings.Join(parts, "\x00")
}

func matchKey(f *configv1.FieldMatch) string {
	switch m := f.GetMatch().(type) {
	case *configv1.FieldMatch_Exact:
		return fmt.Sprintf("exact %q", m.Exact)
	case *configv1.FieldMatch_Prefix:
		return fmt.Sprintf("prefix %q", m.Prefix)
	case *configv1.FieldMatch_Regex:
		return fmt.Sprintf("regex %q", m.Regex)
	case *configv1.FieldMatch_Present:
		return fmt.Sprintf("present %t", m.Present)
	default:
		return ""
	}
}
