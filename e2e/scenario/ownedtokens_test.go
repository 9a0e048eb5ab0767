package scenario_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// owner is a client with a key of its own, with which it proves that tokens are its own (RFC 9449).
type owner struct {
	key   *ecdsa.PrivateKey
	jwk   map[string]any
	print string
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	key, jwk := newKey(t)
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, jwk["x"], jwk["y"]))
	return &owner{key, jwk, b64(sum[:])}
}

// proof is one that a token is the owner's, for a GET of a URL, now.
func (o *owner) proof(t *testing.T, url, token string, more map[string]any) string {
	t.Helper()
	hash := sha256.Sum256([]byte(token))
	claims := map[string]any{"jti": rand.Text(), "htm": "GET", "htu": url, "iat": time.Now().Unix(), "ath": b64(hash[:])}
	maps.Copy(claims, more)
	return signed(t, o.key, map[string]any{"typ": "dpop+jwt", "jwk": o.jwk}, claims)
}

// asked is what came of asking with header fields over TLS.
type asked struct {
	status           int
	nonce, challenge string
}

func askTLS(t *testing.T, d dialTLS, h2 bool, fields ...string) asked {
	t.Helper()
	got, err := tryTLS(t, d, h2, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryTLS(t *testing.T, d dialTLS, h2 bool, fields ...string) (asked, error) {
	t.Helper()
	tr := d.transport(h2)
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+d.sni+"/v1?x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return asked{}, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return asked{resp.StatusCode, resp.Header.Get("DPoP-Nonce"), strings.Join(resp.Header.Values("WWW-Authenticate"), ", ")}, nil
}

// TestTokensThatAreTheirOwners has tokens come that are bound to keys and to certificates, and some that count once, to two
// gateways that fetch the issuer's keys from a host of a private authority.
func TestTokensThatAreTheirOwners(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	ca, private, clients := certtest.CA(t, "shop"), certtest.CA(t, "private"), certtest.CA(t, "clients")
	id := private.Issue(t, "id", certtest.Template(func(x *x509.Certificate) { x.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }))
	p := newIdentityProvider(t, id)
	server := ca.Issue(t, "server", certtest.Names("proof.test", "nonce.test", "certificate.test", "once.test", "stranger.test"))
	policy := func(config string) string {
		return fmt.Sprintf(`[{type: jwt-auth, config: {issuers: [{name: id, issuer: %q, jwks_uri: "%s/jwks", ca: private, timeout: 2s}]%s}}]`, p.url, p.url, config)
	}
	document := fmt.Sprintf(`group: default
settings: {tls: {default_certificate: server}}
certificates: [{name: server, snis: [proof.test, nonce.test, certificate.test, once.test, stranger.test], current: %q}]
ca-certificates: [{name: private, certificates: %q}, {name: clients, certificates: %q}]
services: [{name: s, url: "http://%s"}]
routes:
  - {name: proof, service: s, hosts: proof.test, policies: %s}
  - {name: nonce, service: s, hosts: nonce.test, policies: %s}
  - {name: certificate, service: s, hosts: certificate.test, client_certificates: {ca: clients}, policies: %s}
  - {name: once, service: s, hosts: once.test, policies: %s}
  - {name: stranger, service: s, hosts: stranger.test, policies: %s}
`, server.PEM()+server.KeyPEM(t), private.PEM(), clients.PEM(), harness.Echo(t),
		policy(", dpop: required"), policy(", dpop: required, dpop_use_nonce: true"), policy(", mtls: required"), policy(", one_time: true"),
		strings.Replace(policy(""), "ca: private", "ca: clients", 1))
	var addrs [2]string
	revision := c.Apply(document)
	for i := range addrs {
		addrs[i] = testkit.Addr(t)
		c.StartGateway("default", "--listen", "https="+addrs[i]).AwaitRevision(revision)
	}
	at := func(gateway int, host string, client *certtest.Cert) dialTLS {
		return dialTLS{addr: addrs[gateway], sni: host, roots: poolOf(ca), client: client}
	}
	t.Run("proofs", func(t *testing.T) { testProofs(t, p, at) })
	t.Run("nonces", func(t *testing.T) { testNonces(t, p, at) })
	t.Run("certificates", func(t *testing.T) { testCertificateTokens(t, p, at, clients) })
	t.Run("once", func(t *testing.T) {
		bearer := "Bearer " + p.token(t, "", nil)
		for i, want := range []int{200, 401, 401} {
			if got := askTLS(t, at(0, "once.test", nil), i == 1, "Authorization", bearer); got.status != want {
				t.Errorf("request %d: %+v, want %d", i, got, want)
			}
		}
	})
	t.Run("keys of a host for which another authority would have to vouch", func(t *testing.T) {
		if got := askTLS(t, at(0, "stranger.test", nil), false, "Authorization", "Bearer "+p.token(t, "", nil)); got.status != 503 {
			t.Errorf("%+v, want 503", got)
		}
	})
}

type gatewayAt func(gateway int, host string, client *certtest.Cert) dialTLS

func testProofs(t *testing.T, p *identityProvider, at gatewayAt) {
	const url = "https://proof.test/v1"
	mine, other := newOwner(t), newOwner(t)
	token := p.token(t, "", map[string]any{"cnf": map[string]any{"jkt": mine.print}})
	for _, h2 := range []bool{false, true} {
		replayed := mine.proof(t, url, token, nil)
		for _, tt := range []struct {
			name, scheme, token, proof string
			want                       int
		}{
			{"its owner", "DPoP ", token, replayed, 200},
			{"the same proof again", "DPoP ", token, replayed, 401},
			{"another proof", "DPoP ", token, mine.proof(t, url, token, nil), 200},
			{"a thief without a proof", "Bearer ", token, "", 401},
			{"a thief with a key of its own", "DPoP ", token, other.proof(t, url, token, nil), 401},
			{"a proof for another host", "DPoP ", token, mine.proof(t, "https://nonce.test/v1", token, nil), 401},
			{"a proof for http", "DPoP ", token, mine.proof(t, "http://proof.test/v1", token, nil), 401},
			{"a proof for another method", "DPoP ", token, mine.proof(t, url, token, map[string]any{"htm": "POST"}), 401},
			{"a proof for another token", "DPoP ", token, mine.proof(t, url, "x", nil), 401},
			{"a proof of yesterday", "DPoP ", token, mine.proof(t, url, token, map[string]any{"iat": time.Now().Add(-24 * time.Hour).Unix()}), 401},
			{"a token of nobody's own", "DPoP ", p.token(t, "", nil), mine.proof(t, url, p.token(t, "", nil), nil), 401},
		} {
			fields := []string{"Authorization", tt.scheme + tt.token}
			if tt.proof != "" {
				fields = append(fields, "DPoP", tt.proof)
			}
			if got := askTLS(t, at(0, "proof.test", nil), h2, fields...); got.status != tt.want {
				t.Errorf("%s, h2 %t: %+v, want %d", tt.name, h2, got, tt.want)
			}
		}
	}
}

// testNonces does what RFC 9449 section 9 asks of clients: it tries, is given a nonce, and tries again, at the other gateway.
func testNonces(t *testing.T, p *identityProvider, at gatewayAt) {
	const url = "https://nonce.test/v1"
	mine := newOwner(t)
	token := p.token(t, "", map[string]any{"cnf": map[string]any{"jkt": mine.print}})
	ask := func(gateway int, nonce string) asked {
		claims := map[string]any{}
		if nonce != "" {
			claims["nonce"] = nonce
		}
		return askTLS(t, at(gateway, "nonce.test", nil), gateway == 1, "Authorization", "DPoP "+token, "DPoP", mine.proof(t, url, token, claims))
	}
	first := ask(0, "")
	if first.status != 401 || first.nonce == "" || !strings.Contains(first.challenge, `error="use_dpop_nonce"`) {
		t.Fatalf("without a nonce: %+v", first)
	}
	for gateway := range 2 {
		if got := ask(gateway, first.nonce); got.status != 200 {
			t.Errorf("gateway %d takes no nonce of gateway 0: %+v", gateway, got)
		}
		if got := ask(gateway, strings.ToLower(first.nonce)); got.status != 401 || got.nonce == "" {
			t.Errorf("gateway %d takes a made-up nonce: %+v", gateway, got)
		}
	}
}

func testCertificateTokens(t *testing.T, p *identityProvider, at gatewayAt, issuer *certtest.Cert) {
	mine, other, forged := issuer.Issue(t, "laptop"), issuer.Issue(t, "laptop"), certtest.CA(t, "clients").Issue(t, "laptop")
	bound := func(to *certtest.Cert) string {
		sum := sha256.Sum256(to.Cert.Raw)
		return "Bearer " + p.token(t, "", map[string]any{"cnf": map[string]any{"x5t#S256": b64(sum[:])}})
	}
	for _, h2 := range []bool{false, true} {
		for _, tt := range []struct {
			name   string
			token  string
			client *certtest.Cert
			want   int
		}{
			{"its owner", bound(mine), mine, 200},
			{"somebody with another certificate", bound(mine), other, 401},
			{"a token that is bound to nothing", "Bearer " + p.token(t, "", nil), mine, 401},
		} {
			if got := askTLS(t, at(1, "certificate.test", tt.client), h2, "Authorization", tt.token); got.status != tt.want {
				t.Errorf("%s, h2 %t: %+v, want %d", tt.name, h2, got, tt.want)
			}
		}
		for name, client := range map[string]*certtest.Cert{"without a certificate": nil, "with one of nobody's": forged} {
			if got, err := tryTLS(t, at(1, "certificate.test", client), h2, "Authorization", bound(mine)); err == nil {
				t.Errorf("%s, h2 %t: %+v, want no connection", name, h2, got)
			}
		}
	}
}
