package scenario_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/acmetest"
)

// front is an address behind which gateways are: each connection goes to the first that takes it.
type front struct {
	net.Listener
	mu      sync.Mutex
	targets []string // guarded by mu
	came    func()   // guarded by mu; called with the next connection, before it is passed on
	running sync.WaitGroup
}

func newFront(t *testing.T) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{Listener: l}
	f.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() { f.pass(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); f.running.Wait() })
	return f
}

func (f *front) port() string {
	_, port, _ := net.SplitHostPort(f.Addr().String())
	return port
}

func (f *front) to(came func(), targets ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets, f.came = targets, came
}

func (f *front) pass(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	if f.came != nil {
		f.came()
		f.came = nil
	}
	targets := f.targets
	f.mu.Unlock()
	for _, target := range targets {
		to, err := net.DialTimeout("tcp", target, 5*time.Second)
		if err != nil {
			continue
		}
		defer to.Close()
		done := make(chan struct{})
		go func() { _, _ = io.Copy(to, c); _ = to.(*net.TCPConn).CloseWrite(); close(done) }()
		_, _ = io.Copy(c, to)
		_ = c.(*net.TCPConn).CloseWrite()
		<-done
		return
	}
}

// acme is an installation with an authority.
type acme struct {
	t         *testing.T
	c         *harness.Cluster
	authority *acmetest.Server
	roots     *x509.CertPool
	http, tls *front
}

func newAcme(t *testing.T, replicas int, o acmetest.Options) *acme {
	t.Helper()
	a := &acme{t: t, http: newFront(t), tls: newFront(t), roots: x509.NewCertPool()}
	o.HTTPPort, o.TLSPort = a.http.port(), a.tls.port()
	a.authority = acmetest.Start(t, o)
	a.roots.AppendCertsFromPEM([]byte(a.authority.Root))
	a.c = harness.New(t, harness.Options{Replicas: replicas, ReplicaArgs: []string{"--tenant-networks", "127.0.0.0/8"}})
	return a
}

// document has a certificate for names that the authority issues.
func (a *acme) document(issuer, upstream string, names ...string) string {
	return fmt.Sprintf(`group: default
ca-certificates: [{name: authority, certificates: %q}]
acme-issuers: [{name: authority, directory: %q, ca: authority, terms_agreed: true, contact: admin@shop.test%s}]
certificates: [{name: shop, snis: [%s], acme: authority}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s}]
`, a.authority.CA, a.authority.Directory, issuer, strings.Join(names, ","), upstream)
}

// shown is the serial number of the certificate that is shown for a name.
func (a *acme) shown(addr, name string) (*big.Int, error) {
	conn, err := dialTLS{addr: addr, sni: name, roots: a.roots}.dial(a.t.Context())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// awaitShown waits until another certificate than one before is shown.
func (a *acme) awaitShown(addr, name string, before *big.Int, within time.Duration) (serial *big.Int) {
	a.t.Helper()
	begun := time.Now()
	testkit.Await(a.t, within, func() (err error) {
		if serial, err = a.shown(addr, name); err == nil && before != nil && serial.Cmp(before) == 0 {
			err = errors.New("it is the same certificate")
		}
		if err != nil {
			err = fmt.Errorf("%w; %s", err, a.status())
		}
		return err
	})
	a.t.Logf("shown after %v", time.Since(begun).Round(time.Millisecond))
	return serial
}

// status is what the control plane says of the order.
func (a *acme) status() string {
	var c struct {
		Issued json.RawMessage `json:"issued"`
	}
	_ = a.c.REST(http.MethodGet, "/v1/groups/default/certificates/shop", "").JSON(&c) // then there is none
	return string(c.Issued)
}

// TestAnAuthorityIssuesAndRenews by http-01, with an account that the authority must know, under traffic, and with the control
// plane killed meanwhile.
func TestAnAuthorityIssuesAndRenews(t *testing.T) {
	t.Parallel()
	const macKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	a := newAcme(t, 2, acmetest.Options{Validity: 90 * time.Second, External: "kid-1:" + macKey})
	addr, echo := testkit.Addr(t), harness.Echo(t)
	g := a.c.StartGateway("default", "--listen", "https="+addr)
	a.http.to(nil, g.HTTP)
	issuer := ", challenges: http-01, renew_before: 60s, external_account: {key_id: kid-1, key: " + macKey + "}"
	a.c.Apply(a.document(issuer, echo, "shop.test", "www.shop.test"))
	first := a.awaitShown(addr, "shop.test", nil, 40*time.Second)
	if _, err := a.shown(addr, "www.shop.test"); err != nil {
		t.Error(err)
	}
	traffic := &referred{t: t, c: a.c, g: g, addr: addr, roots: a.roots}
	traffic.begin()
	a.c.Replicas[0].Kill()
	second := a.awaitShown(addr, "shop.test", first, 80*time.Second)
	a.c.Restart(a.c.Replicas[0])
	a.c.Replicas[0].AwaitReady()
	if out := a.c.MustCLI("", "certs", "list"); !strings.Contains(out, "issued") || strings.Contains(out, "failing") {
		t.Errorf("certs list says\n%s", out)
	}
	a.c.MustCLI("", "certs", "renew", "shop")
	a.awaitShown(addr, "shop.test", second, 25*time.Second)
	traffic.end()
	a.hidden(macKey, g)
	a.leavesNothing(addr, g)
}

// hidden looks for keys in what the API answers, the processes log and the database holds. The keys of certificates and of the account
// are found by how they begin in PKCS#8.
func (a *acme) hidden(macKey string, gateways ...*harness.Gateway) {
	a.t.Helper()
	where := map[string]string{}
	for _, path := range []string{
		"/v1/groups/default/certificates", "/v1/groups/default/certificates/shop", "/v1/groups/default:export",
		"/v1/groups/default/acme-issuers", "/v1/groups/default/acme-issuers/authority", "/v1/groups/default/audit-events", "/v1/groups/default/revisions",
	} {
		where[path] = string(a.c.REST(http.MethodGet, path, "").Body)
	}
	if text := where["/v1/groups/default/certificates/shop"]; !strings.Contains(text, "not_after") || !strings.Contains(text, "renew_at") {
		a.t.Errorf("the certificate is answered as %s, want what was issued", text)
	}
	if text := where["/v1/groups/default:export"]; strings.Contains(text, "issued") || strings.Contains(text, "challenge-") {
		a.t.Error("an export has what was issued")
	}
	if text := where["/v1/groups/default/audit-events"]; !strings.Contains(text, "certificates/shop: issued by acme-issuers/authority") {
		a.t.Errorf("the audit trail does not say what was issued: %s", text)
	}
	for i, r := range a.c.Replicas {
		where[fmt.Sprint("log of replica ", i)] = string(r.Output())
	}
	for i, g := range gateways {
		where[fmt.Sprint("log of gateway ", i)] = string(g.Output())
	}
	for _, table := range []string{"resources", "changes", "audit", "acme_accounts"} {
		rows := a.c.Rows("select t::text from " + table + " t")
		if len(rows) == 0 {
			a.t.Errorf("%s is empty", table)
		}
		for _, row := range rows {
			where[table] += row[0]
		}
	}
	for name, text := range where {
		for _, secret := range []string{macKey, "PRIVATE KEY", "MIGHAgEA", "308187020100"} { // the last ones in Base64 and in hex
			if strings.Contains(text, secret) {
				a.t.Errorf("%s has %q", name, secret)
			}
		}
	}
}

// leavesNothing deletes the certificate, after which nothing is shown, ordered or kept.
func (a *acme) leavesNothing(addr string, g *harness.Gateway) {
	a.t.Helper()
	for _, path := range []string{"certificates/shop", "acme-issuers/authority"} {
		if r := a.c.REST(http.MethodDelete, "/v1/groups/default/"+path, ""); r.Status != http.StatusNoContent {
			a.t.Fatalf("delete %s: %d %s", path, r.Status, r.Body)
		}
	}
	testkit.Await(a.t, 30*time.Second, func() error {
		rows := a.c.Rows("select kind, name from resources where kind in ('issued-certificates', 'acme-challenges')")
		if accounts := a.c.Rows("select id from acme_accounts"); len(rows)+len(accounts) > 0 {
			return fmt.Errorf("there are %v and %v", rows, accounts)
		}
		return nil
	})
	if _, err := a.shown(addr, "shop.test"); err == nil {
		a.t.Error("the certificate is shown although it was deleted")
	}
}

// TestAnotherGatewayAnswersTheAuthority: the one that would is killed when the authority comes, for both ways of proving a name.
func TestAnotherGatewayAnswersTheAuthority(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"http-01", "tls-alpn-01"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			a := newAcme(t, 1, acmetest.Options{})
			addrs := testkit.Addrs(t, 2)
			one := a.c.StartGateway("default", "--listen", "https="+addrs[0])
			other := a.c.StartGateway("default", "--listen", "https="+addrs[1])
			came := make(chan struct{})
			kill := func() { one.Kill(); close(came) }
			if way == "http-01" {
				a.http.to(kill, one.HTTP, other.HTTP)
			} else {
				a.tls.to(kill, addrs[0], addrs[1])
			}
			a.c.Apply(a.document(", challenges: "+way, harness.Echo(t), "shop.test"))
			a.awaitShown(addrs[1], "shop.test", nil, 60*time.Second)
			<-came
			if status := a.status(); strings.Contains(status, "last_error") {
				t.Errorf("an attempt failed: %s", status)
			}
		})
	}
}

// TestWhatAnAuthorityRefusesIsTold with all that it says, and tried again as soon as it is put right. What cannot be proved is
// refused before.
func TestWhatAnAuthorityRefusesIsTold(t *testing.T) {
	t.Parallel()
	a := newAcme(t, 1, acmetest.Options{Blocked: "blocked.test"})
	addr, echo := testkit.Addr(t), harness.Echo(t)
	for _, name := range []string{`"*.shop.test"`, "localhost", "127.0.0.1"} {
		r := a.c.REST(http.MethodPost, "/v1/groups/default:apply", a.document("", echo, name))
		if r.Status != http.StatusUnprocessableEntity || !strings.Contains(string(r.Body), "snis[0]") {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	says := func(want string) {
		t.Helper()
		testkit.Await(t, 30*time.Second, func() error {
			if status := a.status(); !strings.Contains(status, want) {
				return fmt.Errorf("the certificate says %s, want %q", status, want)
			}
			return nil
		})
	}
	a.c.Apply(a.document("", echo, "shop.test", "blocked.test"))
	says("no gateway is connected")
	g := a.c.StartGateway("default", "--listen", "https="+addr)
	says("urn:ietf:params:acme:error:rejectedIdentifier")
	says("next_attempt")
	if out := a.c.MustCLI("", "certs", "list"); !strings.Contains(out, "ordered, failing") {
		t.Errorf("certs list says\n%s", out)
	}
	a.c.Replicas[0].AwaitMetric(t, `keyward_controlplane_acme_certificates{group="default",state="unissued"}`, 1)
	a.http.to(nil, g.HTTP)
	a.c.Apply(a.document("", echo, "shop.test"))
	first := a.awaitShown(addr, "shop.test", nil, 30*time.Second)
	// A name more is issued for, and nothing is missing meanwhile.
	a.c.Apply(a.document("", echo, "shop.test", "more.test"))
	if _, err := a.shown(addr, "shop.test"); err != nil {
		t.Error(err)
	}
	a.awaitShown(addr, "more.test", nil, 30*time.Second)
	a.awaitShown(addr, "shop.test", first, 5*time.Second)
}
