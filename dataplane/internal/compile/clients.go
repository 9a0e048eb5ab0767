package compile

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

// changedAuthorities opens the CA certificates that changed. One that cannot be used vouches for nobody.
func (b *build) changedAuthorities() {
	changes := b.changes[kindAuthorities]
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
			edit.Put(ch.after.Name, &runtime.Authority{UID: ch.after.UID, Certificates: b.authority(ch.after)})
		}
	}
	b.rt.Authorities = edit.Map()
}

func (b *build) authority(r *state.Record) []*x509.Certificate {
	m, reason := decoded[*configv1.CaCertificate](r)
	if reason != "" {
		b.fault(r, reason)
		return nil
	}
	all, violations := certs.OpenCA(m)
	for _, v := range violations {
		b.fault(r, v.Path+" "+v.Reason)
	}
	if len(violations) > 0 {
		return nil
	}
	return all
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

// needOf is what a route asks of connections.
func needOf(r *runtime.Route) *runtime.Demand {
	if len(r.Asks.Demands) == 0 {
		return r.Demand
	}
	all := r.Asks.Demands[0].Or(r.Demand)
	for _, d := range r.Asks.Demands[1:] {
		all = all.Or(d)
	}
	return all.Optional()
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

// makes notes that one route more, or less, makes a demand.
func (b *build) makes(d *runtime.Demand, routes int) {
	if d == nil {
		return
	}
	c := runtime.Clients{Demand: d}
	if old, ok := b.clients.Get(d.Key); ok {
		c = *old
	}
	if c.Routes += routes; c.Routes == 0 {
		b.clients.Delete(d.Key)
		return
	}
	b.clients.Put(d.Key, &c)
}

// resolveClients finds out what demands come to: those that are new, and all of them if what they refer to has changed.
func (b *build) resolveClients() {
	all := len(b.changes[kindCerts])+len(b.changes[kindAuthorities]) > 0
	var stale []*runtime.Clients
	for _, c := range b.clients.Map().All() {
		if all || c.Policy == nil {
			stale = append(stale, c)
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
	var authorities []*x509.Certificate
	for _, name := range d.CA {
		if a, ok := b.rt.Authorities.Get(name); ok {
			authorities = append(authorities, a.Certificates...)
		}
	}
	return clientcert.New(pins, authorities)
}
