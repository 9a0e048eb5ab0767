package scenario_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/vaulttest"
)

// tenantsVault is a real Vault with what a tenant keeps there, and how its providers say where it is.
func tenantsVault(t *testing.T) (v *vaulttest.Server, token, place string) {
	t.Helper()
	v = vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("sys/mounts/pki", map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "24h"}})
	v.Write("pki/root/generate/internal", map[string]any{"common_name": "root", "ttl": "24h"})
	v.Write("pki/roles/web", map[string]any{"allow_any_name": true, "key_type": "ec", "key_bits": 256, "ttl": "90s"})
	v.Write("sys/policies/acl/tenant", map[string]any{"policy": `
path "kv/data/shop/*" { capabilities = ["read"] }
path "pki/issue/web" { capabilities = ["update"] }`})
	ca, err := os.ReadFile(v.CA)
	if err != nil {
		t.Fatal(err)
	}
	token = v.Issue("tenant", time.Hour, time.Hour)
	place = fmt.Sprintf("ca-certificates: [{name: vault, certificates: %q}]\n", ca)
	return v, token, place
}

// TestATenantBringsAVaultOfItsOwn reads from it, has certificates issued, and looks for the token everywhere: where gateways
// are sent everything, too, as changes and whole.
func TestATenantBringsAVaultOfItsOwn(t *testing.T) {
	t.Parallel()
	v, token, place := tenantsVault(t)
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--tenant-networks", "127.0.0.1/32"}})
	addr, ca := testkit.Addr(t), certtest.CA(t, "shop")
	r := &referred{t: t, c: c, addr: addr, ca: ca}
	leaf, text := r.issue()
	v.Write("kv/data/shop/tls", map[string]any{"data": map[string]any{"pem": text}})
	conn, early := c.Dial(c.Join(c.JoinToken("default", 1)))
	first := c.OpenStream(conn)
	r.g = c.StartGateway("default", "--listen", "https="+addr)
	provider := fmt.Sprintf(`secret-providers:
  - {name: own, vault: {address: %q, mount: kv, prefix: shop, token: %q, ca: vault}, refresh: 30s}
  - {name: issuer, vault: {address: %q, mount: pki, pki_role: web, token: %q, ca: vault}, refresh: 30s}
`, v.Address, token, v.Address, token)
	c.Apply(place + provider + referredDocument("{vault://own/tls#pem}", harness.Echo(t)))
	r.awaitShown(leaf, 10*time.Second)
	revision := c.Apply("group: default\ncertificates: [{name: issued, snis: [issued.test], current: {private_key: \"{vault://issuer/web}\"}}]\n")
	r.g.AwaitRevision(revision)
	var issued string
	testkit.Await(t, 10*time.Second, func() error {
		issued = string(c.REST(http.MethodGet, "/v1/groups/default/certificates/issued", "").Body)
		if !strings.Contains(issued, `"issued.test"`) || !strings.Contains(issued, "not_after") {
			return errors.New("nothing was issued: " + issued)
		}
		return nil
	})
	kept(t, c)
	c.Restart(c.Replicas[0]) // and all is read from the database
	c.Replicas[0].AwaitReady()
	r.g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: later}]\n"))
	if err := r.shows(leaf); err != nil {
		t.Error(err)
	}
	conn, late := c.Dial(c.Join(c.JoinToken("default", 1)))
	second := c.OpenStream(conn)
	testkit.Await(t, 10*time.Second, func() error {
		if first.Revision() < revision || second.Revision() < revision {
			return errors.New("not all was sent yet")
		}
		return nil
	})
	for when, received := range map[string]*harness.Received{"as changes": early, "whole": late} {
		if received.Contains(token) || received.Contains(v.Address) || !received.Contains("secret-providers") {
			t.Errorf("what gateways are sent %s has the token or the address of a provider, or nothing of it", when)
		}
	}
	where := c.Tables()
	for _, path := range []string{"/secret-providers", "/secret-providers/own", ":export", "/audit-events", "/revisions"} {
		where = append(where, c.REST(http.MethodGet, "/v1/groups/default"+path, "").Body)
	}
	where = append(where, c.Replicas[0].Output(), r.g.Output(), []byte(c.MustCLI("", "get", "secret-providers", "-o", "yaml")))
	for _, text := range where {
		mustNotHold(t, "a table, an answer or a log", text, token)
	}
}

// kept looks at what a provider says of itself, and that it stays while it is used and keeps its token where it is.
func kept(t *testing.T, c *harness.Cluster) {
	t.Helper()
	const own = "/v1/groups/default/secret-providers/own"
	if a := c.REST(http.MethodGet, own, ""); !strings.Contains(string(a.Body), `"certificates/shop"`) || !strings.Contains(string(a.Body), `"set": true`) {
		t.Errorf("it is answered as %s", a.Body)
	}
	if a := c.REST(http.MethodDelete, own, ""); a.Status != http.StatusConflict || !strings.Contains(string(a.Body), "certificates/shop") {
		t.Errorf("it is deleted while it is used: %d %s", a.Status, a.Body)
	}
	merge := []string{"Content-Type", "application/merge-patch+json"}
	a := c.REST(http.MethodPatch, own, `{"vault": {"address": "https://198.51.100.1:8200"}}`, merge...)
	if a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "give it again") {
		t.Errorf("its token is sent elsewhere: %d %s", a.Status, a.Body)
	}
	if a := c.REST(http.MethodPatch, own, `{"description": "ours"}`, merge...); a.Status != http.StatusOK {
		t.Errorf("described: %d %s", a.Status, a.Body)
	}
}

// TestATenantReachesNothingOfTheControlPlane has this control plane's settings as they are by default: the same provider finds
// nobody, and whatever else a document can name is refused.
func TestATenantReachesNothingOfTheControlPlane(t *testing.T) {
	t.Parallel()
	v, token, place := tenantsVault(t)
	root := t.TempDir()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--secret-provider", "mounted=file:" + root + "?groups=platform"}})
	v.Write("kv/data/shop/tls", map[string]any{"data": map[string]any{"pem": "x"}})
	provider := fmt.Sprintf("secret-providers: [{name: own, vault: {address: %q, mount: kv, prefix: shop, token: %q, ca: vault}}]\n", v.Address, token)
	c.Apply("group: default\n" + place + provider + "certificates: [{name: shop, snis: [shop.test], current: {private_key: \"{vault://own/tls#pem}\"}}]\n")
	c.Replicas[0].AwaitOutput(10*time.Second, "address denied")
	if metrics := c.Rows("select count(*) from resources where kind = 'resolved-secrets'"); metrics[0][0] != "0" {
		t.Error("something was read")
	}
	for name, fields := range map[string]string{
		"a file":                  `{name: x, file: {root: /etc}}`,
		"the environment":         `{name: x, env: {prefix: KEYWARD_}}`,
		"a service account":       `{name: x, vault: {address: "https://v.test", mount: kv, kubernetes: {role: x}}}`,
		"a token from a file":     `{name: x, vault: {address: "https://v.test", mount: kv, token_file: /etc/passwd}}`,
		"a token from a variable": `{name: x, vault: {address: "https://v.test", mount: kv, token: "{env://x/KEYWARD_KEK}"}}`,
		"a CA from a file":        `{name: x, vault: {address: "https://v.test", mount: kv, token: t, ca: /etc/ssl/ca.pem}}`,
		"a socket":                `{name: x, vault: {address: "unix:///run/x.sock", mount: kv, token: t}}`,
		"without TLS":             `{name: x, vault: {address: "http://v.test", mount: kv, token: t}}`,
		"a path past the mount":   `{name: x, vault: {address: "https://v.test", mount: "kv/../sys", token: t}}`,
		"the instance's role":     `{name: x, aws: {region: eu-central-1}}`,
		"metadata as a service":   `{name: x, aws: {region: eu-central-1, access_key_id: A, secret_access_key: s, endpoint: "http://169.254.169.254"}}`,
		"a region with a host":    `{name: x, aws: {region: "eu-central-1.evil.test", access_key_id: A, secret_access_key: s}}`,
	} {
		if a := c.REST(http.MethodPost, "/v1/groups/default:apply", "secret-providers: ["+fields+"]"); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	for _, reference := range []string{"{file://mounted/x.pem}", "{file://own/etc/passwd}", "{env://own/KEYWARD_KEK}", "{vault://own/../../sys/raw#x}"} {
		document := "certificates: [{name: x, current: {private_key: \"" + reference + "\"}}]"
		if a := c.REST(http.MethodPost, "/v1/groups/default:apply", document); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", reference, a.Status, a.Body)
		}
	}
}

// TestTheTextOfAReferenceIsNoKey sends one where an API key goes, after it was tried to be stored as one.
func TestTheTextOfAReferenceIsNoKey(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	const reference = "{vault://corp/shop/keys#alice-and-more}"
	document := withUpstream(harness.Nginx(t))
	stored := strings.ReplaceAll(document, "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY", reference)
	if stored == document {
		t.Fatal("the document has another key")
	}
	if a := c.REST(http.MethodPost, "/v1/groups/default:apply", stored); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "only a hash of it is kept") {
		t.Errorf("a reference as a key: %d %s", a.Status, a.Body)
	}
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(document))
	if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"); code != http.StatusOK {
		t.Fatalf("with the key: %d", code)
	}
	for _, key := range []string{reference, "{vault://corp/x}", "{env://pod/HOME}", "$secret://vault/1/x/y", "$env://MISSING", "vault://secret/x"} {
		if code, _ := g.Get(t, "hello.test", "/", "X-API-Key", key); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", key, code)
		}
	}
}
