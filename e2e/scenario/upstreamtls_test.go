package scenario_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// upstreamTLS is a service over TLS to an upstream that demands client certificates.
func upstreamTLS(tls string, addrs ...string) string {
	return fmt.Sprintf(`
settings: {require_https: false}
services:
  - name: ledger
    targets: [%s]
    protocol: https
    tls: {san: ledger.test, %s}
    retries: {attempts: 1}
routes:
  - {name: ledger, service: ledger, hosts: [ledger.test]}
`, strings.Join(addrs, ", "), tls)
}

func held(t *testing.T, name string, c *certtest.Cert) string {
	t.Helper()
	return fmt.Sprintf("certificates: [{name: %s, current: %q}]\n", name, c.ChainPEM()+c.KeyPEM(t))
}

func believed(name string, authorities ...*certtest.Cert) string {
	var pem strings.Builder
	for _, a := range authorities {
		pem.WriteString(a.PEM())
	}
	return fmt.Sprintf("ca-certificates: [{name: %s, certificates: %q}]\n", name, pem.String())
}

// answered is what the upstream saw, or the status.
func answered(t *testing.T, g *harness.Gateway) string {
	t.Helper()
	code, body := g.Get(t, "ledger.test", "/")
	if code != http.StatusOK {
		return fmt.Sprint(code)
	}
	return body
}

func awaitAnswered(t *testing.T, g *harness.Gateway, want string) {
	t.Helper()
	testkit.Await(t, 20*time.Second, func() error {
		if got := answered(t, g); got != want {
			return fmt.Errorf("answered %q, want %q", got, want)
		}
		return nil
	})
}

// traffic makes requests until it is stopped, and says how many there were and which were not answered 200; more waits for so
// many further ones.
func traffic(t *testing.T, g *harness.Gateway) (stop func() (requests int64, failures []string), more func(int64)) {
	t.Helper()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		wrong []string
		n     atomic.Int64
		ended atomic.Bool
	)
	for range 4 {
		client := &http.Client{Transport: &http.Transport{}}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for !ended.Load() {
				if failure := request(t, client, g); failure != "" {
					mu.Lock()
					wrong = append(wrong, failure)
					mu.Unlock()
				}
				n.Add(1)
			}
		})
	}
	var once sync.Once
	stop = func() (int64, []string) {
		once.Do(func() {
			ended.Store(true)
			wg.Wait()
		})
		return n.Load(), wrong
	}
	t.Cleanup(func() { stop() })
	more = func(least int64) {
		t.Helper()
		before := n.Load()
		testkit.Await(t, testkit.Deadline, func() error {
			if made := n.Load() - before; made < least {
				return fmt.Errorf("%d requests were made, want %d", made, least)
			}
			return nil
		})
	}
	return stop, more
}

// request says what went wrong.
func request(t *testing.T, client *http.Client, g *harness.Gateway) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.HTTP+"/", strings.NewReader("x")) // which is never repeated
	if err != nil {
		return err.Error()
	}
	req.Host = "ledger.test"
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return ""
}

// TestUpstreamTLSRotatesUnderTraffic exchanges the gateway's client certificate, and then the upstream's authority, while
// requests are made.
func TestUpstreamTLSRotatesUnderTraffic(t *testing.T) {
	t.Parallel()
	servers, others, clients := certtest.CA(t, "servers"), certtest.CA(t, "other servers"), certtest.CA(t, "clients")
	start := func(by *certtest.Cert) string {
		c := by.Issue(t, "ledger", certtest.Names("ledger.test"))
		return harness.TLSNginx(t, c.PEM(), c.KeyPEM(t), clients.PEM())
	}
	before, after := start(servers), start(others)
	c := harness.New(t, harness.Options{Replicas: 1})
	const tls = "ca: partners, client_certificate: client"
	c.Apply(held(t, "client", clients.Issue(t, "one")) + believed("partners", servers) + upstreamTLS(tls, before))
	g := c.StartGateway("default")
	awaitAnswered(t, g, "CN=one")

	stop, more := traffic(t, g)
	for _, name := range []string{"two", "three", "four"} {
		c.Apply(held(t, "client", clients.Issue(t, name)))
		awaitAnswered(t, g, "CN="+name)
		more(20)
	}
	// The upstream gets another authority: first both are believed, then its certificate changes, then the old one goes.
	for _, doc := range []string{
		believed("partners", servers, others), upstreamTLS(tls, before, after), upstreamTLS(tls, after), believed("partners", others),
	} {
		g.AwaitRevision(c.Apply(doc))
		awaitAnswered(t, g, "CN=four")
		more(20)
	}
	requests, failures := stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %.5q", len(failures), requests, failures)
	}
	t.Logf("%d requests, %d failed", requests, len(failures))

	// What the upstream was believed by before is not any more, not even over a connection that was there.
	g.AwaitRevision(c.Apply(believed("partners", servers)))
	awaitAnswered(t, g, "502")
}

// TestUpstreamCertificates goes through the places that say what an upstream is shown, and what happens when there is nothing to
// show.
func TestUpstreamCertificates(t *testing.T) {
	t.Parallel()
	servers, clients := certtest.CA(t, "servers"), certtest.CA(t, "clients")
	server := servers.Issue(t, "ledger", certtest.Names("ledger.test"))
	one, two := clients.Issue(t, "one"), clients.Issue(t, "two")
	expired := clients.Issue(t, "expired", certtest.Valid(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))
	addr := harness.TLSNginx(t, server.PEM(), server.KeyPEM(t), clients.PEM())
	c := harness.New(t, harness.Options{Replicas: 1})
	group := func(list string) string {
		return "settings: {require_https: false, upstream_certificates: " + list + "}\n"
	}
	host, _, _ := strings.Cut(addr, ":")
	service := upstreamTLS("ca: partners", addr)
	certificates := fmt.Sprintf("certificates:\n  - {name: one, current: %q}\n  - {name: two, current: %q}\n  - {name: expired, current: %q}\n",
		one.PEM()+one.KeyPEM(t), two.PEM()+two.KeyPEM(t), expired.PEM()+expired.KeyPEM(t))
	c.Apply(certificates + believed("partners", servers) + service)
	g := c.StartGateway("default")
	awaitAnswered(t, g, "400") // nginx's for who shows no certificate

	with := func(doc, field string) string {
		return strings.Replace(doc, "    retries:", "    "+field+"\n    retries:", 1)
	}
	without := strings.Replace(service, "settings: {require_https: false}\n", "", 1)
	for _, step := range []struct{ name, document, want string }{
		{"by the settings, for everything", group(`[{domain: "*", certificate: one}]`), "CN=one"},
		{"by the settings, for the host", group(`[{domain: "*", certificate: one}, {domain: "` + host + `", certificate: two}]`), "CN=two"},
		{"by the settings, for host and port", group(`[{domain: "` + host + `", certificate: two}, {domain: "` + addr + `", certificate: one}]`), "CN=one"},
		{"by the settings, for another port", group(`[{domain: "*", certificate: two}, {domain: "` + host + `:1", certificate: one}]`), "CN=two"},
		{"by the service, for everything", with(without, `upstream_certificates: [{domain: "*", certificate: two}]`), "CN=two"},
		{"always, by id", with(strings.Replace(without, "ca: partners", "ca: partners, client_certificate: "+one.ID(), 1), `upstream_certificates: [{domain: "*", certificate: two}]`), "CN=one"},
		{"one that has expired", strings.Replace(without, "ca: partners", "ca: partners, client_certificate: expired", 1), "503"},
		{"a key that is pinned", strings.Replace(without, "ca: partners", "ca: partners, client_certificate: one, pins: "+harness.PinOf(server.Cert), 1), "CN=one"},
		{"a key that is not", strings.Replace(without, "ca: partners", "ca: partners, client_certificate: one, pins: "+harness.PinOf(clients.Cert), 1), "502"},
	} {
		g.AwaitRevision(c.Apply(step.document))
		if got := answered(t, g); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	for _, refused := range []struct{ name, document, want string }{
		{"scheme", group(`[{domain: "https://ledger.test", certificate: one}]`), "a domain has no scheme"},
		{"two stars", group(`[{domain: "*.*.test", certificate: one}]`), "a star stands for the first label"},
		{"missing", group(`[{domain: "*", certificate: none}]`), "there is no certificates/none"},
		{"missing authority", strings.Replace(without, "ca: partners", "ca: nobody", 1), "there is no ca-certificates/nobody"},
	} {
		out := c.CLI(refused.document, "apply", "-f", "-")
		if out.Code == 0 || !strings.Contains(out.Stderr, refused.want) {
			t.Errorf("%s: exit %d %s, want %q", refused.name, out.Code, out.Stderr, refused.want)
		}
	}
	if out := c.CLI("", "delete", "certificate", "one"); out.Code != 4 || !strings.Contains(out.Stderr, "services/ledger") {
		t.Errorf("deleting a certificate that is used: exit %d %s", out.Code, out.Stderr)
	}
}
