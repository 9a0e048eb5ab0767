package compile_test

import (
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// TestSharedPoliciesAreTheirBindingsOwn has routes with equal policies in different company: what they share of them never lets
// pass what their own do not.
func TestSharedPoliciesAreTheirBindingsOwn(t *testing.T) {
	t.Parallel()
	term, key := pepper(1)
	route := func(name, service string, policies ...*configv1.Binding) statetest.Record {
		return record("routes", name, name, &configv1.Route{
			Name: name, Service: service, Hosts: []string{name + ".test"}, Paths: []*configv1.PathMatch{prefix("/")}, Policies: policies,
		})
	}
	service := func(name string, policies ...*configv1.Binding) statetest.Record {
		return record("services", name, name, &configv1.Service{Name: name, Url: "http://127.0.0.1:1", Policies: policies})
	}
	reported := acl("gold")
	reported.Mode = configv1.Mode_MODE_REPORT
	// What is one type's is not another's, though it is written with the same bytes.
	foreign := &configv1.Binding{Type: "acl", Config: &anypb.Any{TypeUrl: "type.googleapis.com/keyward.policy.v1.IpRestriction", Value: acl("gold").GetConfig().GetValue()}}
	records := []statetest.Record{
		term, credential(key, "k1", "alice", "gold-key"), credential(key, "k2", "bob", "no-key"),
		record("consumers", "alice", "alice", &configv1.Consumer{Name: "alice", Groups: []string{"gold"}}),
		record("consumers", "bob", "bob", &configv1.Consumer{Name: "bob"}),
		record("settings", "s", "settings", &configv1.Settings{Policies: []*configv1.Binding{keyAuth()}}),
		service("open"), service("inside", ips("10.0.0.0/8")),
		route("plain", "open"), route("gold", "open", acl("gold")), route("gold-too", "open", acl("gold")), route("silver", "open", acl("silver")),
		route("reported", "open", reported), route("foreign", "open", foreign),
		route("inside", "inside", acl("gold")), route("inside-too", "inside"), route("near", "open", acl("gold"), ips("127.0.0.0/8")),
	}
	rt, _ := newCompiler().Build(statetest.Set(t, records...), nil)
	for _, tt := range []struct {
		name, key, ip string
		want          int
	}{
		{"plain", "no-key", "127.0.0.1", 200},
		{"plain", "", "127.0.0.1", 401},
		{"gold", "gold-key", "127.0.0.1", 200},
		{"gold", "no-key", "127.0.0.1", 403},
		{"gold", "", "127.0.0.1", 401},
		{"gold-too", "gold-key", "127.0.0.1", 200},
		{"gold-too", "no-key", "127.0.0.1", 403},
		{"silver", "gold-key", "127.0.0.1", 403},
		{"reported", "no-key", "127.0.0.1", 200},
		{"foreign", "gold-key", "127.0.0.1", 503},
		{"inside", "gold-key", "127.0.0.1", 403},
		{"inside", "gold-key", "10.0.0.1", 200},
		{"inside", "no-key", "10.0.0.1", 403},
		{"inside", "", "10.0.0.1", 401},
		{"inside-too", "no-key", "127.0.0.1", 403},
		{"inside-too", "no-key", "10.0.0.1", 200},
		{"near", "gold-key", "10.0.0.1", 403},
		{"near", "gold-key", "127.0.0.1", 200},
	} {
		if got := decide(rt, call{host: tt.name + ".test", path: "/", key: tt.key, ip: tt.ip}); got.status != tt.want {
			t.Errorf("%s with key %q from %s: %d, want %d", tt.name, tt.key, tt.ip, got.status, tt.want)
		}
	}
}
