package scenario_test

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/vaulttest"
)

// refresh is how often the sources of these tests are read, at the latest.
const refresh = 4 * time.Second

// referred is a listener whose certificate is kept elsewhere, and traffic to it.
type referred struct {
	t    *testing.T
	c    *harness.Cluster
	g    *harness.Gateway
	addr string
	ca   *certtest.Cert
	// roots verify what is shown, instead of ca.
	roots *x509.CertPool

	sent atomic.Int64
	stop chan struct{}
	done sync.WaitGroup
}

func referredDocument(reference, upstream string) string {
	return fmt.Sprintf(`group: default
certificates: [{name: shop, snis: [shop.test], current: {private_key: %q}}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: [shop.test]}]
`, reference, upstream)
}

// issue answers a new certificate, and it and its key as it is kept.
func (r *referred) issue() (*certtest.Cert, string) {
	leaf := r.ca.Issue(r.t, "shop", certtest.Names("shop.test"))
	return leaf, leaf.KeyPEM(r.t) + leaf.ChainPEM()
}

// shows reports whether new connections are shown a certificate.
func (r *referred) shows(want *certtest.Cert) error {
	conn, err := dialTLS{addr: r.addr, sni: "shop.test", roots: poolOf(r.ca)}.dial(r.t.Context())
	if err != nil {
		return err
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want.Cert) {
		return fmt.Errorf("%v is shown, want %v", got.SerialNumber, want.Cert.SerialNumber)
	}
	return nil
}

func (r *referred) awaitShown(want *certtest.Cert, within time.Duration) {
	r.t.Helper()
	begun := time.Now()
	testkit.Await(r.t, within, func() error { return r.shows(want) })
	r.t.Logf("shown after %v", time.Since(begun).Round(time.Millisecond))
}

// moveTo begins with a certificate that is given and moves to one that is kept elsewhere, without a failed request: as the next
// version it is read before it is shown.
func (r *referred) moveTo(reference, upstream string) {
	r.t.Helper()
	given, text := r.issue()
	r.g.AwaitRevision(r.c.Apply(strings.Replace(referredDocument(reference, upstream), "current: {", fmt.Sprintf("current: %q, next: {", text), 1)))
	if err := r.shows(given); err != nil {
		r.t.Fatal(err)
	}
	r.begin()
	r.c.Replicas[0].AwaitMetric(r.t, `keyward_controlplane_secret_references{group="default",state="resolved"}`, 1)
	if a := r.c.REST(http.MethodPost, "/v1/groups/default/certificates/shop:promote", ""); a.Status != http.StatusOK {
		r.t.Fatalf("promote: %d %s", a.Status, a.Body)
	}
}

// begin makes requests, each third on a new connection, until end.
func (r *referred) begin() {
	r.stop = make(chan struct{})
	for range 2 {
		d := dialTLS{addr: r.addr, sni: "shop.test", roots: r.roots}
		if r.roots == nil {
			d.roots = poolOf(r.ca)
		}
		tr := d.transport(false)
		r.done.Go(func() {
			defer tr.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-r.stop:
					return
				default:
				}
				if n%3 == 2 {
					tr.CloseIdleConnections()
				}
				if err := passes(r.t.Context(), tr, d.sni); err != nil {
					r.t.Errorf("a request under way: %v", err)
				}
				r.sent.Add(1)
			}
		})
	}
}

func (r *referred) end() {
	r.t.Helper()
	before := r.sent.Load()
	testkit.Await(r.t, 20*time.Second, func() error {
		if r.sent.Load() < before+20 {
			return errors.New("little traffic")
		}
		return nil
	})
	close(r.stop)
	r.done.Wait()
	r.t.Logf("%d requests", r.sent.Load())
}

// TestACertificateInAFileIsFollowed rotates it under traffic, takes it away, restarts the control plane meanwhile, and starts a
// gateway that has never seen it. Nothing of it can be read anywhere but on the gateway's wire.
func TestACertificateInAFileIsFollowed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{
		"--secret-provider", fmt.Sprintf("mounted=file:%s?groups=default,nobody&refresh=%s", root, refresh),
	}})
	r := &referred{t: t, c: c, addr: testkit.Addr(t), ca: certtest.CA(t, "shop")}
	path := filepath.Join(root, "shop.pem")
	var keys []string
	mount := func() *certtest.Cert {
		t.Helper()
		leaf, text := r.issue()
		keys = append(keys, strings.Split(leaf.KeyPEM(t), "\n")[1])
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	leaf, echo := mount(), harness.Echo(t)
	r.g = c.StartGateway("default", "--listen", "https="+r.addr)
	r.moveTo("{file://mounted/shop.pem}", echo)
	r.awaitShown(leaf, 2*time.Second) // it was read at once, not with the next refresh
	for range 2 {
		leaf = mount()
		r.awaitShown(leaf, refresh+3*time.Second)
	}
	for i := range c.Replicas {
		c.Replicas[i].AwaitMetric(t, `keyward_controlplane_secret_references{group="default",state="resolved"}`, 1)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_secret_references{group="default",state="failing"}`, 1)
	for _, replica := range c.Replicas {
		c.Restart(replica)
	}
	for _, replica := range c.Replicas {
		replica.AwaitReady()
	}
	r.g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: later}]\n"))
	late := &referred{t: t, c: c, addr: testkit.Addr(t), ca: r.ca}
	late.g = c.StartGateway("default", "--listen", "https="+late.addr)
	if err := errors.Join(r.shows(leaf), late.shows(leaf)); err != nil {
		t.Errorf("with the file gone: %v", err)
	}
	leaf = mount()
	r.awaitShown(leaf, refresh+3*time.Second)
	late.awaitShown(leaf, 2*time.Second)
	r.end()
	hidden(t, c, keys, late.g, r.g)
}

// hidden looks for parts of keys in what the API answers, the processes log and the database holds.
func hidden(t *testing.T, c *harness.Cluster, keys []string, gateways ...*harness.Gateway) {
	t.Helper()
	where := map[string]string{}
	for _, path := range []string{
		"/v1/groups/default/certificates", "/v1/groups/default/certificates/shop", "/v1/groups/default:export",
		"/v1/groups/default/audit-events", "/v1/groups/default/revisions",
	} {
		where[path] = string(c.REST(http.MethodGet, path, "").Body)
	}
	if !strings.Contains(where["/v1/groups/default/certificates/shop"], "{file://mounted/shop.pem}") ||
		!strings.Contains(where["/v1/groups/default/certificates/shop"], "not_after") {
		t.Errorf("the certificate is answered as %s, want its reference and what was read", where["/v1/groups/default/certificates/shop"])
	}
	if strings.Contains(where["/v1/groups/default:export"], "resolved") {
		t.Error("an export has what was read")
	}
	if audited := where["/v1/groups/default/audit-events"]; strings.Count(audited, "certificates/shop: read") != len(keys) { // and not once for each reading
		t.Errorf("%d values are in the audit trail as %s", len(keys), audited)
	}
	for i, r := range c.Replicas {
		where[fmt.Sprint("log of replica ", i)] = string(r.Output())
	}
	for i, g := range gateways {
		where[fmt.Sprint("log of gateway ", i)] = string(g.Output())
	}
	for _, table := range []string{"resources", "changes", "audit"} {
		for _, row := range c.Rows("select t::text from " + table + " t") {
			where[table] += row[0]
		}
	}
	for name, text := range where {
		for _, key := range keys {
			if strings.Contains(text, key) || strings.Contains(text, hex.EncodeToString([]byte(key))) { // as columns of bytes are read
				t.Errorf("%s has a private key", name)
			}
		}
	}
}

// TestACertificateInVaultIsFollowed does it with a real one, which is sealed and killed meanwhile.
func TestACertificateInVaultIsFollowed(t *testing.T) {
	t.Parallel()
	v := vaulttest.Start(t)
	v.Write("sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]any{"version": "2"}})
	v.Write("sys/policies/acl/reader", map[string]any{"policy": `path "kv/data/gateways/*" { capabilities = ["read"] }`})
	role, secretID := v.AppRole("reader", 3*time.Second, time.Hour)
	file := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(file, []byte(secretID), 0o600); err != nil {
		t.Fatal(err)
	}
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--secret-provider", fmt.Sprintf(
		"corp=vault:%s/kv?prefix=gateways&groups=default&refresh=%s&ca=%s&auth=approle&role-id=%s&secret-id-file=%s",
		v.Address, refresh, v.CA, role, file)}})
	r := &referred{t: t, c: c, addr: testkit.Addr(t), ca: certtest.CA(t, "shop")}
	put := func() *certtest.Cert {
		leaf, text := r.issue()
		v.Write("kv/data/gateways/shop/tls", map[string]any{"data": map[string]any{"pem": text}})
		return leaf
	}
	leaf, echo := put(), harness.Echo(t)
	r.g = c.StartGateway("default", "--listen", "https="+r.addr)
	c.Apply(referredDocument("{vault://corp/shop/tls#pem}", echo))
	r.awaitShown(leaf, 4*time.Second)
	r.begin()
	leaf = put()
	r.awaitShown(leaf, refresh+4*time.Second)
	for _, phase := range []struct {
		name       string
		down, back func()
	}{{"sealed", v.Seal, v.Unseal}, {"killed", v.Stop, func() { v.Restart(); v.Unseal() }}} {
		phase.down()
		c.Replicas[0].AwaitMetric(t, `keyward_controlplane_secret_references{group="default",state="failing"}`, 1)
		c.Restart(c.Replicas[0])
		c.Replicas[0].AwaitReady() // which does not wait for Vault
		r.g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: while-" + phase.name + "}]\n"))
		if err := r.shows(leaf); err != nil {
			t.Errorf("while Vault is %s: %v", phase.name, err)
		}
		phase.back()
		leaf = put()
		r.awaitShown(leaf, refresh+10*time.Second) // and a login
	}
	r.end()
	if out := string(c.Replicas[0].Output()); strings.Contains(out, "hvs.") || strings.Contains(out, secretID) {
		t.Error("the log shows what logs in to Vault")
	}
}

// TestReferencesThatMeanNothingShowNothing holds that neither what cannot be read nor the text of a reference is ever used.
func TestReferencesThatMeanNothingShowNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{
		"--secret-provider", fmt.Sprintf("mounted=file:%s?groups=default&refresh=%s", root, refresh),
	}})
	addr, ca := testkit.Addr(t), certtest.CA(t, "shop")
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(referredDocument("{file://mounted/absent.pem}", "127.0.0.1:9")))
	d := dialTLS{addr: addr, sni: "shop.test", roots: poolOf(ca)}
	if _, err := d.dial(t.Context()); err == nil {
		t.Error("something is shown for a reference that means nothing")
	}
	// It is stored, told of, and open as soon as there is something.
	if a := c.REST(http.MethodGet, "/v1/groups/default/certificates/shop", ""); !strings.Contains(string(a.Body), "{file://mounted/absent.pem}") {
		t.Errorf("the certificate is answered as %s", a.Body)
	}
	leaf := ca.Issue(t, "shop", certtest.Names("shop.test"))
	if err := os.WriteFile(filepath.Join(root, "absent.pem"), []byte(leaf.KeyPEM(t)+leaf.ChainPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	(&referred{t: t, addr: addr, ca: ca}).awaitShown(leaf, refresh+3*time.Second)
	c.CreateGroup("tenant")
	for reference, group := range map[string]string{
		"{file://mounted/absent.pem}": "tenant", "{file://mounted/../absent.pem}": "default", "{env://mounted/KEYWARD_KEK}": "default",
	} {
		document := strings.Replace(referredDocument(reference, "127.0.0.1:9"), "group: default", "group: "+group, 1)
		if a := c.REST(http.MethodPost, "/v1/groups/"+group+":apply", document); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "private_key") {
			t.Errorf("%s for group %s: %d %s", reference, group, a.Status, a.Body)
		}
	}
}
