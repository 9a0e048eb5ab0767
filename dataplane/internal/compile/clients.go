package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
)

// changedAuthorities opens the CA certificates that changed, or of which fetched lists did. One that cannot be used vouches for
// nobody.
func (b *build) changedAuthorities() {
	changes := b.againAuthorities()
	edit := b.prev.Authorities.Edit()
	for _, ch := range changes {
		b.forget(kindAuthorities, ch.uid())
		name, _ := ch.names()
		if a, ok := edit.Get(name); ok && a.UID == ch.uid() {
			edit.Delete(name)
		}
	}
	for _, ch := range changes { // after all removals: a name may have gone to another
		if ch.after != nil && ch.after.Name != "" {
			edit.Put(ch.after.Name, b.authority(ch.after))
		}
	}
	b.rt.Authorities, b.newAuthorities = edit.Map(), len(changes) > 0
	if b.newAuthorities {
		b.rt.Asked = b.asked()
	}
}

// asked believes all authorities of which somebody asks what is revoked.
func (b *build) asked() *clientcert.Policy {
	var all []clientcert.Authorities
	for _, a := range b.rt.Authorities.All() {
		if a.Checker != nil {
			all = append(all, clientcert.Authorities{Certificates: a.Certificates, Checker: a.Checker})
		}
	}
	return clientcert.New(nil, all, nil)
}

func (b *build) authority(r *state.Record) *runtime.Authority {
	out := &runtime.Authority{UID: r.UID}
	m, reason := decoded[*configv1.CaCertificate](r)
	if reason != "" {
		b.fault(r, reason)
		return out
	}
	all, violations := certs.OpenCA(m)
	var rules *known.Rules
	if len(violations) == 0 {
		rules, violations = known.Open(m, all)
	}
	for _, v := range violations {
		b.fault(r, v.Path+" "+v.Reason)
	}
	if len(violations) > 0 {
		return out
	}
	if out.Certificates = all; rules != nil {
		lists := append(slices.Clip(rules.Lists), b.fetched(r, rules, all)...)
		out.Checker = revocation.New(rules, lists, all, b.deps.Responders, b.rt.Settings.Egress)
	}
	return out
}

// demandOf is what a level says of client certificates, nil if it says nothing.
func demandOf(m *configv1.ClientCertificates) *runtime.Demand {
	if m == nil {
		return nil
	}
	return runtime.NewDemand(m.GetAllow(), m.GetCa())
}

// demand finds out which client certificates a route wants: the narrowest level that says something decides.
func (b *build) demand(route *runtime.Route, m *configv1.Route) *runtime.Demand {
	wider := b.rt.Settings.Clients
	if s := route.Service; s != nil && s.Clients != nil {
		wider = s.Clients
	}
	own := m.GetClientCertificates()
	if own == nil {
		return wider
	}
	d := runtime.NewDemand(own.GetAllow(), own.GetCa())
	if own.GetInherit() {
		d = d.Or(wider)
	}
	return d
}

// asksOf is what the authentication policies among the links want of client certificates.
func asksOf(branches [][]policy.Link) (asks runtime.Asks) {
	for _, links := range branches {
		for _, l := range links {
			if !slices.Contains(asks.Types, l.Binding.Type) {
				asks.Types = append(asks.Types, l.Binding.Type)
			}
			c, ok := l.Policy.(policy.Certified)
			if !ok {
				continue
			}
			if ca := c.Authorities(); len(ca) > 0 {
				asks.Demands = append(asks.Demands, runtime.NewDemand(nil, ca))
			} else {
				asks.Own = true
			}
		}
	}
	return asks
}

// needOf is what a route asks of connections: its demand, or a needless one for all that may be shown to it. Bound: so may be
// certificates that credentials are bound to, of whatever authorities.
func needOf(r *runtime.Route, bound bool) *runtime.Demand {
	if len(r.Asks.Demands) == 0 {
		if bound && r.Demand == nil {
			return r.Demand.Somebody()
		}
		return r.Demand
	}
	all := r.Asks.Demands[0].Or(r.Demand)
	for _, d := range r.Asks.Demands[1:] {
		all = all.Or(d)
	}
	if bound {
		return all.Somebody()
	}
	return all.Optional()
}

// takesBound reports whether the route authenticates by credentials of which some are bound to certificates.
func (b *build) takesBound(r *runtime.Route) bool {
	return slices.ContainsFunc(r.Asks.Types, func(typ string) bool { return b.rt.Bound[typ] > 0 })
}

// binds notes that one credential of a type more, or less, is bound to certificates. The first and the last one change what is
// asked under the names of all routes that take the type.
func (b *build) binds(typ string, d *runtime.Demand, credentials int) {
	b.makes(d, credentials)
	if b.rt.Bound[typ] += credentials; b.rt.Bound[typ] == 0 {
		delete(b.rt.Bound, typ)
	}
}

func sameTypes(a, b map[string]int) bool {
	return len(a) == len(b) && !slices.ContainsFunc(slices.Collect(maps.Keys(a)), func(typ string) bool { return b[typ] == 0 })
}

// asks notes what a route wants of client certificates, or wants no more.
func (b *build) asks(r *runtime.Route, routes int) {
	b.makes(r.Demand, routes)
	for _, d := range r.Asks.Demands {
		b.makes(d, routes)
	}
	if r.Need != r.Demand {
		b.makes(r.Need, routes)
	}
}

// makes notes that one route or credential more, or less, makes a demand.
func (b *build) makes(d *runtime.Demand, users int) {
	if d == nil {
		return
	}
	c := runtime.Clients{Demand: d}
	if old, ok := b.clients.Get(d.Key); ok {
		c = *old
	} else {
		b.unresolved = append(b.unresolved, d.Key)
	}
	if c.Users += users; c.Users == 0 {
		b.clients.Delete(d.Key)
		return
	}
	b.clients.Put(d.Key, &c)
}

// resolveClients finds out what demands come to: those that are new, and all of them if what they refer to has changed.
func (b *build) resolveClients() {
	var stale []*runtime.Clients
	if len(b.changes[kindCerts]) > 0 || b.newAuthorities {
		for _, c := range b.clients.Map().All() {
			stale = append(stale, c)
		}
	} else {
		for _, key := range b.unresolved { // and not all: every credential may make a demand of its own
			if c, ok := b.clients.Get(key); ok {
				stale = append(stale, c)
			}
		}
	}
	for _, c := range stale {
		resolved := *c
		resolved.Policy = b.clientPolicy(c.Demand)
		b.clients.Put(c.Demand.Key, &resolved)
	}
	b.rt.Clients = b.clients.Map()
}

// clientPolicy is what a demand comes to. What it refers to and is not there, or cannot be used, lets nobody in.
func (b *build) clientPolicy(d *runtime.Demand) *clientcert.Policy {
	var pins [][sha256.Size]byte
	for _, reference := range d.Allow {
		if c, ok := b.rt.Held.Get(reference); ok {
			for _, v := range c.Set.Believed(reference) {
				pins = append(pins, sha256.Sum256(v.Leaf().Raw))
			}
		}
		if certs.IsID(reference) { // says all that is to be known
			id, _ := hex.DecodeString(reference)
			pins = append(pins, [sha256.Size]byte(id))
		}
	}
	var believed []clientcert.Authorities
	for _, name := range d.CA {
		if a, ok := b.rt.Authorities.Get(name); ok {
			believed = append(believed, clientcert.Authorities{Certificates: a.Certificates, Checker: a.Checker})
		}
	}
	return clientcert.New(pins, believed, &b.deps.Responders.Tally)
}
