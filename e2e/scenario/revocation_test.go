package scenario_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// lasting is a service whose answers last: /ws switches protocols and is silent, /endless goes on.
func lasting(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ws":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(io.Discard, conn)
		case "/endless":
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// live are connections of a client, each with something on it.
type live struct {
	t      *testing.T
	d      dialTLS
	rest   net.Conn
	reader *bufio.Reader
	ended  chan string // what has ended
}

// begin has a client open a connection that it keeps, a WebSocket, and a stream in HTTP/2.
func begin(t *testing.T, d dialTLS) *live {
	t.Helper()
	l := &live{t: t, d: d, ended: make(chan string, 2)}
	d.protocols = []string{"http/1.1"}
	rest, err := d.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = rest.SetDeadline(time.Now().Add(2 * time.Minute))
	l.rest, l.reader = rest, bufio.NewReader(rest)
	if got, err := l.ask(); err != nil || got != http.StatusOK {
		t.Fatalf("at rest: %d, %v", got, err)
	}
	tunnel, err := d.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = tunnel.SetDeadline(time.Now().Add(2 * time.Minute))
	_, _ = io.WriteString(tunnel, "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	reader := bufio.NewReader(tunnel)
	if resp, err := http.ReadResponse(reader, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the tunnel: %v, %v", resp, err)
	}
	tr := d.transport(true)
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "https://a.test/endless", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		t.Fatalf("the stream: %v, %v", resp, err)
	}
	t.Cleanup(func() {
		_, _ = rest.Close(), tunnel.Close()
		_ = resp.Body.Close()
		tr.CloseIdleConnections()
	})
	go func() {
		_, _ = io.Copy(io.Discard, reader)
		l.ended <- "tunnel"
	}()
	go func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		l.ended <- "stream"
	}()
	return l
}

// ask sends a request over the connection that is kept.
func (l *live) ask() (int, error) {
	if _, err := io.WriteString(l.rest, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// awaitEnd waits until nothing of it is let go on any more, and holds that new connections are refused.
func (l *live) awaitEnd(since time.Time) {
	l.t.Helper()
	if n := len(l.ended); n > 0 {
		l.t.Fatalf("%d had ended before", n)
	}
	testkit.Await(l.t, time.Minute, func() error {
		got, err := l.ask()
		if err != nil {
			l.t.Fatal(err)
		}
		if got != http.StatusForbidden {
			return fmt.Errorf("answered %d", got)
		}
		return nil
	})
	known := time.Now()
	l.t.Logf("refused after %v", known.Sub(since).Round(time.Millisecond))
	for range 2 {
		select {
		case what := <-l.ended:
			l.t.Logf("the %s ended %v later", what, time.Since(known).Round(time.Millisecond))
		case <-time.After(5 * time.Second):
			l.t.Fatal("a tunnel or stream goes on")
		}
	}
	if err := comes(l.t, l.d, "a.test", false); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		l.t.Errorf("a new connection: %v", err)
	}
}

// revocable is a configuration that lets clients of an authority come to a.test.
func revocable(server, ca *certtest.Cert, key, revocation, upstream string) string {
	return fmt.Sprintf(`group: default
certificates: [{name: server, snis: [a.test], current: %q}]
ca-certificates: [{name: partners, certificates: %q, revocation: %s}]
services: [{name: s, url: %q}]
routes: [{name: r, service: s, hosts: a.test, upgrade: websocket, client_certificates: {ca: partners}}]
`, server.PEM()+key, ca.PEM(), revocation, upstream)
}

// TestRevocationListsReachWhatIsThere revokes a client with connections, a WebSocket and a stream by a list that the control
// plane fetches.
func TestRevocationListsReachWhatIsThere(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{ReplicaArgs: []string{"--tenant-networks", "127.0.0.1/32"}})
	addr, shop, ca := testkit.Addr(t), certtest.CA(t, "shop"), certtest.CA(t, "partners")
	server, client, other := shop.Issue(t, "server", certtest.Names("a.test")), ca.Issue(t, "client"), ca.Issue(t, "other")
	var list atomic.Pointer[[]byte]
	lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if der := list.Load(); der != nil {
			_, _ = w.Write(*der)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(lists.Close)
	document := revocable(server, ca, server.KeyPEM(t), fmt.Sprintf("{crl_urls: %q, refresh: 10s}", lists.URL+"/ca.crl"), lasting(t))
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document))
	d := dialTLS{addr: addr, sni: "a.test", roots: poolOf(shop), client: client}
	if err := comes(t, d, "a.test", false); err == nil || !strings.Contains(err.Error(), "answered 503") {
		t.Errorf("before there is a list: %v, want 503, which is no refusal", err)
	}
	serve := func(number int64, revoked ...*x509.Certificate) { list.Store(new(ca.CRL(t, number, nil, revoked...))) }
	serve(1)
	testkit.Await(t, time.Minute, func() error { return comes(t, d, "a.test", false) })
	l := begin(t, d)
	serve(2, client.Cert)
	l.awaitEnd(time.Now())
	d.client = other
	if err := comes(t, d, "a.test", true); err != nil {
		t.Errorf("another client: %v", err)
	}
	if a := c.REST(http.MethodGet, "/v1/groups/default/revocation-lists", ""); a.Status != http.StatusNotFound {
		t.Errorf("fetched lists can be asked for: %d", a.Status)
	}
	if text := string(c.REST(http.MethodGet, "/v1/groups/default/ca-certificates/partners", "").Body); !strings.Contains(text, "crl_urls") {
		t.Errorf("the authority is %s", text)
	}
}

// TestListsOfTheMachineItselfAreNotFetched has a tenant name an address of the control plane's own machine.
func TestListsOfTheMachineItselfAreNotFetched(t *testing.T) {
	t.Parallel()
	c, shop, ca := harness.New(t, harness.Options{}), certtest.CA(t, "shop"), certtest.CA(t, "partners")
	server := shop.Issue(t, "server", certtest.Names("a.test"))
	var asked atomic.Int64
	lists := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(ca.CRL(t, 1, nil))
	}))
	t.Cleanup(lists.Close)
	byName := strings.Replace(lists.URL, "127.0.0.1", "localhost", 1)
	c.Apply(revocable(server, ca, server.KeyPEM(t), fmt.Sprintf("{crl_urls: [%q, %q]}", lists.URL, byName), "http://127.0.0.1:1"))
	c.Replicas[0].AwaitMetric(t, `keyward_controlplane_status_fetches_total{kind="revocation-lists",result="failed"}`, 2)
	if n := asked.Load(); n > 0 {
		t.Errorf("asked %d times", n)
	}
}

// index is the database of certificates of openssl's responder.
func index(t *testing.T, file string, c *certtest.Cert, revoked bool) {
	t.Helper()
	const form = "060102150405Z"
	line := fmt.Sprintf("V\t%s\t\t%032X\tunknown\t/CN=client\n", c.Cert.NotAfter.UTC().Format(form), c.Cert.SerialNumber)
	if revoked {
		line = fmt.Sprintf("R\t%s\t%s\t%032X\tunknown\t/CN=client\n", c.Cert.NotAfter.UTC().Format(form), time.Now().UTC().Format(form), c.Cert.SerialNumber)
	}
	if err := os.WriteFile(file+".new", []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestRespondersReachWhatIsThere has openssl answer for the authority.
func TestRespondersReachWhatIsThere(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("NOT RUN: openssl is not there")
	}
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	shop, ca := certtest.CA(t, "shop"), certtest.CA(t, "partners")
	server := shop.Issue(t, "server", certtest.Names("a.test"))
	signer, dir := ca.Signer(t, "signer"), t.TempDir()
	for name, text := range map[string]string{"ca.pem": ca.PEM(), "signer.pem": signer.PEM(), "signer.key": signer.KeyPEM(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var up atomic.Bool
	var mu sync.Mutex // one question at a time
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		question, err := io.ReadAll(r.Body)
		if err == nil && up.Load() {
			err = os.WriteFile(filepath.Join(dir, "question"), question, 0o600)
		}
		cmd := exec.CommandContext(r.Context(), openssl, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "signer.pem", "-rkey", "signer.key",
			"-nmin", "1", "-reqin", "question", "-respout", "answer")
		cmd.Dir = dir
		if err != nil || !up.Load() || cmd.Run() != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, "answer"))
	}))
	t.Cleanup(responder.Close)
	client := ca.Issue(t, "client", certtest.Template(func(x *x509.Certificate) { x.OCSPServer = []string{responder.URL} }))
	say := func(revoked bool) {
		mu.Lock()
		defer mu.Unlock()
		index(t, filepath.Join(dir, "index.txt"), client, revoked)
	}
	say(false)
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(revocable(server, ca, server.KeyPEM(t), "{mode: strict, ocsp: {}, refresh: 10s}", lasting(t))))
	d := dialTLS{addr: addr, sni: "a.test", roots: poolOf(shop), client: client}
	if err := comes(t, d, "a.test", false); err == nil || !strings.Contains(err.Error(), "answered 503") {
		t.Errorf("while nobody answers: %v, want 503, which is no refusal", err)
	}
	up.Store(true)
	testkit.Await(t, time.Minute, func() error { return comes(t, d, "a.test", false) })
	l := begin(t, d)
	up.Store(false) // what was answered counts on
	if got, err := l.ask(); err != nil || got != http.StatusOK {
		t.Errorf("while the responder is down: %d, %v", got, err)
	}
	say(true)
	up.Store(true)
	l.awaitEnd(time.Now())
}
