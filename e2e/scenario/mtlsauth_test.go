package scenario_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// TestConsumersByCertificate has consumers come with certificates of all sorts, alone, with a key and instead of one.
func TestConsumersByCertificate(t *testing.T) {
	t.Parallel()
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	ca, partners, others := certtest.CA(t, "shop"), certtest.CA(t, "partners"), certtest.CA(t, "others")
	leaf := ca.Issue(t, "server", certtest.Names("only.test", "both.test", "either.test", "gold.test"))
	named := func(issuer *certtest.Cert, cn string, sans ...string) *certtest.Cert {
		return issuer.Issue(t, cn, certtest.Template(func(x *x509.Certificate) {
			x.DNSNames = nil
			for _, san := range sans {
				u, err := url.Parse(san)
				if err != nil {
					t.Fatal(err)
				}
				x.URIs = append(x.URIs, u)
			}
		}))
	}
	clients := map[string]*certtest.Cert{
		"none": nil, "alice": named(partners, "x", "spiffe://acme/alice"), "forged": named(others, "x", "spiffe://acme/alice"),
		"bob": named(partners, "bob"), "carol": named(partners, "y"), "nobody": named(partners, "z"),
		"two": named(partners, "x", "spiffe://acme/alice", "spiffe://acme/dave"),
	}
	const aliceKey = "Zq7xV2mN9pL4tR8wB1cD5fG9"
	document := fmt.Sprintf(`group: default
settings: {tls: {default_certificate: server}}
certificates: [{name: server, snis: [only.test, both.test, either.test, gold.test], current: %q}]
ca-certificates: [{name: partners, certificates: %q}]
services: [{name: s, url: "http://%s"}]
routes:
  - {name: only, service: s, hosts: only.test, policies: [{type: mtls-auth, config: {ca: partners}}]}
  - {name: both, service: s, hosts: both.test, policies: [{type: mtls-auth, config: {ca: partners}}, {type: key-auth}]}
  - name: either
    service: s
    hosts: either.test
    authn: {any_of: [[mtls-auth], [key-auth]]}
    policies: [{type: mtls-auth, config: {ca: partners}}, {type: key-auth}]
  - name: gold
    service: s
    hosts: gold.test
    client_certificates: {ca: partners}
    policies: [{type: mtls-auth, config: {identify_by: san}}, {type: acl, config: {allow: [gold]}}]
consumers:
  - name: alice
    groups: [gold]
    credentials:
      - {name: cert, type: mtls-auth, config: {san: "URI:spiffe://ACME/alice"}}
      - {name: key, type: key-auth, config: {key: %s}}
  - {name: bob, credentials: [{name: cert, type: mtls-auth, config: {subject: "CN=bob"}}]}
  - {name: carol, credentials: [{name: cert, type: mtls-auth, config: {fingerprint: %s}}]}
  - {name: dave, groups: [gold], credentials: [{name: cert, type: mtls-auth, config: {san: "URI:spiffe://acme/dave"}}]}
`, leaf.PEM()+leaf.KeyPEM(t), partners.PEM(), harness.Echo(t), aliceKey, clients["carol"].ID())
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document))
	t.Run("all sorts", func(t *testing.T) {
		for _, tt := range []struct {
			host, who, key string
			want           int
		}{
			{"only.test", "alice", "", 200},
			{"only.test", "bob", "", 200},
			{"only.test", "carol", "", 200},
			{"only.test", "none", "", 401},
			{"only.test", "forged", "", 401},
			{"only.test", "nobody", "", 401},
			{"only.test", "two", "", 401},
			{"both.test", "alice", aliceKey, 200},
			{"both.test", "alice", "", 401},
			{"both.test", "bob", aliceKey, 401},
			{"both.test", "none", aliceKey, 401},
			{"either.test", "alice", "", 200},
			{"either.test", "none", aliceKey, 200},
			{"either.test", "forged", aliceKey, 200},
			{"either.test", "forged", "", 401},
			{"gold.test", "alice", "", 200},
			{"gold.test", "bob", "", 401}, // by what is not looked at
			{"gold.test", "two", "", 401},
		} {
			for _, h2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%s/h2=%v", tt.host, tt.who, tt.key, h2), func(t *testing.T) {
					t.Parallel()
					tr := dialTLS{addr: addr, sni: tt.host, roots: poolOf(ca), client: clients[tt.who]}.transport(h2)
					defer tr.CloseIdleConnections()
					if got, err := statusOf(t.Context(), tr, tt.host, tt.key); err != nil || got != tt.want {
						t.Errorf("%d, %v, want %d", got, err, tt.want)
					}
				})
			}
		}
	})
	g.AwaitMetric(t, "keyward_gateway_ambiguous_client_certificates_total", 4)
	t.Run("taken away", func(t *testing.T) {
		d := dialTLS{addr: addr, sni: "only.test", roots: poolOf(ca), client: clients["bob"], protocols: []string{"http/1.1"}}
		testTakenAway(t, c, g, d, strings.ReplaceAll(document, "CN=bob", "CN=robert"))
	})
}

// testTakenAway has the credential by which a client is known replaced beneath its connection.
func testTakenAway(t *testing.T, c *harness.Cluster, g *harness.Gateway, d dialTLS, without string) {
	conn, err := d.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
		if want == http.StatusUnauthorized {
			g.AwaitRevision(c.Apply(without))
		}
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+d.sni+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Errorf("answered %d, want %d", resp.StatusCode, want)
		}
	}
}

func statusOf(ctx context.Context, tr *http.Transport, host, key string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return 0, err
	}
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}
