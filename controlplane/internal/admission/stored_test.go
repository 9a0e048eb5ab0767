package admission_test

import (
	"slices"
	"testing"

	"keyward.dev/controlplane/internal/admission"
)

// What the request leaves alone counts as much as what it puts, and what it replaces or removes no longer counts.
func TestStoredResourcesCount(t *testing.T) {
	t.Parallel()
	const limit = "config: {windows: [{limit: 1, window: 1s}]}"
	for _, tt := range []struct {
		name, stored, request string
		refused, warned       []string
	}{
		{
			"an expression beside a stored one", "routes: [{name: a, service: s, hosts: [a.test, b.test], paths: [{regex: /a}]}]",
			"routes: [{name: b, service: s, hosts: [c.test, B.test], paths: [{regex: /b}]}]",
			[]string{"routes[0].paths[0]"},
			nil,
		},
		{
			"an expression on another host", "routes: [{name: a, service: s, hosts: [a.test], paths: [{regex: /a}]}]",
			"routes: [{name: b, service: s, paths: [{regex: /b}]}]", nil, nil,
		},
		{
			"an expression where no host is named", "routes: [{name: a, service: s, paths: [{regex: /a}]}]",
			"routes: [{name: b, service: s, paths: [/, {regex: /b}]}]",
			[]string{"routes[0].paths[1]"},
			nil,
		},
		{
			"an expression in place of the stored one", "routes: [{name: a, service: s, paths: [{regex: /a}]}]",
			"routes: [{name: a, service: s, paths: [{regex: /b}]}]", nil, nil,
		},
		{
			"an expression that moves to another route", "routes: [{name: a, service: s, paths: [{regex: /a}]}]",
			"routes: [{name: a, service: s, paths: [/a]}, {name: b, service: s, paths: [{regex: /b}]}]", nil, nil,
		},
		{
			"a label of a stored consumer", "consumers: [{name: a, groups: [lead]}]",
			"routes: [{name: b, service: s, policies: [{type: acl, config: {allow: [lead]}}]}]", nil, nil,
		},
		{
			"a label that the request takes away", "consumers: [{name: a, groups: [lead]}]",
			"routes: [{name: b, service: s, policies: [{type: acl, config: {allow: [lead]}}]}]\nconsumers: [{name: a, groups: [tin]}]",
			nil,
			[]string{"routes[0].policies[0].config.allow[0]"},
		},
		{
			"a lock over a stored consumer", "consumers: [{name: a, groups: [lead, tin], policies: [{type: rate-limit, " + limit + "}]}]",
			"consumer-groups: [{name: lead, policies: [{type: rate-limit, locked: true, " + limit + "}]}, {name: tin, policies: [{type: rate-limit, locked: true, " + limit + "}]}]",
			[]string{"consumer-groups[0].policies", "consumer-groups[1].policies"},
			nil,
		},
		{
			"a lock over a consumer that leaves", "consumers: [{name: a, groups: [lead], policies: [{type: rate-limit, " + limit + "}]}]",
			"consumer-groups: [{name: lead, policies: [{type: rate-limit, locked: true, " + limit + "}]}]\nconsumers: [{name: a, groups: [tin], policies: [{type: rate-limit, " + limit + "}]}]",
			nil, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limits := admission.DefaultLimits()
			limits.HostRegexes = 1
			g := newGroupWith(t, limits)
			g.must("services: [{name: s, url: http://a.test}]")
			g.must(tt.stored)
			a, vs := g.apply(tt.request, false)
			if !slices.Equal(pathsOf(vs), append([]string{}, tt.refused...)) {
				t.Fatalf("violations %v, want at %q", vs, tt.refused)
			}
			if got := pathsOf(a.Warnings); !slices.Equal(got, append([]string{}, tt.warned...)) {
				t.Errorf("warnings %v, want at %q", a.Warnings, tt.warned)
			}
		})
	}
}
