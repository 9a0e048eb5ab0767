package compile

import (
	"errors"
	"slices"
	"strings"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/check/match"
)

// changedRoutes compiles the routes that changed, or whose service or settings did.
func (b *build) changedRoutes() {
	for _, ch := range b.changes[kindRoutes] {
		if ch.before != nil {
			b.removeRoute(ch.uid())
		}
	}
	switch {
	case b.everyRoute:
		all := slices.Collect(b.rt.Set.All(kindRoutes))
		for _, r := range all {
			b.removeRoute(r.UID)
		}
		b.addRoutes(all)
	default:
		b.addRoutes(after(b.changes[kindRoutes]))
		for service := range b.staleServices {
			eachUser(b.prev.Users, service, func(uid string) {
				if record := b.rt.Set.ByUID(kindRoutes, uid); record != nil {
					b.removeRoute(uid)
					b.addRoute(record, readRoute(record))
				}
			})
		}
	}
	for _, ch := range b.changes[kindRoutes] {
		var before *runtime.Route
		if ch.before != nil {
			before, _ = b.prev.Routes.Get(ch.uid())
		}
		after, _ := b.routes.Get(ch.uid())
		b.users.move(ch.uid(), before, after)
	}
}

func (b *build) removeRoute(uid string) {
	b.forget(kindRoutes, uid)
	old, ok := b.routes.Get(uid)
	if !ok {
		return
	}
	b.routes.Delete(uid)
	b.asks(old, -1)
	switch {
	case old.Lost:
		b.table.ReopenAll(uid)
	case old.MatchFault != "":
		b.table.Reopen(old.Match)
	default:
		b.table.Remove(old.Match)
	}
}

func (b *build) addRoutes(records []*state.Record) {
	b.routes.Expect(b.rt.Set.Len(kindRoutes))
	for r, got := range ahead(records, readRoute) {
		b.addRoute(r, got)
	}
}

// readableRoute is a route with its part in the table.
type readableRoute struct {
	reading[*configv1.Route]
	matcher *router.Route // nil if the route cannot be read
	err     error         // of the matcher
}

func readRoute(r *state.Record) (got readableRoute) {
	if got.reading = read[*configv1.Route](r); got.reason == "" {
		got.matcher, got.err = router.Compile(r.UID, got.m)
	}
	return got
}

func (b *build) addRoute(r *state.Record, got readableRoute) {
	route := &runtime.Route{Info: exchange.RouteInfo{Name: r.Name, UID: r.UID, Group: b.deps.Group}}
	b.routes.Put(r.UID, route)
	m := got.m
	if got.reason != "" {
		b.lost(route, r, got.reason)
		return
	}
	route.ServiceName = m.GetService()
	matcher, err := got.matcher, got.err
	if _, ok := errors.AsType[*router.HostError](err); ok {
		b.lost(route, r, err.Error())
		return
	}
	route.Match = matcher
	if err != nil {
		route.MatchFault = err.Error()
		b.fault(r, route.MatchFault)
		b.table.Close(matcher, route.MatchFault)
		return
	}
	matcher.Target = route
	b.policies(route, r, m)
	route.Demand = b.demand(route, m)
	if route.Asks.Own && route.Demand == nil {
		b.close(route, r, "an authentication policy goes by client certificates and nobody vouches for them: name authorities in its ca, or in client_certificates")
	}
	if route.Need = needOf(route, b.takesBound(route)); route.Need != nil {
		matcher.Needs = route.Need.Key
	}
	b.asks(route, 1)
	b.table.Put(matcher)
}

// lost closes everything: what the route would have taken is not known, so every request could be one of its.
func (b *build) lost(route *runtime.Route, r *state.Record, reason string) {
	route.Lost = true
	b.fault(r, reason)
	b.table.CloseAll(&router.Closing{UID: r.UID, Name: r.Name, Reason: reason})
}

// policies compiles what happens to the requests the route takes.
func (b *build) policies(route *runtime.Route, r *state.Record, m *configv1.Route) {
	if rw := m.GetRewrite(); rw != nil {
		route.StripPrefix = rw.GetStripPrefix()
		if rw.GetPrefix() != "" {
			prefix, err := match.Path(rw.GetPrefix())
			if err != nil {
				b.close(route, r, "rewrite.prefix: "+err.Error())
			}
			route.AddPrefix = strings.TrimSuffix(prefix, "/")
		}
	}
	owner := b.owner(r, m.GetPolicies())
	if owner.Broken() {
		b.close(route, nil, "one of its policies cannot be built")
	}
	b.routeService(route, r, m)
	plain := len(m.GetPolicies()) == 0 && m.GetAuthn() == nil && route.Closed == ""
	if plain && b.takePlain(route) {
		return
	}
	maker := &runtime.OverlayMaker{
		Lookup: b.lookup, Settings: b.rt.Settings.Owner, Route: owner, Authn: m.GetAuthn(), Sharing: b.rt.Sharing,
	}
	if route.Service != nil {
		maker.Service = route.Service.Owner
	}
	early := b.routeHalf(route, r, maker)
	if route.Closed != "" {
		return
	}
	route.Chain, route.Asks = early.Chain, early.Asks
	route.Overlays = runtime.NewOverlays(maker)
	if plain {
		route.Service.Plain = &runtime.Plain{Settings: maker.Settings, Early: early, Overlays: route.Overlays}
	}
}

// takePlain gives the route the policies that another route of its service has been given, if there was one.
func (b *build) takePlain(route *runtime.Route) bool {
	p := route.Service.Plain
	if p == nil || p.Settings != b.rt.Settings.Owner {
		return false
	}
	route.Chain, route.Asks, route.Overlays = p.Early.Chain, p.Early.Asks, p.Overlays
	return true
}

// close closes the route; a record is given if that is to be reported here.
func (b *build) close(route *runtime.Route, r *state.Record, reason string) {
	if route.Closed == "" {
		route.Closed = reason
	}
	if r != nil {
		b.fault(r, reason)
	}
}

func (b *build) routeService(route *runtime.Route, r *state.Record, m *configv1.Route) {
	s, ok := b.services.Get(route.ServiceName)
	if !ok {
		b.close(route, r, "its service does not exist")
		return
	}
	route.Service = s
	route.Info.Service, route.Info.ServiceUID = s.Name, s.UID
	if s.Closed != "" {
		b.close(route, nil, s.Closed)
	}
	var err error
	if route.Call, err = callOf(s, m); err != nil {
		b.close(route, r, err.Error())
	}
	if s.Protocol == runtime.HTTP1 { // HTTP/2 cannot be upgraded; admission says so
		route.Upgrades = m.GetUpgrade()
	}
	route.MaxStreamAge = duration(m.GetMaxStreamAge(), 0)
	route.MaxBody = b.rt.Settings.MaxBody
	if l := m.GetLimits(); l != nil && l.Body != nil {
		route.MaxBody = bodyLimit(l.GetBody())
	}
}

// routeHalf compiles the part of the chain that runs before the caller is known, or closes the route.
func (b *build) routeHalf(route *runtime.Route, r *state.Record, m *runtime.OverlayMaker) *runtime.Early {
	owners := []*runtime.Owner{m.Settings, m.Service, m.Route}
	in := chain.Input{Authn: m.Authn}
	for i, slot := range []**chain.Owner{&in.Settings, &in.Service, &in.Route} {
		if owners[i] != nil {
			*slot = &owners[i].Owner
		}
	}
	c := chain.Effective(b.lookup, in)
	for _, f := range c.Faults {
		b.close(route, r, f)
	}
	for i := range c.Links {
		if l := &c.Links[i]; l.Fault != "" {
			b.ownFault(route, r, l)
		}
	}
	links := make([]policy.Link, len(c.Links))
	for i := range c.Links {
		if !c.Links[i].Applies() {
			continue
		}
		var reason string
		if links[i], reason = runtime.LinkOf(owners, &c.Links[i]); reason != "" {
			b.close(route, nil, reason)
		}
	}
	if route.Closed != "" {
		return nil
	}
	home := earlyHome(m, &c)
	if home.Early == nil || home.EarlyFor != m.Settings {
		edge, branches := split(&c, links)
		made := policy.NewOpenRoute(edge, branches, m.Authn.GetAnonymous(), b.deps.Monitor)
		home.Early, home.EarlyFor = &runtime.Early{Chain: made, Asks: asksOf(branches)}, m.Settings
	}
	return home.Early
}

// earlyHome is the narrowest owner that has a say in what runs before the caller is known: for all routes of which it is the
// narrowest that is the same.
func earlyHome(m *runtime.OverlayMaker, c *chain.Chain) *runtime.Owner {
	home := m.Settings
	if m.Authn != nil {
		return m.Route
	}
	for i := range c.Links {
		switch l := &c.Links[i]; {
		case !early(l.Phase):
		case l.Site == optionsv1.Site_SITE_ROUTE:
			return m.Route
		case l.Site == optionsv1.Site_SITE_SERVICE:
			home = m.Service
		}
	}
	return home
}

// ownFault closes the route for a link that cannot be run, and reports it here if the binding is the route's own. What
// settings and services contribute is reported there, once.
func (b *build) ownFault(route *runtime.Route, r *state.Record, l *chain.Link) {
	reason := "policy " + l.Type + ": " + l.Fault
	if l.OwnerUID != r.UID || b.factories[l.Type].options == nil {
		r = nil
	}
	b.close(route, r, reason)
}

// split arranges the links that run before the caller is known: the edge, and the alternatives of authentication.
func split(c *chain.Chain, links []policy.Link) (edge []policy.Link, branches [][]policy.Link) {
	var all []policy.Link
	for i := range c.Links {
		l := &c.Links[i]
		switch {
		case !l.Applies() || !early(l.Phase):
		case isAuthn(l):
			all = append(all, links[i])
		default:
			edge = append(edge, links[i])
		}
	}
	if c.AnyOf == nil {
		if len(all) > 0 {
			branches = [][]policy.Link{all}
		}
		return edge, branches
	}
	for _, members := range c.AnyOf {
		branch := make([]policy.Link, 0, len(members))
		for _, i := range members {
			branch = append(branch, links[i])
		}
		branches = append(branches, branch)
	}
	return edge, branches
}
