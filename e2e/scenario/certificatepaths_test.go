package scenario_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// awaitFault waits until the gateway's fault about a certificate is known to the control plane; an empty reason: there is none.
func awaitFault(t *testing.T, c *harness.Cluster, name, reason string) {
	t.Helper()
	testkit.Await(t, 20*time.Second, func() error {
		found := ""
		for _, g := range c.Gateways("default") {
			for _, f := range g.Faults {
				if f.Kind == "certificates" && f.Name == name {
					found += f.Reason
				}
			}
		}
		if (found == "") != (reason == "") || !strings.Contains(found, reason) {
			return fmt.Errorf("the faults of certificate %s are %q, want %q", name, found, reason)
		}
		return nil
	})
}

// TestACertificateInFilesOfTheGatewayIsFollowed exchanges a pair of files under traffic, one after the other, shows it to clients
// and to an upstream, and looks for the private key wherever it must not be.
func TestACertificateInFilesOfTheGatewayIsFollowed(t *testing.T) {
	t.Parallel()
	root, cache := t.TempDir(), t.TempDir()
	chain, key := filepath.Join(root, "shop.crt"), filepath.Join(root, "shop.key")
	r := &referred{t: t, addr: testkit.Addr(t), ca: certtest.CA(t, "authority")}
	var keys []string
	issue := func() *certtest.Cert {
		leaf := r.ca.Issue(t, "shop", certtest.Names("shop.test"))
		keys = append(keys, strings.Split(leaf.KeyPEM(t), "\n")[1])
		return leaf
	}
	server := r.ca.Issue(t, "ledger", certtest.Names("ledger.test"))
	ledger := harness.TLSNginx(t, server.PEM(), server.KeyPEM(t), r.ca.PEM())
	c := harness.New(t, harness.Options{Replicas: 1})
	r.c = c
	leaf := issue()
	writeFile(t, chain, leaf.ChainPEM())
	r.g = c.StartGateway("default", "--listen", "https="+r.addr, "--certificate-root", root,
		"--sealed-cache", cache, "--identity-dir", t.TempDir())
	document := fmt.Sprintf(`
certificates:
  - {name: shop, snis: [shop.test], current: {chain: "gateway:%s", private_key: "gateway:%s"}}
  - {name: outside, snis: [outside.test], current: "gateway:/etc/ssl/private/key.pem"}
routes: [{name: shop, service: ledger, hosts: [shop.test]}]
`, chain, key)
	c.Apply("group: default\ncertificates: [{name: shop, current: \"gateway:" + key + "\"}]\n" + believed("partners", r.ca) +
		upstreamTLS("ca: partners, client_certificate: shop", ledger))
	r.g.AwaitRevision(c.Apply("group: default\n" + document))
	awaitFault(t, c, "shop", "cannot be read")
	awaitFault(t, c, "outside", "--certificate-root")
	if err := r.shows(leaf); err == nil {
		t.Error("a certificate is shown whose private key is not there")
	}
	writeFile(t, key, leaf.KeyPEM(t))
	r.awaitShown(leaf, 10*time.Second)
	awaitFault(t, c, "shop", "")
	awaitAnswered(t, r.g, "CN=shop")
	r.begin()
	for range 2 {
		before := leaf
		leaf = issue()
		writeFile(t, chain, leaf.ChainPEM())
		r.g.AwaitMetric(t, "keyward_gateway_certificate_files_failing", 2) // and the one outside
		if err := r.shows(before); err != nil {
			t.Errorf("with half of a new pair: %v", err)
		}
		writeFile(t, key, leaf.KeyPEM(t))
		r.awaitShown(leaf, 10*time.Second)
	}
	r.g.AwaitMetric(t, `keyward_gateway_certificate_expires_timestamp_seconds{certificate="shop"}`, float64(leaf.Cert.NotAfter.Unix()))
	r.g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: later}]\n"))
	if err := r.shows(leaf); err != nil {
		t.Errorf("after another change: %v", err)
	}
	r.end()
	if list := c.MustCLI("", "certs", "list"); !strings.Contains(list, "known to gateways only") {
		t.Errorf("certs list says\n%s", list)
	}
	nowhere(t, c, keys, cache, r.g)
}

// nowhere looks for parts of private keys in what the API answers, the processes log, the database and the cache hold.
func nowhere(t *testing.T, c *harness.Cluster, keys []string, cache string, g *harness.Gateway) {
	t.Helper()
	where := map[string]string{"log of the gateway": string(g.Output()), "log of the control plane": string(c.Replicas[0].Output())}
	for _, path := range []string{"certificates/shop", "audit-events", "revisions"} {
		where[path] = string(c.REST(http.MethodGet, "/v1/groups/default/"+path, "").Body)
	}
	if !strings.Contains(where["certificates/shop"], "gateway:/") {
		t.Errorf("the certificate is answered as %s", where["certificates/shop"])
	}
	for _, table := range []string{"resources", "changes", "audit"} {
		for _, row := range c.Rows("select t::text from " + table + " t") {
			where[table] += row[0]
		}
	}
	err := filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		where[path] = string(b)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for name, text := range where {
		for _, key := range keys {
			if strings.Contains(text, key) || strings.Contains(text, hex.EncodeToString([]byte(key))) {
				t.Errorf("%s has a private key", name)
			}
		}
	}
}

// TestACertificateInFilesOfTheControlPlaneIsFollowed does it with a pair that the control plane reads, and has other groups and
// other files refused.
func TestACertificateInFilesOfTheControlPlaneIsFollowed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--certificate-root", fmt.Sprintf("%s?groups=default&refresh=%s", root, refresh)}})
	r := &referred{t: t, c: c, addr: testkit.Addr(t), ca: certtest.CA(t, "shop")}
	chain, key := filepath.Join(root, "shop.crt"), filepath.Join(root, "shop.key")
	mount := func() *certtest.Cert {
		leaf := r.ca.Issue(t, "shop", certtest.Names("shop.test"))
		writeFile(t, chain, leaf.ChainPEM())
		writeFile(t, key, leaf.KeyPEM(t))
		return leaf
	}
	leaf := mount()
	r.g = c.StartGateway("default", "--listen", "https="+r.addr)
	document := func(group, chain, key string) string {
		return fmt.Sprintf(`group: %s
certificates: [{name: shop, snis: [shop.test], current: {chain: %q, private_key: %q}}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: [shop.test]}]
`, group, chain, key, harness.Echo(t))
	}
	c.Apply(document("default", chain, key))
	r.awaitShown(leaf, 4*time.Second)
	r.begin()
	for range 2 {
		leaf = mount()
		r.awaitShown(leaf, refresh+4*time.Second)
	}
	if err := errors.Join(os.Remove(chain), os.Remove(key)); err != nil {
		t.Fatal(err)
	}
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_secret_references{group="default",state="failing"}`, 1)
	if err := r.shows(leaf); err != nil {
		t.Errorf("with the files gone: %v", err)
	}
	r.end()
	c.CreateGroup("tenant")
	for name, doc := range map[string]string{
		"another group": document("tenant", chain, key), "elsewhere": document("default", "/etc/ssl/a.pem", "/proc/self/environ"),
		"above": document("default", root+"/../a", root+"/../b"), "another folder": document("default", root+"x/a", root+"x/b"),
	} {
		group := "default"
		if name == "another group" {
			group = "tenant"
		}
		if a := c.REST(http.MethodPost, "/v1/groups/"+group+":apply", doc); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}
