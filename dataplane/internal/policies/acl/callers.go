package acl

import (
	"slices"

	"keyward.dev/dataplane/internal/exchange"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// callers are those of whom at least one thing is so.
type callers struct {
	groups, consumers, scopes set
	labels                    []label
}

type label struct {
	key    string
	values set
}

func callersOf(groups, consumers, scopes []string, labels map[string]*policyv1.AclLabelValues) callers {
	c := callers{groups: setOf(groups), consumers: setOf(consumers), scopes: setOf(scopes)}
	for key, values := range labels {
		c.labels = append(c.labels, label{key, setOf(values.GetValues())})
	}
	return c
}

func (c *callers) empty() bool {
	return len(c.groups)+len(c.consumers)+len(c.scopes)+len(c.labels) == 0
}

func (c *callers) include(p *exchange.Principal) bool {
	if c.consumers.has(p.Consumer) || c.groups.hasAny(p.Groups) || c.scopes.hasAny(p.Scopes()) {
		return true
	}
	for i := range c.labels {
		if v, ok := p.Labels()[c.labels[i].key]; ok && c.labels[i].values.has(v) {
			return true
		}
	}
	return false
}

func hasAll(have, needed []string) bool {
	for _, n := range needed {
		if !slices.Contains(have, n) {
			return false
		}
	}
	return true
}

type set map[string]struct{}

// setOf returns nil for an empty list.
func setOf(list []string) set {
	if len(list) == 0 {
		return nil
	}
	s := make(set, len(list))
	for _, v := range list {
		s[v] = struct{}{}
	}
	return s
}

func (s set) has(v string) bool {
	_, ok := s[v]
	return ok
}

func (s set) hasAny(list []string) bool {
	if len(s) == 0 {
		return false
	}
	for _, v := range list {
		if _, ok := s[v]; ok {
			return true
		}
	}
	return false
}
