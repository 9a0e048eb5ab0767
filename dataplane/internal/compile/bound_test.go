package compile_test

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// owned is a certificate without its key, as the store has those of clients.
func owned(name string, current, next *certtest.Cert) statetest.Record {
	m := &configv1.Certificate{Name: name, Current: &configv1.CertificateVersion{Chain: current.PEM()}}
	if next != nil {
		m.Next = &configv1.CertificateVersion{Chain: next.PEM()}
	}
	return record(certs.Kind, "cert-"+name, name, m)
}

// twoKeys are a bound and a free key for routes that take keys, and for one that takes none.
func twoKeys(more ...statetest.Record) []statetest.Record {
	p, term := pepper(1)
	return append([]statetest.Record{
		p,
		record("settings", "set", "settings", &configv1.Settings{RequireHttps: new(false)}),
		record("services", "svc", "hello", &configv1.Service{Name: "hello", Url: "http://127.0.0.1:9"}),
		record("routes", "r1", "keys", &configv1.Route{Name: "keys", Service: "hello", Hosts: []string{"a.test"}, Policies: []*configv1.Binding{keyAuth()}}),
		record("routes", "r2", "open", &configv1.Route{Name: "open", Service: "hello", Hosts: []string{"b.test"}}),
		record("consumers", "c1", "alice", &configv1.Consumer{Name: "alice"}),
		credential(term, "free", "alice", "free-key"),
		bound(credential(term, "k", "alice", "bound-key"), "laptop"),
	}, more...)
}

// TestBoundCredentialsNeedTheirCertificate presents keys with certificates of all sorts, while the certificate is renewed, and
// gone: admission does not let that happen, and it must not open anything.
func TestBoundCredentialsNeedTheirCertificate(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	first, second, other := ca.Issue(t, "laptop"), ca.Issue(t, "laptop"), ca.Issue(t, "other")
	expired := ca.Issue(t, "laptop", certtest.Valid(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
	_, term := pepper(1)
	byID := bound(credential(term, "k", "alice", "bound-key"), first.ID())
	either := bound(credential(term, "k", "alice", "bound-key"), "laptop", "desk")
	for _, tt := range []struct {
		name    string
		records []statetest.Record
		key     string
		cert    *certtest.Cert
		want    int
	}{
		{"its certificate", twoKeys(owned("laptop", first, nil)), "bound-key", first, 200},
		{"none", twoKeys(owned("laptop", first, nil)), "bound-key", nil, 401},
		{"another", twoKeys(owned("laptop", first, nil)), "bound-key", other, 401},
		{"of the same name", twoKeys(owned("laptop", first, nil)), "bound-key", second, 401},
		{"before it is in use", twoKeys(owned("laptop", first, second)), "bound-key", second, 200},
		{"after it was in use", twoKeys(owned("laptop", second, nil)), "bound-key", first, 401},
		{"expired", twoKeys(owned("laptop", expired, nil)), "bound-key", expired, 401},
		{"that cannot be read", twoKeys(record(certs.Kind, "cert-laptop", "laptop", nil)), "bound-key", first, 401},
		{"that is not there", twoKeys(), "bound-key", first, 401},
		{"by its id", append(twoKeys()[:7], byID), "bound-key", first, 200},
		{"by the id of another", append(twoKeys()[:7], byID), "bound-key", second, 401},
		{"one of two", append(twoKeys()[:7], either, owned("desk", second, nil), owned("laptop", first, nil)), "bound-key", second, 200},
		{"neither of two", append(twoKeys()[:7], either, owned("desk", second, nil), owned("laptop", first, nil)), "bound-key", other, 401},
		{"a key that is bound to none", twoKeys(owned("laptop", first, nil)), "free-key", nil, 200},
		{"a key that is bound to none, with one", twoKeys(owned("laptop", first, nil)), "free-key", other, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rt, _ := build(t, tt.records...)
			if got := decide(rt, call{host: "a.test", path: "/", ip: "192.0.2.1", key: tt.key, cert: tt.cert}); got.status != tt.want {
				t.Errorf("%+v, want %d", got, tt.want)
			}
		})
	}
}

// TestBoundCredentialsAskForCertificates looks at what connections are asked for as the first bound credential comes and the last
// one goes.
func TestBoundCredentialsAskForCertificates(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	demanding := record("routes", "r3", "partners", &configv1.Route{
		Name: "partners", Service: "hello", Hosts: []string{"c.test"}, Policies: []*configv1.Binding{keyAuth()},
		ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"ca"}},
	})
	either := record("routes", "r4", "either", &configv1.Route{
		Name: "either", Service: "hello", Hosts: []string{"d.test"}, Policies: []*configv1.Binding{keyAuth(), mtlsAuth("ca")},
		Authn: &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{"key-auth"}}, {Bindings: []string{"mtls-auth"}}}},
	})
	all := twoKeys(owned("laptop", ca.Issue(t, "laptop"), nil), demanding, either,
		record(certs.KindCA, "ca", "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}))
	without := slices.Delete(slices.Clone(all), 7, 8)
	type needs map[string][]string
	tied := needs{"a.test": {"?*"}, "c.test": {",ca"}, "d.test": {"?*,ca"}}
	untied := needs{"c.test": {",ca"}, "d.test": {"?,ca"}}
	rt, _ := build(t, without...)
	for i, step := range []struct {
		records []statetest.Record
		want    needs
	}{{without, untied}, {all, tied}, {without, untied}, {all, tied}} {
		rt, _ = newCompiler().Build(statetest.Set(t, step.records...), rt)
		got := needs{}
		for _, host := range []string{"a.test", "b.test", "c.test", "d.test"} {
			keys, _ := rt.Table.Needs([]byte(host))
			if len(keys) > 0 {
				got[host] = keys
			}
			for _, key := range keys {
				if c, ok := rt.Clients.Get(key); !ok || (c.Policy.Authorities() == nil) != (key[:2] == "?*") {
					t.Errorf("step %d: clients of %s are told the wrong authorities", i, host)
				}
			}
		}
		if diff := gocmp.Diff(step.want, got); diff != "" {
			t.Errorf("step %d: needs (-want +got):\n%s", i, diff)
		}
	}
}
