package scenario_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// TestStapling follows a certificate that is shown with an answer of its responder only, through an outage of the responder
// that outlasts the answer.
func TestStapling(t *testing.T) {
	t.Parallel()
	c, addr := harness.New(t, harness.Options{ReplicaArgs: []string{"--tenant-networks", "127.0.0.0/8"}}), testkit.Addr(t)
	root := certtest.CA(t, "root")
	ca := root.CA(t, "shop")
	responder := certtest.NewResponder(t, ca)
	listener := httptest.NewServer(responder)
	t.Cleanup(listener.Close)
	leaf := ca.Issue(t, "server", certtest.Names("shop.test"), certtest.Template(func(x *x509.Certificate) { x.OCSPServer = []string{listener.URL} }))
	responder.Down(true)
	document := func(mode string) string {
		return fmt.Sprintf(`group: default
settings: {tls: {ocsp_stapling: %s}}
certificates: [{name: shop, snis: [shop.test], current: %q}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: shop.test}]
`, mode, leaf.ChainPEM()+leaf.KeyPEM(t), harness.Echo(t))
	}
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document("must")))
	d := dialTLS{addr: addr, sni: "shop.test", roots: poolOf(root), protocols: []string{"http/1.1"}}
	stapled := func() error {
		conn, err := d.dial(t.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		text := conn.ConnectionState().OCSPResponse
		if len(text) == 0 {
			return errors.New("there is no answer")
		}
		a, err := revocation.ReadAnswer(text, leaf.Cert, ca.Cert, nil, time.Now())
		if err == nil && a.Status != revocation.Good {
			err = fmt.Errorf("the answer is %v", a.Status)
		}
		return err
	}
	hidden := func() error {
		if err := stapled(); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			return fmt.Errorf("shown: %w", err)
		}
		return nil
	}
	if err := hidden(); err != nil {
		t.Errorf("without an answer it is %v", err)
	}
	responder.Say(certtest.OCSP{Of: leaf.Cert, Lasts: 80 * time.Second}) // it is of a minute ago
	responder.Down(false)
	begun := time.Now()
	testkit.Await(t, 90*time.Second, stapled)
	t.Logf("sent after %v", time.Since(begun).Round(time.Millisecond))
	if openssl, err := exec.LookPath("openssl"); err == nil {
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", addr, "-servername", "shop.test", "-status")
		cmd.Stdin = strings.NewReader("Q\n")
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "OCSP Response Status: successful") {
			t.Errorf("openssl says:\n%s", out)
		}
	}
	responder.Down(true)
	testkit.Await(t, 60*time.Second, hidden)
	g.AwaitRevision(c.Apply(document("on")))
	if err := stapled(); err == nil || err.Error() != "there is no answer" {
		t.Errorf("where it is not needed: %v", err)
	}
	responder.Say(certtest.OCSP{Of: leaf.Cert})
	responder.Down(false)
	testkit.Await(t, 90*time.Second, stapled)
}
