package compile_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// perHour is a limit that answers tell by its number.
func perHour(limit uint64) *configv1.Binding {
	return binding("rate-limit", &policyv1.RateLimit{
		Windows: []*policyv1.RateLimitWindow{{Limit: limit, Window: durationpb.New(time.Hour)}},
	})
}

func changed(b *configv1.Binding, change func(*configv1.Binding)) *configv1.Binding {
	change(b)
	return b
}

func locked(b *configv1.Binding) { b.Locked = true }

func off(b *configv1.Binding) { b.Enabled = new(bool) }

func called(name string) func(*configv1.Binding) { return func(b *configv1.Binding) { b.Name = name } }

// TestPoliciesOfGrantedGroups: for callers whose groups a token or a directory says, the policies of consumer groups combine
// as for consumers who are configured with the groups.
func TestPoliciesOfGrantedGroups(t *testing.T) {
	t.Parallel()
	denies := binding("acl", &policyv1.Acl{Deny: []string{"banned"}})
	set := func(onRoute ...*configv1.Binding) []statetest.Record {
		group := func(name string, policies ...*configv1.Binding) statetest.Record {
			return record("consumer-groups", "g-"+name, name, &configv1.ConsumerGroup{Name: name, Policies: policies})
		}
		return []statetest.Record{
			record("settings", "set", "settings", &configv1.Settings{RequireHttps: new(false)}),
			record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://a.test"}),
			record("routes", "r", "r", &configv1.Route{Name: "r", Service: "s", Policies: onRoute}),
			group("gold", perHour(100)), group("silver", perHour(10)), group("careful", denies), group("free", changed(perHour(1), off)),
			group("strict", changed(perHour(3), locked)), group("extra", changed(perHour(7), called("extra"))),
			record("consumers", "c", "carol", &configv1.Consumer{Name: "carol", Groups: []string{"silver"}, Policies: []*configv1.Binding{perHour(5)}}),
		}
	}
	tests := []struct {
		name     string
		route    []*configv1.Binding
		consumer bool // carol
		groups   []string
		want     string // the RateLimit-Policy fields
		refused  bool
	}{
		{"no groups: the route's", []*configv1.Binding{perHour(50)}, false, nil, `"rate-limit";q=50;w=3600`, false},
		{"a group wins over the route", []*configv1.Binding{perHour(50)}, false, []string{"gold"}, `"rate-limit";q=100;w=3600`, false},
		{"the first listed wins", nil, false, []string{"silver", "gold"}, `"rate-limit";q=10;w=3600`, false},
		{"the first listed wins, the other way round", nil, false, []string{"gold", "silver"}, `"rate-limit";q=100;w=3600`, false},
		{"groups that carry nothing do not count", nil, false, []string{"unknown", "Domain Users", "silver"}, `"rate-limit";q=10;w=3600`, false},
		{"one that is off switches off", []*configv1.Binding{perHour(50)}, false, []string{"free"}, "", false},
		{"the route's is locked", []*configv1.Binding{changed(perHour(50), locked)}, false, []string{"gold"}, `"rate-limit";q=50;w=3600`, false},
		{"a wider group's is locked", nil, false, []string{"gold", "strict"}, `"rate-limit";q=3;w=3600`, false},
		{"other names add", nil, false, []string{"gold", "extra"}, `"rate-limit";q=100;w=3600 "extra";q=7;w=3600`, false},
		{"what can refuse applies of every group", nil, false, []string{"gold", "careful", "banned"}, "", true},
		{"what can refuse lets pass", nil, false, []string{"gold", "careful"}, `"rate-limit";q=100;w=3600`, false},
		{"the consumer's own wins", nil, true, []string{"gold"}, `"rate-limit";q=5;w=3600`, false},
		{"the consumer's own does not win over a lock", nil, true, []string{"strict"}, `"rate-limit";q=3;w=3600`, false},
		{"groups as configured do not count beside", nil, true, []string{"careful", "banned"}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rt, faults := build(t, set(tt.route...)...)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			x := &exchange.Exchange{Principal: &exchange.Principal{Kind: exchange.KindUser, Attributes: &exchange.Attributes{Subject: "s"}}, Directory: rt.Directory}
			if tt.consumer {
				x.Principal = principal(rt, "carol")
			}
			x.Principal.Dynamic, x.Principal.Groups = true, tt.groups
			x.Timings.Received = time.Now()
			o := rt.Overlay(routeNamed(rt, "r"), x.Principal)
			if o.Closed != "" {
				t.Fatal(o.Closed)
			}
			v := o.Chain.Request(x)
			policy.Unwind(x)
			if (v != policy.Next) != tt.refused {
				t.Fatalf("verdict %v, refusal %v", v, x.Refusal())
			}
			got := ""
			for f := range x.Response.Header.Values("RateLimit-Policy") {
				if got != "" {
					got = " " + got // responses unwind in reverse
				}
				got = string(f) + got
			}
			if !tt.refused && got != tt.want {
				t.Errorf("limits %q, want %q", got, tt.want)
			}
		})
	}
}
