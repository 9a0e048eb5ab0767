package compile_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// TestWhatAuthenticationAsksOfConnections binds mtls-auth on every level and looks at what connections are asked for, and by
// whom certificates are believed.
func TestWhatAuthenticationAsksOfConnections(t *testing.T) {
	t.Parallel()
	list := func(b ...*configv1.Binding) []*configv1.Binding { return b }
	byCA := &configv1.ClientCertificates{Ca: []string{"ca"}}
	off := mtlsAuth("ca")
	off.Enabled = new(false)
	for _, tt := range []struct {
		name     string
		settings *configv1.Settings
		service  *configv1.Service
		route    *configv1.Route
		needs    []string
		common   bool
		closed   bool
	}{
		{name: "nothing"},
		{name: "on the route", route: &configv1.Route{Policies: list(mtlsAuth("ca"))}, needs: []string{"?,ca"}, common: true},
		{name: "on the service", service: &configv1.Service{Policies: list(mtlsAuth("ca"))}, needs: []string{"?,ca"}, common: true},
		{name: "in the settings", settings: &configv1.Settings{Policies: list(mtlsAuth("ca"))}, needs: []string{"?,ca"}, common: true},
		{name: "switched off", route: &configv1.Route{Policies: list(off)}},
		{name: "two lists", route: &configv1.Route{Policies: list(mtlsAuth("ca"))}, service: &configv1.Service{Policies: list(mtlsAuth("also"))}, needs: []string{"?,also ca"}, common: true},
		{
			name: "beside a demand", service: &configv1.Service{ClientCertificates: byCA}, route: &configv1.Route{Policies: list(mtlsAuth("also"))},
			needs: []string{"?,also ca"}, common: true,
		},
		{
			name: "by a demand", service: &configv1.Service{ClientCertificates: byCA}, route: &configv1.Route{Policies: list(mtlsAuth())},
			needs: []string{",ca"}, common: true,
		},
		{name: "by nobody", route: &configv1.Route{Policies: list(mtlsAuth())}, closed: true},
		{
			name: "replaced by any_of", settings: &configv1.Settings{Policies: list(mtlsAuth("ca"))},
			route: &configv1.Route{Policies: list(keyAuth()), Authn: &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{"key-auth"}}}}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			records := []statetest.Record{}
			if tt.settings != nil {
				records = append(records, record("settings", "1", "settings", tt.settings))
			}
			service, route := cmp.Or(tt.service, &configv1.Service{}), cmp.Or(tt.route, &configv1.Route{})
			service.Name, service.Url = "s", "http://127.0.0.1:1"
			route.Name, route.Service, route.Hosts = "r", "s", []string{"a.test"}
			records = append(records, record("services", "2", "s", service), record("routes", "3", "r", route))
			rt, faults := build(t, records...)
			needs, common := rt.Table.Needs([]byte("a.test"))
			if diff := gocmp.Diff(tt.needs, needs); diff != "" || common != tt.common || (len(faults) > 0) != tt.closed {
				t.Errorf("common %v, faults %q, needs (-want +got):\n%s", common, faults, diff)
			}
			for _, key := range needs {
				if _, ok := rt.Clients.Get(key); !ok {
					t.Errorf("what %q comes to is not there", key)
				}
			}
			if r, _ := rt.Routes.Get("3"); (r.Closed != "") != tt.closed {
				t.Errorf("closed: %q", r.Closed)
			}
			gone, _ := newCompiler().Build(statetest.Set(t, slices.DeleteFunc(records, func(r statetest.Record) bool { return r.Kind == "routes" })...), rt)
			if n := gone.Clients.Len(); n > 0 {
				t.Errorf("%d demands outlive the route", n)
			}
		})
	}
}

// TestCredentialsNameCertificates has a certificate come by all that it says.
func TestCredentialsNameCertificates(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "ledger", certtest.Names("ledger.example"))
	for _, tt := range []struct {
		name   string
		config *credentialv1.MtlsAuth
		status int
		fault  bool
	}{
		{name: "fingerprint", config: fingerprint(leaf), status: 200},
		{name: "san", config: &credentialv1.MtlsAuth{Identity: &credentialv1.MtlsAuth_San{San: "DNS:ledger.example"}}, status: 200},
		{name: "subject", config: &credentialv1.MtlsAuth{Identity: &credentialv1.MtlsAuth_Subject{Subject: "CN=ledger"}}, status: 200},
		{name: "another", config: &credentialv1.MtlsAuth{Identity: &credentialv1.MtlsAuth_Subject{Subject: "CN=other"}}, status: 401},
		{name: "nothing", config: &credentialv1.MtlsAuth{}, status: 503, fault: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rt, faults := build(t, named("k", "c", tt.config),
				record("consumers", "u", "c", &configv1.Consumer{Name: "c"}),
				record(certs.KindCA, "a", "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}),
				record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"}),
				record("routes", "r", "r", &configv1.Route{Name: "r", Service: "s", Policies: []*configv1.Binding{mtlsAuth("ca")}}))
			if got := decide(rt, call{host: "a.test", path: "/", ip: "192.0.2.1", cert: leaf}); got.status != tt.status || (len(faults) > 0) != tt.fault {
				t.Errorf("%v, want %d; faults %q", got, tt.status, faults)
			}
		})
	}
}

// identified returns a decision about a certificate that a demand and a policy look at.
func identified(t testing.TB) func() {
	t.Helper()
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "other")
	leaf := ca.Issue(t, "leaf")
	rt, faults := build(t, named("k", "c", fingerprint(leaf)), record("consumers", "u", "c", &configv1.Consumer{Name: "c"}),
		record(certs.KindCA, "a", "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}),
		record(certs.KindCA, "b", "other", &configv1.CaCertificate{Name: "other", Certificates: other.PEM()}),
		record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"}),
		record("routes", "r", "r", &configv1.Route{
			Name: "r", Service: "s", Policies: []*configv1.Binding{mtlsAuth("ca")},
			ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"ca", "other"}},
		}))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	route, _ := rt.Routes.Get("r")
	shownBy := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf.Cert}})
	x, shown, now := &exchange.Exchange{}, &peer{rt, route, shownBy}, time.Now()
	return func() {
		x.Reset()
		x.Directory, x.Client = rt.Directory, shown
		if rt.Admits(route, shownBy, now) != nil || route.Chain.Request(x) != policy.Next || x.Principal.Consumer != "c" {
			t.Fatalf("refused: %d %s", x.Response.Status, x.Response.Body)
		}
	}
}
