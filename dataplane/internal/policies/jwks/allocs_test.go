package jwks_test

import (
	"crypto/x509"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policies/jwks"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/jwk"
)

// group has one certificate.
type group struct {
	policy.Group
	version *certs.Version
}

func (g group) Versions(string) ([]*certs.Version, error) { return []*certs.Version{g.version}, nil }

func build(t testing.TB, cfg *policyv1.Jwks) (policy.Policy, error) {
	t.Helper()
	public := tokentest.NewKey(t, jwk.ES256, "k").Private().Public()
	g := group{version: &certs.Version{ID: "k", Chain: []*x509.Certificate{{PublicKey: public}}}}
	return jwks.Build(cfg, policy.Deps{Group: g})
}

func TestTheSetDoesNotAllocate(t *testing.T) {
	p, err := build(t, &policyv1.Jwks{Certificates: []string{"gateway", "again"}})
	if err != nil {
		t.Fatal(err)
	}
	c, x := policy.NewRoute([]policy.Link{{Policy: p}}, nil, nil), &exchange.Exchange{}
	pass := func() {
		x.Reset()
		x.Request.Method = append(x.Request.Method[:0], "GET"...)
		if c.Request(x); x.Response.Status != 200 {
			t.Fatal(x.Response.Status)
		}
	}
	pass()
	set, err := jwk.ParseSet(x.Response.Body)
	if err != nil || len(set.Keys) != 1 {
		t.Fatalf("%s: %v", x.Response.Body, err)
	}
	x.Request.Method = nil
	method := []byte("GET")
	if n := testing.AllocsPerRun(500, func() {
		x.Reset()
		x.Request.Method = method
		c.Request(x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBuildNeedsCertificates(t *testing.T) {
	if p, err := build(t, &policyv1.Jwks{}); err == nil {
		t.Errorf("Build() = %v", p)
	}
}
