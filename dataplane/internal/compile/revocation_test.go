package compile_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	known "keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestFetchedListsCount follows a client through lists that come, change and go, with nothing else changing.
func TestFetchedListsCount(t *testing.T) {
	t.Parallel()
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf")
	const url = "http://crl.test/ca.crl"
	authority := func(r *configv1.Revocation) statetest.Record {
		return record(certs.KindCA, "partners", "partners", &configv1.CaCertificate{Name: "partners", Certificates: ca.PEM(), Revocation: r})
	}
	fetched := func(under, of string, der []byte) statetest.Record {
		return record(known.Kind, "list", known.RecordName(under, url), &systemv1.RevocationList{Authority: of, Url: url, List: der})
	}
	block := func(der []byte) string { return certtest.Block("X509 CRL", der) }
	good, bad := ca.CRL(t, 1, nil), ca.CRL(t, 2, nil, leaf.Cert)
	urls := []string{url}
	soft := configv1.RevocationMode_REVOCATION_MODE_SOFT
	route := &configv1.Route{Name: "r", Service: "s", Hosts: []string{"a.test"}, ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"partners"}}}
	g := newGroup(t, authority(&configv1.Revocation{CrlUrls: urls}), record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"}),
		record("routes", "r", "r", route))
	for _, step := range []struct {
		name  string
		put   statetest.Record
		want  error
		fault bool
	}{
		{"not fetched yet", authority(&configv1.Revocation{CrlUrls: urls}), clientcert.ErrUnsure, true},
		{"which does not matter", authority(&configv1.Revocation{Mode: soft, CrlUrls: urls}), nil, false},
		{"or is not asked", authority(nil), nil, false},
		{"asked again", authority(&configv1.Revocation{CrlUrls: urls}), clientcert.ErrUnsure, true},
		{"fetched", fetched("partners", "partners", good), nil, false},
		{"revoked", fetched("partners", "partners", bad), clientcert.ErrRevoked, false},
		{"a newer one is given", authority(&configv1.Revocation{CrlUrls: urls, Crl: block(ca.CRL(t, 3, nil))}), nil, false},
		{"an older one is given", authority(&configv1.Revocation{CrlUrls: urls, Crl: block(good)}), clientcert.ErrRevoked, false},
		{"of another authority", fetched("partners", "partners", other.CRL(t, 4, nil)), nil, true},
		{"for another one", fetched("partners", "others", bad), nil, true},
		{"from elsewhere", authority(&configv1.Revocation{CrlUrls: []string{"http://crl.test/other.crl"}}), clientcert.ErrUnsure, true},
	} {
		g.put(step.put)
		clients, ok := g.rt.Clients.Get(",partners")
		if !ok {
			t.Fatalf("%s: nobody is demanded", step.name)
		}
		if _, err := clients.Policy.Verify([]*x509.Certificate{leaf.Cert}, time.Now()); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
		_, faults := newCompiler().Build(g.rt.Set, nil)
		if diff := cmp.Diff(faults, compile.Faults(g.rt)); diff != "" || len(faults) > 0 != step.fault {
			t.Errorf("%s: faults %v, want some: %v; of the whole set and of the change they differ (-whole +change):\n%s", step.name, faults, step.fault, diff)
		}
	}
}
