package compile_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// TestStoresAreOpenedAgainWhenWhatTheyAreMadeFromChanges has a policy with a store whose password is kept elsewhere. Nothing is
// listening there: what holds then is the policy's matter, and not this one's.
func TestStoresAreOpenedAgainWhenWhatTheyAreMadeFromChanges(t *testing.T) {
	t.Parallel()
	const ref = "{vault://corp/redis#password}"
	built := 0
	factories := policies.All()
	for i := range factories {
		if real := factories[i].Build; factories[i].Type == "hmac-auth" {
			factories[i].Build = func(cfg proto.Message, d policy.Deps) (policy.Policy, error) {
				built++
				return real(cfg, d)
			}
		}
	}
	services := hostsvc.New(hostsvc.Config{})
	c := compile.New(compile.Deps{Factories: factories, Host: services, Log: slog.New(slog.DiscardHandler), Group: "g"})
	store := func(change func(*configv1.RedisStore)) statetest.Record {
		m := &configv1.RedisStore{
			Name: "nonces", Addresses: []string{"127.0.0.1:1"}, Password: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: ref}, Set: true},
			Tls: &configv1.RedisTls{Ca: []string{"partners"}},
		}
		change(m)
		return record("redis-stores", "store", "nonces", m)
	}
	same := func(*configv1.RedisStore) {}
	password := func(text string) statetest.Record {
		return record(certs.KindResolved, "value", certs.ValueName(ref), &systemv1.ResolvedSecret{Reference: ref, Value: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}})
	}
	authority := record(certs.KindCA, "ca", "partners", &configv1.CaCertificate{Name: "partners", Certificates: certtest.CA(t, "ca").PEM()})
	first, _ := pepper(1)
	second, _ := pepper(2)
	source, folder := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	put := func(r ...statetest.Record) []statetest.Record { return r }
	rt, _ := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	for _, step := range []struct {
		name   string
		put    []statetest.Record
		remove []statetest.Record
		again  bool   // the policy is built
		closed string // why the route is; empty: it is open
	}{
		{"without a store", put(
			record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"}),
			record("routes", "r", "r", &configv1.Route{Name: "r", Service: "s", Hosts: []string{"a.test"}, Policies: []*configv1.Binding{
				binding("hmac-auth", &policyv1.HmacAuth{ReplayStore: "nonces"}),
			}})), nil, true, "does not exist"},
		{"the store, whose password is not known", put(store(same)), nil, true, "has not been read yet"},
		{"the password", put(password("p")), nil, true, "CA certificate partners does not exist"},
		{"the authority", put(authority), nil, true, "pepper"},
		{"the pepper", put(first), nil, true, ""},
		{"something else", put(record("services", "t", "t", &configv1.Service{Name: "t", Url: "http://127.0.0.1:9"})), nil, false, ""},
		{"another term", put(second), nil, true, ""},
		{"another password", put(password("q")), nil, true, ""},
		{"another address", put(store(func(m *configv1.RedisStore) { m.Addresses[0] = "127.0.0.1:2" })), nil, true, ""},
		{"other networks", put(record("settings", "set", "settings", &configv1.Settings{UpstreamNetworks: &configv1.UpstreamNetworks{Deny: []string{"10.0.0.0/8"}}})), nil, true, ""},
		{"a mode of the future", put(store(func(m *configv1.RedisStore) { m.Mode = 9 })), nil, true, "know"},
		{"an account without a password", put(store(func(m *configv1.RedisStore) { m.Username, m.Password = "u", nil })), nil, true, "password required with username"},
		{"as it was", put(store(same)), nil, true, ""},
		{"the store goes", nil, put(statetest.Record{Kind: "redis-stores", UID: "store", Name: "nonces"}), true, "does not exist"},
	} {
		built = 0
		var faults []runtime.Fault
		rt, faults = c.Build(statetest.Fold(t, folder, source.Change(step.put, step.remove)), rt)
		if again := built > 0; again != step.again {
			t.Errorf("%s: built again is %v", step.name, again)
		}
		closed := routeNamed(rt, "r").Closed != ""
		if told := fmt.Sprint(faults); closed != (step.closed != "") || closed && !strings.Contains(told, step.closed) {
			t.Errorf("%s: closed is %v, and told is %s, want %q", step.name, closed, told, step.closed)
		}
	}
}
