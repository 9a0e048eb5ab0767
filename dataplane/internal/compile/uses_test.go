package compile_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

type passing struct{}

func (passing) Request(*exchange.Exchange) policy.Verdict { return policy.Next }

// TestPoliciesAreBuiltAgainWhenWhatTheyAskedForChanges has a policy on every level that asks for an authority, a certificate and
// the networks, and one that asks for nothing.
func TestPoliciesAreBuiltAgainWhenWhatTheyAskedForChanges(t *testing.T) {
	t.Parallel()
	var built []string
	factories := policies.All()
	for i := range factories {
		switch factories[i].Type {
		case "ip-restriction":
			factories[i].Pure = false
			factories[i].Build = func(_ proto.Message, d policy.Deps) (policy.Policy, error) {
				authorities, err1 := d.Group.Authorities("partners")
				versions, err2 := d.Group.Certificate("signer")
				denied := d.Group.Egress() != nil
				built = append(built, d.Binding.OwnerKind)
				if err1 != nil || err2 != nil || !denied {
					return nil, fmt.Errorf("%w, %w, %v", err1, err2, denied)
				}
				if len(authorities) != 1 || versions[0].Key == nil {
					t.Errorf("%d authorities, key %v", len(authorities), versions[0].Key)
				}
				return passing{}, nil
			}
		case "cors":
			factories[i].Build = func(proto.Message, policy.Deps) (policy.Policy, error) {
				built = append(built, "cors")
				return passing{}, nil
			}
		}
	}
	c := compile.New(compile.Deps{Factories: factories, Host: hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler), Group: "g"})
	asks := []*configv1.Binding{ips("10.0.0.0/8")}
	source, folder := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	var records, gone []statetest.Record
	put := func(r ...statetest.Record) { records = append(records, r...) }
	remove := func(kind, uid, name string) { gone = append(gone, statetest.Record{Kind: kind, UID: uid, Name: name}) }
	put(record("settings", "set", "settings", &configv1.Settings{Policies: asks}),
		record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9", Policies: asks}),
		record("services", "plain", "plain", &configv1.Service{Name: "plain", Url: "http://127.0.0.1:9"}),
		record("routes", "r", "r", &configv1.Route{Name: "r", Service: "s", Hosts: []string{"a.test"}, Policies: asks}),
		record("consumers", "c", "c", &configv1.Consumer{Name: "c", Policies: asks}),
		record("consumer-groups", "g", "g", &configv1.ConsumerGroup{Name: "g", Policies: asks}),
		record(certs.KindCA, "ca", "partners", &configv1.CaCertificate{Name: "partners", Certificates: certtest.CA(t, "ca").PEM()}),
		certificate("signer", selfSigned(t, "signer")))
	source.Change(records, nil)
	rt, _ := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	everywhere := []string{"consumer-groups", "consumers", "routes", "services", "settings"}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"nothing", func() {}, nil},
		{"something else", func() {
			put(record("services", "plain", "plain", &configv1.Service{Name: "plain", Url: "http://127.0.0.1:10"}))
		}, nil},
		{"another authority", func() {
			put(record(certs.KindCA, "other", "other", &configv1.CaCertificate{Name: "other", Certificates: certtest.CA(t, "o").PEM()}))
		}, nil},
		{"the authority", func() {
			put(record(certs.KindCA, "ca", "partners", &configv1.CaCertificate{Name: "partners", Certificates: certtest.CA(t, "new").PEM()}))
		}, everywhere},
		{"the certificate", func() { put(certificate("signer", selfSigned(t, "signer"))) }, everywhere},
		{"the networks", func() {
			put(record("settings", "set", "settings", &configv1.Settings{Policies: asks, UpstreamNetworks: &configv1.UpstreamNetworks{Deny: []string{"10.0.0.0/8"}}}))
		}, everywhere},
		{"the authority goes", func() { remove(certs.KindCA, "ca", "partners") }, everywhere},
		{"the authority comes back", func() {
			put(record(certs.KindCA, "ca2", "partners", &configv1.CaCertificate{Name: "partners", Certificates: certtest.CA(t, "ca").PEM()}))
		}, everywhere},
		{"no policies any more", func() {
			put(record("consumers", "c", "c", &configv1.Consumer{Name: "c"}))
			remove("consumer-groups", "g", "g")
		}, nil},
		{"the authority once more", func() {
			put(record(certs.KindCA, "ca2", "partners", &configv1.CaCertificate{Name: "partners", Certificates: certtest.CA(t, "x").PEM()}))
		}, []string{"routes", "services", "settings"}},
	} {
		records, gone, built = nil, nil, nil
		step.change()
		next, faults := c.Build(statetest.Fold(t, folder, source.Change(records, gone)), rt)
		rt = next
		slices.Sort(built)
		if got := slices.Compact(built); !slices.Equal(got, step.want) {
			t.Errorf("%s: built on %v, want %v", step.name, got, step.want)
		}
		if lost := step.name == "the authority goes"; (len(faults) > 0) != lost || (routeNamed(rt, "r").Closed != "") != lost {
			t.Errorf("%s: faults %v, closed %q", step.name, faults, routeNamed(rt, "r").Closed)
		}
	}
	if keys := slices.Collect(maps.Keys(maps.Collect(rt.UsesOf.All()))); len(keys) != 3 {
		t.Errorf("what is kept of who uses what: %v", keys)
	}
}
