package scenario_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// TestKeysBoundToCertificates has a key that was made for a certificate presented with and without it, while the certificate is
// renewed, over one connection and over new ones.
func TestKeysBoundToCertificates(t *testing.T) {
	t.Parallel()
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	ca, issuer := certtest.CA(t, "shop"), certtest.CA(t, "clients")
	server := ca.Issue(t, "server", certtest.Names("shop.test"))
	mine, renewed, other := issuer.Issue(t, "laptop"), issuer.Issue(t, "laptop"), issuer.Issue(t, "laptop")
	laptop := func(versions string) string {
		return fmt.Sprintf(`group: default
settings: {tls: {default_certificate: server}}
certificates:
  - {name: server, snis: [shop.test], current: %q}
  - {name: laptop, %s}
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: shop.test, policies: [{type: key-auth}]}]
consumers: [{name: alice}]
`, server.PEM()+server.KeyPEM(t), versions, harness.Echo(t))
	}
	g := c.StartGateway("default", "--listen", "https="+addr)
	c.Apply(laptop(fmt.Sprintf("current: %q", mine.PEM())))
	tied := strings.TrimSpace(c.MustCLI("", "credential", "generate", "alice", "tied-1", "--bound-certificate", "laptop"))
	free := strings.TrimSpace(c.MustCLI("", "credential", "generate", "alice", "free-1"))
	next := strings.TrimSpace(c.MustCLI("", "credential", "rotate", "alice", "tied-1"))

	before := dialTLS{addr: addr, sni: "shop.test", roots: poolOf(ca), client: mine}.transport(true)
	defer before.CloseIdleConnections()
	status := func(tr *http.Transport, key string, want int) func() error {
		return func() error {
			if got, err := statusOf(t.Context(), tr, "shop.test", key); err != nil || got != want {
				return fmt.Errorf("%d, %w, want %d", got, err, want)
			}
			return nil
		}
	}
	over := func(client *certtest.Cert, key string, want int) {
		t.Helper()
		for _, h2 := range []bool{false, true} {
			tr := dialTLS{addr: addr, sni: "shop.test", roots: poolOf(ca), client: client}.transport(h2)
			if err := status(tr, key, want)(); err != nil {
				t.Errorf("h2 %t: %v", h2, err)
			}
			tr.CloseIdleConnections()
		}
	}
	g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: alice, description: seen}]\n"))
	over(mine, tied, 200)
	over(mine, next, 200)
	over(other, tied, 401)
	over(nil, tied, 401)
	over(nil, next, 401)
	over(nil, free, 200)
	over(other, free, 200)
	if err := status(before, tied, 200)(); err != nil {
		t.Error(err)
	}
	g.AwaitRevision(c.Apply(laptop(fmt.Sprintf("current: %q, next: %q", mine.PEM(), renewed.PEM()))))
	over(renewed, tied, 200)
	g.AwaitRevision(c.Apply(laptop(fmt.Sprintf("current: %q", renewed.PEM()))))
	over(renewed, tied, 200)
	over(mine, tied, 401)
	if err := status(before, tied, 401)(); err != nil {
		t.Errorf("over a connection from before the certificate was renewed: %v", err)
	}
	if a := c.REST("DELETE", "/v1/groups/default/certificates/laptop", ""); a.Status != http.StatusConflict || !strings.Contains(string(a.Body), "credentials/alice/tied-1") {
		t.Errorf("deleting the certificate: %d %s", a.Status, a.Body)
	}
	if a := c.REST("GET", "/v1/groups/default/certificates/laptop", ""); !strings.Contains(strings.Join(strings.Fields(string(a.Body)), ""), `"used_by":["credentials/alice/tied-1","credentials/alice/tied-2"]`) {
		t.Errorf("its users: %s", a.Body)
	}
	c.MustCLI("", "delete", "credentials", "alice/tied-1")
	c.MustCLI("", "delete", "credentials", "alice/tied-2")
	g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: alice, description: free}]\n"))
	over(nil, free, 200)
}
