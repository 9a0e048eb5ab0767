package chain

import (
	"fmt"
	"slices"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
)

// alternatives applies any_of: only the authentication bindings that it names apply. Bindings that are locked above the
// route cannot be replaced; they are part of every alternative.
func (c *Chain) alternatives(authn *configv1.Authn) {
	var pinned []int
	named := map[int]bool{}
	for i := range c.Links {
		l := &c.Links[i]
		if l.Phase == optionsv1.Phase_PHASE_AUTHN && l.Applies() && l.Binding.GetLocked() &&
			l.Site < optionsv1.Site_SITE_ROUTE {
			l.Pinned = true
			pinned = append(pinned, i)
			named[i] = true
		}
	}
	c.AnyOf = [][]int{}
	for n, branch := range authn.GetAnyOf() {
		members := slices.Clone(pinned)
		for _, name := range branch.GetBindings() {
			found := c.named(name)
			if len(found) == 0 {
				c.Faults = append(c.Faults, fmt.Sprintf("authn.any_of[%d] names %s, which is no active authentication binding here", n, name))
			}
			for _, i := range found {
				named[i] = true
				if !slices.Contains(members, i) {
					members = append(members, i)
				}
			}
		}
		if len(branch.GetBindings()) == 0 {
			c.Faults = append(c.Faults, fmt.Sprintf("authn.any_of[%d] is empty", n))
		}
		slices.Sort(members)
		c.AnyOf = append(c.AnyOf, members)
	}
	for i := range c.Links {
		if l := &c.Links[i]; l.Phase == optionsv1.Phase_PHASE_AUTHN && !named[i] && l.Suppressed == "" {
			l.Suppressed, l.Fault = "replaced by the route's authn.any_of", ""
		}
	}
}

// anonymous refuses to let requests pass without credentials where a binding above the route asks for one and is locked.
func (c *Chain) anonymous() {
	for i := range c.Links {
		l := &c.Links[i]
		if l.Phase == optionsv1.Phase_PHASE_AUTHN && l.Applies() && l.Binding.GetLocked() && l.Site < optionsv1.Site_SITE_ROUTE {
			c.Faults = append(c.Faults, fmt.Sprintf("authn.anonymous would let requests pass that %s of %s, which is locked, refuses", l.Name, where(l)))
		}
	}
}

// named returns the active authentication bindings of that name on the narrowest owner that has one. Several types may
// share a name; then all of them are meant.
func (c *Chain) named(name string) []int {
	var found []int
	rank := -1
	for i := range c.Links {
		l := &c.Links[i]
		if l.Phase != optionsv1.Phase_PHASE_AUTHN || l.Name != name || l.Suppressed != "" {
			continue
		}
		if l.rank > rank {
			rank, found = l.rank, nil
		}
		if l.rank == rank {
			found = append(found, i)
		}
	}
	return found
}
