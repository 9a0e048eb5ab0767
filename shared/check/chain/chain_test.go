package chain_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"
	"keyward.dev/shared/check/chain"
)

var everywhere = []optionsv1.Site{
	optionsv1.Site_SITE_SETTINGS, optionsv1.Site_SITE_SERVICE, optionsv1.Site_SITE_ROUTE,
	optionsv1.Site_SITE_CONSUMER_GROUP, optionsv1.Site_SITE_CONSUMER,
}

// lookup knows one type of each sort.
func lookup(t string) *optionsv1.PolicyOptions {
	all, most := optionsv1.Combine_COMBINE_ALL, optionsv1.Combine_COMBINE_MOST_SPECIFIC
	switch t {
	case "ip":
		return &optionsv1.PolicyOptions{Type: t, Phase: optionsv1.Phase_PHASE_EDGE, Combine: all, BindableOn: everywhere}
	case "cors":
		return &optionsv1.PolicyOptions{Type: t, Phase: optionsv1.Phase_PHASE_EDGE, Combine: most, BindableOn: everywhere[:3]}
	case "key", "basic":
		return &optionsv1.PolicyOptions{Type: t, Phase: optionsv1.Phase_PHASE_AUTHN, Combine: all, BindableOn: everywhere[:3]}
	case "acl":
		return &optionsv1.PolicyOptions{Type: t, Phase: optionsv1.Phase_PHASE_AUTHZ, Combine: all, BindableOn: everywhere}
	case "limit":
		return &optionsv1.PolicyOptions{Type: t, Phase: optionsv1.Phase_PHASE_TRAFFIC, Combine: most, BindableOn: everywhere}
	}
	return nil
}

// owner writes bindings as "type", "type/name", with the flags "-" off, "!" locked, "?" report only.
func owner(kind, name string, bindings ...string) *chain.Owner {
	o := &chain.Owner{Kind: kind, UID: "uid-" + name, Name: name}
	for _, b := range bindings {
		text := strings.TrimRight(b, "-!?")
		typ, n, _ := strings.Cut(text, "/")
		bind := &configv1.Binding{Type: typ, Name: n, Locked: strings.Contains(b, "!")}
		if strings.Contains(b, "-") {
			bind.Enabled = new(bool)
		}
		if strings.Contains(b, "?") {
			bind.Mode = configv1.Mode_MODE_REPORT
		}
		o.Bindings = append(o.Bindings, bind)
	}
	return o
}

// dump writes what applies as "owner:type/name".
func dump(c chain.Chain) []string {
	var out []string
	for i := range c.Links {
		if l := &c.Links[i]; l.Applies() {
			out = append(out, l.OwnerName+":"+l.Type+"/"+l.Name)
		}
	}
	return out
}

func anyOf(branches ...[]string) *configv1.Authn {
	a := &configv1.Authn{}
	for _, b := range branches {
		a.AnyOf = append(a.AnyOf, &configv1.AuthnBranch{Bindings: b})
	}
	return a
}

func TestEffective(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		in     chain.Input
		want   []string
		anyOf  [][]int
		closed bool
	}{
		{name: "nothing"},
		{
			name: "order by phase, then level, then as written",
			in: chain.Input{
				Settings: owner("settings", "s", "limit", "ip/b", "ip/a"),
				Service:  owner("services", "v", "key"),
				Route:    owner("routes", "r", "acl", "ip/r"),
				Consumer: owner("consumers", "c", "acl/c"),
			},
			want: []string{"s:ip/b", "s:ip/a", "r:ip/r", "v:key/key", "r:acl/acl", "c:acl/c", "s:limit/limit"},
		},
		{
			name: "every level of an ALL type applies",
			in: chain.Input{
				Settings: owner("settings", "s", "acl"), Route: owner("routes", "r", "acl"),
				Groups: []*chain.Owner{owner("consumer-groups", "gold", "acl"), owner("consumer-groups", "silver", "acl")}, Consumer: owner("consumers", "c", "acl"),
			},
			want: []string{"s:acl/acl", "r:acl/acl", "gold:acl/acl", "silver:acl/acl", "c:acl/acl"},
		},
		{
			name: "an ALL binding cannot be switched off from below",
			in:   chain.Input{Settings: owner("settings", "s", "acl", "ip"), Route: owner("routes", "r", "acl-", "ip-?"), Consumer: owner("consumers", "c", "acl-")},
			want: []string{"s:ip/ip", "s:acl/acl"},
		},
		{
			name: "the most specific wins",
			in: chain.Input{
				Settings: owner("settings", "s", "limit", "limit/other"), Service: owner("services", "v", "limit"), Route: owner("routes", "r", "limit"),
				Groups: []*chain.Owner{owner("consumer-groups", "gold", "limit"), owner("consumer-groups", "silver", "limit", "limit/third")},
			},
			want: []string{"s:limit/other", "gold:limit/limit", "silver:limit/third"},
		},
		{
			name: "the consumer beats its groups",
			in:   chain.Input{Groups: []*chain.Owner{owner("consumer-groups", "gold", "limit")}, Consumer: owner("consumers", "c", "limit")},
			want: []string{"c:limit/limit"},
		},
		{
			name: "off switches off what it overrides",
			in:   chain.Input{Settings: owner("settings", "s", "limit"), Route: owner("routes", "r", "limit-")},
		},
		{
			name: "and a narrower one is on again",
			in:   chain.Input{Settings: owner("settings", "s", "limit"), Route: owner("routes", "r", "limit-"), Consumer: owner("consumers", "c", "limit")},
			want: []string{"c:limit/limit"},
		},
		{
			name: "locked is not overridden",
			in:   chain.Input{Settings: owner("settings", "s", "limit!"), Route: owner("routes", "r", "limit"), Consumer: owner("consumers", "c", "limit-")},
			want: []string{"s:limit/limit"},
		},
		{
			name: "a lock on the route holds against consumers only",
			in:   chain.Input{Settings: owner("settings", "s", "limit"), Route: owner("routes", "r", "limit!"), Consumer: owner("consumers", "c", "limit")},
			want: []string{"r:limit/limit"},
		},
		{
			name: "one that is off locks nothing",
			in:   chain.Input{Settings: owner("settings", "s", "limit-!"), Route: owner("routes", "r", "limit")},
			want: []string{"r:limit/limit"},
		},
		{
			name: "an address check of a consumer runs as authorisation",
			in:   chain.Input{Route: owner("routes", "r", "ip", "key", "acl"), Consumer: owner("consumers", "c", "ip")},
			want: []string{"r:ip/ip", "r:key/key", "r:acl/acl", "c:ip/ip"},
		},
		{name: "unknown type closes", in: chain.Input{Route: owner("routes", "r", "waf")}, closed: true},
		{name: "unknown type that is off does not", in: chain.Input{Route: owner("routes", "r", "waf-")}},
		{name: "authentication on a consumer closes", in: chain.Input{Consumer: owner("consumers", "c", "key")}, closed: true},
		{name: "reported authentication closes", in: chain.Input{Route: owner("routes", "r", "key?")}, closed: true},
		{
			name: "all authentication applies",
			in:   chain.Input{Settings: owner("settings", "s", "key"), Route: owner("routes", "r", "basic")},
			want: []string{"s:key/key", "r:basic/basic"},
		},
		{
			name:  "any_of replaces what it does not name",
			in:    chain.Input{Settings: owner("settings", "s", "key"), Route: owner("routes", "r", "basic"), Authn: anyOf([]string{"basic"})},
			want:  []string{"r:basic/basic"},
			anyOf: [][]int{{1}},
		},
		{
			name:  "any_of is OR of ANDs",
			in:    chain.Input{Settings: owner("settings", "s", "key"), Route: owner("routes", "r", "basic", "key/k2"), Authn: anyOf([]string{"basic", "key"}, []string{"k2"})},
			want:  []string{"s:key/key", "r:basic/basic", "r:key/k2"},
			anyOf: [][]int{{0, 1}, {2}},
		},
		{
			name:  "any_of means the narrowest of that name",
			in:    chain.Input{Settings: owner("settings", "s", "key"), Route: owner("routes", "r", "key"), Authn: anyOf([]string{"key"})},
			want:  []string{"r:key/key"},
			anyOf: [][]int{{1}},
		},
		{
			name:  "any_of cannot replace what is locked above",
			in:    chain.Input{Settings: owner("settings", "s", "key!"), Route: owner("routes", "r", "basic!", "key/k2"), Authn: anyOf([]string{"k2"})},
			want:  []string{"s:key/key", "r:key/k2"},
			anyOf: [][]int{{0, 2}},
		},
		{name: "any_of that names nothing closes", in: chain.Input{Route: owner("routes", "r", "key"), Authn: anyOf([]string{"nope"})}, anyOf: [][]int{nil}, closed: true},
		{name: "any_of that names what is off closes", in: chain.Input{Route: owner("routes", "r", "key-"), Authn: anyOf([]string{"key"})}, anyOf: [][]int{nil}, closed: true},
		{name: "anonymous", in: chain.Input{Settings: owner("settings", "s", "key"), Route: owner("routes", "r", "basic!"), Authn: &configv1.Authn{Anonymous: "guest"}}, want: []string{"s:key/key", "r:basic/basic"}},
		{name: "anonymous does not open what is locked above", in: chain.Input{Settings: owner("settings", "s", "key!"), Authn: &configv1.Authn{Anonymous: "guest"}}, want: []string{"s:key/key"}, closed: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := chain.Effective(lookup, tt.in)
			if diff := cmp.Diff(tt.want, dump(got)); diff != "" {
				t.Errorf("Effective() (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.anyOf, got.AnyOf); diff != "" {
				t.Errorf("AnyOf (-want +got):\n%s", diff)
			}
			if (got.Closed() != "") != tt.closed {
				t.Errorf("Closed() = %q, want closed: %v", got.Closed(), tt.closed)
			}
		})
	}
}

// No binding of a narrower level weakens a policy of which every level applies: whatever is added below, the enabled
// bindings of an ALL type that were there still apply, enforced as before.
func TestNoBindingWeakensAnAllPolicy(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	types := []string{"ip", "acl", "key", "basic", "limit", "cors", "waf"}
	random := func(kind, name string) *chain.Owner {
		var bs []string
		for i := range rng.IntN(4) {
			b := types[rng.IntN(len(types))]
			if rng.IntN(2) == 0 {
				b += fmt.Sprintf("/n%d", i)
			}
			for _, flag := range []string{"-", "!", "?"} {
				if rng.IntN(4) == 0 {
					b += flag
				}
			}
			bs = append(bs, b)
		}
		return owner(kind, name, bs...)
	}
	for range 4000 {
		in := chain.Input{Settings: random("settings", "s")}
		before := chain.Effective(lookup, in)
		steps := []func(){
			func() { in.Service = random("services", "v") },
			func() { in.Route = random("routes", "r") },
			func() { in.Groups = []*chain.Owner{random("consumer-groups", "silver")} },
			func() { in.Groups = []*chain.Owner{random("consumer-groups", "gold"), in.Groups[0]} },
			func() { in.Consumer = random("consumers", "c") },
		}
		for i, step := range steps {
			step()
			after := chain.Effective(lookup, in)
			stillThere(t, before, after, i)
			before = after
		}
	}
}

func stillThere(t *testing.T, before, after chain.Chain, step int) {
	t.Helper()
	if before.Closed() != "" && after.Closed() == "" {
		t.Fatalf("step %d opens a chain that was closed: %s", step, before.Closed())
	}
	for _, l := range before.Links {
		if opt := lookup(l.Type); !l.Applies() || opt.GetCombine() != optionsv1.Combine_COMBINE_ALL && !l.Binding.GetLocked() {
			continue
		}
		same := func(o chain.Link) bool { return o.Binding == l.Binding && o.Phase == l.Phase && o.Applies() }
		if !slices.ContainsFunc(after.Links, same) {
			t.Fatalf("step %d: %s:%s/%s does not apply any more\nbefore %v\nafter %v", step, l.OwnerName, l.Type, l.Name, dump(before), dump(after))
		}
	}
}

// Phases and places of links do not depend on what is suppressed, so the part that runs before the caller is known is
// the same with and without a caller.
func TestCallerDoesNotChangeWhatRunsBefore(t *testing.T) {
	t.Parallel()
	in := chain.Input{Settings: owner("settings", "s", "ip", "key", "limit"), Route: owner("routes", "r", "ip", "cors")}
	before := chain.Effective(lookup, in)
	in.Groups = []*chain.Owner{owner("consumer-groups", "gold", "ip", "limit")}
	in.Consumer = owner("consumers", "c", "ip-", "limit-", "acl")
	after := chain.Effective(lookup, in)
	early := func(c chain.Chain) []string {
		var out []string
		for _, l := range c.Links {
			if l.Phase <= optionsv1.Phase_PHASE_AUTHN && l.Applies() {
				out = append(out, l.OwnerName+":"+l.Type)
			}
		}
		return out
	}
	if diff := cmp.Diff(early(before), early(after)); diff != "" {
		t.Errorf("links before authorisation (-without caller +with):\n%s", diff)
	}
}
