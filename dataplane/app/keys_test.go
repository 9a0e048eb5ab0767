package app_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/state/statetest"
	"keyward.dev/dataplane/internal/token/tokentest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

// The first configuration asks for keys before it is in force; they are fetched when it is, and not tried before.
func TestKeysAreFetchedOnceAConfigurationIsInForce(t *testing.T) {
	t.Parallel()
	keys := tokentest.Set(tokentest.NewKey(t, jwk.EdDSA, "k"))
	asked := make(chan struct{}, 8)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(keys)
		asked <- struct{}{}
	}))
	defer issuer.Close()
	g := start(t)
	records := group(t, "http://127.0.0.1:9")
	config := packed(&policyv1.JwtAuth{Issuers: []*policyv1.JwtIssuer{{Name: "i", Issuer: "i", JwksUri: issuer.URL}}})
	for n := range 200 { // which take a moment to compile
		name := "r" + strings.Repeat("x", n)
		records = append(records, statetest.Record{Kind: "routes", UID: name, Name: name, Resource: &configv1.Route{
			Name: name, Service: "hello", Hosts: []string{"keys.test"}, Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/" + name}}},
			Policies: []*configv1.Binding{{Type: "jwt-auth", Config: config}},
		}})
	}
	if faults := g.apply(records...); len(faults) > 0 {
		t.Fatal(faults)
	}
	<-asked
	if _, metrics := g.get(g.status, "/metrics", "", ""); !strings.Contains(metrics, `keyward_gateway_key_fetches_total{result="failed"} 0`) {
		t.Errorf("keys were tried too early: %s", metrics)
	}
}
