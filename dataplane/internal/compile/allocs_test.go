//go:build !race

package compile_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// A whole decision — match, edge, authentication, authorisation, limit — allocates nothing once it is warm. The race
// detector makes pools drop what they are given, so it is not measured under it.
func TestDecisionDoesNotAllocate(t *testing.T) {
	_, decideOnce := busy(t, 100)
	if n := testing.AllocsPerRun(1000, decideOnce); n != 0 {
		t.Errorf("a decision makes %v allocations, want 0", n)
	}
}

// A client's certificate is looked at on every request, and costs a lookup.
func TestJudgingAClientDoesNotAllocate(t *testing.T) {
	ca := certtest.CA(t, "ca")
	rt, faults := build(t, record(certs.KindCA, "uid-ca", "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}),
		record("services", "uid-s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"}),
		record("routes", "uid-r", "r", &configv1.Route{Name: "r", Service: "s", ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"ca"}}}))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	route, _ := rt.Routes.Get("uid-r")
	peer, now := clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.Issue(t, "leaf").Cert}}), time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		if err := rt.Admits(route, peer, now); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("it makes %v allocations, want 0", n)
	}
}

// Nor does who it is.
func TestKnowingAClientDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(1000, identified(t)); n != 0 {
		t.Errorf("it makes %v allocations, want 0", n)
	}
}

// Nor does a key that is bound to a certificate.
func TestABoundCredentialDoesNotAllocate(t *testing.T) {
	leaf := certtest.CA(t, "ca").Issue(t, "laptop")
	rt, _ := build(t, twoKeys(owned("laptop", leaf, nil))...)
	route, _ := rt.Routes.Get("r1")
	x := &exchange.Exchange{}
	shown := &peer{rt, route, clientcert.NewPeer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf.Cert}})}
	field := exchange.Field("X-API-Key", "bound-key")
	if n := testing.AllocsPerRun(1000, func() {
		x.Reset()
		x.Directory, x.Client = rt.Directory, shown
		x.Request.Header.Add(field)
		if route.Chain.Request(x) != policy.Next || x.Principal.Credential != "k" {
			t.Fatalf("refused: %d %s", x.Response.Status, x.Response.Body)
		}
	}); n != 0 {
		t.Errorf("it makes %v allocations, want 0", n)
	}
}

// Nor does finding what applies to a caller whose groups a token says.
func TestGrantedGroupsDoNotAllocate(t *testing.T) {
	m := base()
	m["own"] = record("consumers", "own", "own", &configv1.Consumer{Name: "own", Policies: []*configv1.Binding{ips("10.0.0.0/8")}})
	rt, _ := build(t, list(m)...)
	r := routeNamed(rt, "guarded")
	for name, p := range map[string]*exchange.Principal{"of nobody": {}, "of a consumer": principal(rt, "own")} {
		p.Dynamic, p.Groups = true, []string{"x", "gold"}
		if n := testing.AllocsPerRun(1000, func() {
			if rt.Overlay(r, p).Closed != "" {
				t.Fatal("closed")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// Nor does a pair of tokens.
func TestAStoredPairDoesNotAllocate(t *testing.T) {
	rt, x := vaulted(t, 1000), &exchange.Exchange{}
	route, _ := rt.Routes.Get("r")
	access, secret := exchange.Field("access_token", "access-500"), exchange.Field("secret_token", "secret-500")
	if n := testing.AllocsPerRun(1000, func() {
		x.Reset()
		x.Directory = rt.Directory
		x.Request.Header.Add(access)
		x.Request.Header.Add(secret)
		if route.Chain.Request(x) != policy.Next {
			t.Fatalf("refused: %d %s", x.Response.Status, x.Response.Body)
		}
	}); n != 0 {
		t.Errorf("it makes %v allocations, want 0", n)
	}
}
