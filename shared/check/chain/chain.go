// Package chain works out which policy bindings apply to a request: those of the settings, the service, the route, the
// consumer's groups and the consumer, combined by the rules that each policy type states about itself. Gateways compile
// what it answers and the control plane explains it, so that both always agree.
//
// The package is pure. It knows no policy: what it needs of one are the options in its descriptor.
package chain

import (
	"cmp"
	"fmt"
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// Lookup returns the options of a policy type, nil for one that is not known.
type Lookup func(policyType string) *optionsv1.PolicyOptions

// Owner is a resource with bindings.
type Owner struct {
	Kind, UID, Name string
	Bindings        []*configv1.Binding
}

// Input is what the chain of a request is made from. Groups are those consumer groups that exist among the consumer's
// groups, in the consumer's order. A caller without a consumer has neither Groups nor Consumer.
type Input struct {
	Settings, Service, Route *Owner
	Groups                   []*Owner
	Consumer                 *Owner
	Authn                    *configv1.Authn // of the route
}

// Link is one binding and what becomes of it.
type Link struct {
	Phase      optionsv1.Phase
	Type, Name string
	Site       optionsv1.Site
	OwnerKind  string
	OwnerUID   string
	OwnerName  string
	Binding    *configv1.Binding
	Suppressed string // why it does not apply; empty: it does
	Fault      string // why the whole chain cannot be run; what it guards is to be closed
	Pinned     bool   // an authentication binding that any_of cannot replace

	combine optionsv1.Combine
	rank    int // place from the widest to the narrowest owner
	seq     int // as written
}

// Applies reports whether the link is to be run.
func (l *Link) Applies() bool { return l.Suppressed == "" && l.Fault == "" }

// Chain is the effective chain: every binding, in the order in which they run.
type Chain struct {
	Links []Link
	// AnyOf are the alternatives of authentication as indices of Links; one that passes is enough. Nil: all
	// authentication links that apply must pass.
	AnyOf [][]int
	// Faults say what beside a link keeps the chain from being run.
	Faults []string
}

// Closed returns why the chain cannot be run, "" if it can.
func (c *Chain) Closed() string {
	if len(c.Faults) > 0 {
		return c.Faults[0]
	}
	for i := range c.Links {
		if l := &c.Links[i]; l.Fault != "" {
			return fmt.Sprintf("policy %s on %s %s: %s", l.Type, l.OwnerKind, l.OwnerName, l.Fault)
		}
	}
	return ""
}

// Effective combines the bindings of in.
func Effective(lookup Lookup, in Input) Chain {
	links := collect(lookup, in)
	suppressOff(links)
	suppressOverridden(links)
	slices.SortStableFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(order(a.Phase), order(b.Phase)), cmp.Compare(a.Site, b.Site),
			cmp.Compare(groupOrder(&a), groupOrder(&b)), cmp.Compare(a.seq, b.seq))
	})
	c := Chain{Links: links}
	if in.Authn != nil && len(in.Authn.GetAnyOf()) > 0 {
		c.alternatives(in.Authn)
	}
	if in.Authn.GetAnonymous() != "" {
		c.anonymous()
	}
	return c
}

// order puts bindings whose phase is not known last; they close the chain anyway.
func order(p optionsv1.Phase) int {
	if p == optionsv1.Phase_PHASE_UNSPECIFIED {
		return 1 << 10
	}
	return int(p)
}

// groupOrder makes consumer groups run in the consumer's order, which is from the narrowest to the widest.
func groupOrder(l *Link) int {
	if l.Site == optionsv1.Site_SITE_CONSUMER_GROUP {
		return -l.rank
	}
	return 0
}

// collect lists the bindings from the widest owner to the narrowest.
func collect(lookup Lookup, in Input) []Link {
	var links []Link
	rank := 0
	add := func(site optionsv1.Site, o *Owner) {
		rank++
		if o == nil {
			return
		}
		for _, b := range o.Bindings {
			l := newLink(lookup, site, o, b)
			l.rank, l.seq = rank, len(links)
			links = append(links, l)
		}
	}
	add(optionsv1.Site_SITE_SETTINGS, in.Settings)
	add(optionsv1.Site_SITE_SERVICE, in.Service)
	add(optionsv1.Site_SITE_ROUTE, in.Route)
	for _, g := range slices.Backward(in.Groups) { // the first listed has precedence, so it is the narrowest
		add(optionsv1.Site_SITE_CONSUMER_GROUP, g)
	}
	add(optionsv1.Site_SITE_CONSUMER, in.Consumer)
	return links
}

func newLink(lookup Lookup, site optionsv1.Site, o *Owner, b *configv1.Binding) Link {
	l := Link{
		Type: b.GetType(), Name: cmp.Or(b.GetName(), b.GetType()), Site: site,
		OwnerKind: o.Kind, OwnerUID: o.UID, OwnerName: o.Name, Binding: b,
	}
	opt := lookup(b.GetType())
	if opt == nil {
		l.Fault = "policy type is not known here"
		l.combine = optionsv1.Combine_COMBINE_ALL
		return l
	}
	l.combine, l.Phase = opt.GetCombine(), opt.GetPhase()
	narrow := site == optionsv1.Site_SITE_CONSUMER || site == optionsv1.Site_SITE_CONSUMER_GROUP
	switch {
	case !slices.Contains(opt.GetBindableOn(), site):
		l.Fault = "policy type does not bind here"
	case l.combine != optionsv1.Combine_COMBINE_ALL && l.combine != optionsv1.Combine_COMBINE_MOST_SPECIFIC,
		l.Phase == optionsv1.Phase_PHASE_UNSPECIFIED:
		l.Fault = "policy type combines in a way that is not known here"
	case narrow && l.Phase == optionsv1.Phase_PHASE_AUTHN,
		narrow && l.Phase == optionsv1.Phase_PHASE_EDGE && l.combine != optionsv1.Combine_COMBINE_ALL:
		l.Fault = "runs before the caller is known and cannot be overridden by one"
	case l.Phase == optionsv1.Phase_PHASE_AUTHN && b.GetMode() == configv1.Mode_MODE_REPORT:
		l.Fault = "authentication cannot be reported only"
	case narrow && l.Phase == optionsv1.Phase_PHASE_EDGE:
		l.Phase = optionsv1.Phase_PHASE_AUTHZ // in addition, once the caller is known
	}
	return l
}

func isOff(b *configv1.Binding) bool { return b.Enabled != nil && !b.GetEnabled() }

// suppressOff marks bindings that are switched off. One that is off does nothing, so neither its faults nor its lock count.
func suppressOff(links []Link) {
	for i := range links {
		if isOff(links[i].Binding) {
			links[i].Suppressed, links[i].Fault = "switched off", ""
		}
	}
}

// suppressOverridden leaves of each type and name whose most specific binding wins that one. The widest locked binding
// beats everything narrower. A winner that is off leaves none.
func suppressOverridden(links []Link) {
	type key struct{ policyType, name string }
	winners := map[key]int{}
	for i := range links { // widest first
		l := &links[i]
		if l.combine != optionsv1.Combine_COMBINE_MOST_SPECIFIC {
			continue
		}
		k := key{l.Type, l.Name}
		j, ok := winners[k]
		if !ok {
			winners[k] = i
			continue
		}
		w := &links[j]
		if w.Binding.GetLocked() && !isOff(w.Binding) {
			override(l, fmt.Sprintf("locked by %s", where(w)))
			continue
		}
		reason := fmt.Sprintf("overridden by %s", where(l))
		if isOff(l.Binding) {
			reason = fmt.Sprintf("switched off by %s", where(l))
		}
		override(w, reason)
		winners[k] = i
	}
}

func override(l *Link, reason string) {
	if l.Suppressed == "" {
		l.Suppressed = reason
	}
}

func where(l *Link) string {
	if l.Site == optionsv1.Site_SITE_SETTINGS {
		return "settings"
	}
	return l.OwnerKind + "/" + l.OwnerName
}
