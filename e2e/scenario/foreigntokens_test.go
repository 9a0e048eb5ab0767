package scenario_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// minted is a token of jose of npm with its public key, and a proof that it is its owner's.
type minted struct {
	Alg   string
	Key   json.RawMessage
	Token string
	Proof string
}

// TestTokensOfNpmJose has jose of npm mint a token and a proof for each algorithm, which a gateway takes with the key that goes
// with it, and with none of the others.
func TestTokensOfNpmJose(t *testing.T) {
	t.Parallel()
	place := harness.Tool(t, "jose")
	script := filepath.Join("..", "..", ".tools", "jose", "mint.mjs")
	const issuer = "https://id.test"
	out, err := exec.Command("node", script, place, issuer, strconv.FormatInt(time.Now().Unix(), 10), "https://jose.test/v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []minted
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 11 {
		t.Fatalf("%d tokens: %v", len(all), err)
	}
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	ca := certtest.CA(t, "shop")
	server := ca.Issue(t, "server", certtest.Names("jose.test"))
	document := fmt.Sprintf(`group: default
settings: {tls: {default_certificate: server}}
certificates: [{name: server, snis: [jose.test], current: %q}]
services: [{name: s, url: "http://%s"}]
routes:
`, server.PEM()+server.KeyPEM(t), harness.Echo(t))
	for _, m := range all {
		document += fmt.Sprintf(`  - name: %s
    service: s
    hosts: jose.test
    headers: [{name: X-Algorithm, exact: %s}]
    policies: [{type: jwt-auth, config: {issuers: [{name: id, issuer: %q, public_keys: %q}], algorithms: %s, audiences: api, dpop: required}}]
`, m.Alg, m.Alg, issuer, m.Key, m.Alg)
	}
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document))
	d := dialTLS{addr: addr, sni: "jose.test", roots: poolOf(ca)}
	for i, m := range all {
		other := all[(i+1)%len(all)]
		for _, tt := range []struct {
			name, token, proof string
			want               int
		}{
			{"another's token", other.Token, other.Proof, 401},
			{"another's proof", m.Token, other.Proof, 401},
			{"its own", m.Token, m.Proof, 200},
			{"again", m.Token, m.Proof, 401},
		} {
			got := askTLS(t, d, i%2 == 0, "X-Algorithm", m.Alg, "Authorization", "DPoP "+tt.token, "DPoP", tt.proof)
			if got.status != tt.want {
				t.Errorf("%s, %s: %+v, want %d", m.Alg, tt.name, got, tt.want)
			}
		}
	}
}
