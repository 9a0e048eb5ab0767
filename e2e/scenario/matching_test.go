package scenario_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

const matchingDocument = `group: default
settings: {require_https: false, limits: {headers: 20, head: 4KiB, uri: 1KiB, body: 1KiB}}
services:
  - {name: s, url: "http://UPSTREAM", timeouts: {response_head: 300ms, connect: 300ms}}
  - {name: refused, url: "http://REFUSED"}
  - {name: denied, url: "http://169.254.169.254:80"}
routes:
  - {name: exact, service: s, hosts: [a.test], paths: [{exact: /p/exact}], rewrite: {prefix: /exact}}
  - {name: regex, service: s, hosts: [a.test], paths: [{regex: "^/p/[0-9]+$"}], rewrite: {prefix: /regex}}
  - {name: prefix, service: s, hosts: [a.test], paths: [/p], rewrite: {prefix: /prefix}}
  - {name: longer, service: s, hosts: [a.test], paths: [/p/longer], methods: [GET, POST], rewrite: {prefix: /longer, strip_prefix: true}}
  - {name: canary, service: s, hosts: [a.test], paths: [/p/longer], methods: [GET], headers: [{name: X-Canary, exact: "yes"}], rewrite: {prefix: /canary}}
  - {name: beta, service: s, hosts: [a.test], paths: [/q], query: [{name: beta, present: true}], rewrite: {prefix: /beta}}
  - {name: wild, service: s, hosts: ["*.wild.test"], rewrite: {prefix: /wild}}
  - {name: named, service: s, hosts: [named.wild.test], paths: [/only], rewrite: {prefix: /named}}
  - {name: off, service: s, hosts: [off.test], enabled: false}
  - {name: refused, service: refused, hosts: [refused.test]}
  - {name: denied, service: denied, hosts: [denied.test]}
`

// TestMatchingOnLiveTraffic shows which route takes a request by what the upstream sees.
func TestMatchingOnLiveTraffic(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	doc := strings.NewReplacer("UPSTREAM", harness.Echo(t), "REFUSED", testkit.Addr(t)).Replace(matchingDocument)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(doc))
	for _, tt := range []struct {
		name, method, host, target string
		headers                    []string
		want                       int
		upstream                   string
	}{
		{"exact before all", "GET", "a.test", "/p/exact", nil, 200, "/exact/p/exact"},
		{"regex before prefix", "GET", "a.test", "/p/123", nil, 200, "/regex/p/123"},
		{"regex is anchored", "GET", "a.test", "/p/123x", nil, 200, "/prefix/p/123x"},
		{"longest prefix", "GET", "a.test", "/p/longer/x?a=b", nil, 200, "/longer/x?a=b"},
		{"more conditions first", "GET", "a.test", "/p/longer/x", []string{"X-Canary", "yes"}, 200, "/canary/p/longer/x"},
		{"prefix on segment boundaries", "GET", "a.test", "/pq", nil, 404, ""},
		{"the prefix itself", "GET", "a.test", "/p", nil, 200, "/prefix/p"},
		{"the winning path owns the method", "DELETE", "a.test", "/p/longer", nil, 405, ""},
		{"the winning path owns the conditions", "GET", "a.test", "/q", nil, 404, ""},
		{"a condition on the query", "GET", "a.test", "/q?beta", nil, 200, "/beta/q?beta"},
		{"a wildcard host", "GET", "x.wild.test", "/y", nil, 200, "/wild/y"},
		{"one level only", "GET", "x.y.wild.test", "/y", nil, 404, ""},
		{"an exact host is final", "GET", "named.wild.test", "/y", nil, 404, ""},
		{"the host's case, port and dot do not matter", "GET", "NAMED.Wild.Test.:8080", "/only", nil, 200, "/named/only"},
		{"no host of ours", "GET", "b.test", "/p", nil, 404, ""},
		{"switched off", "GET", "off.test", "/", nil, 404, ""},
		{"dots are resolved before matching", "GET", "a.test", "/p/x/../exact", nil, 200, "/exact/p/exact"},
		{"dots above the root", "GET", "a.test", "/../p", nil, 400, ""},
		{"unreserved is decoded", "GET", "a.test", "/%70/ex%61ct", nil, 200, "/exact/p/exact"},
		{"an encoded slash", "GET", "a.test", "/p%2Fexact", nil, 400, ""},
		{"an encoded backslash", "GET", "a.test", "/p%5Cexact", nil, 400, ""},
		{"a null", "GET", "a.test", "/p%00", nil, 400, ""},
		{"an empty segment", "GET", "a.test", "/p//exact", nil, 400, ""},
		{"an encoded dot segment", "GET", "a.test", "/p/x/%2e%2e/exact", nil, 400, ""},
		{"a parameter", "GET", "a.test", "/p;x=1/exact", nil, 400, ""},
		{"a target too long", "GET", "a.test", "/p?" + strings.Repeat("x", 1100), nil, 414, ""},
		{"a head too long", "GET", "a.test", "/p", []string{"X-Long", strings.Repeat("x", 5000)}, 431, ""},
		{"too many fields", "GET", "a.test", "/p", manyHeaders(30), 431, ""},
		{"an upstream that does not answer in time", "GET", "a.test", "/p/slow", nil, 504, ""},
		{"an upstream that refuses", "GET", "refused.test", "/", nil, 502, ""},
		{"an upstream where none may be", "GET", "denied.test", "/", nil, 502, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := g.RawCall(t, tt.method, tt.host, tt.target, tt.headers...)
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.want {
				t.Fatalf("%d %.300s, want %d", resp.StatusCode, body, tt.want)
			}
			if tt.want != 200 {
				if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/problem+json") {
					t.Errorf("the refusal is %q", got)
				}
				if tt.want == 405 && resp.Header.Get("Allow") != "GET, POST" {
					t.Errorf("Allow: %q", resp.Header.Get("Allow"))
				}
				return
			}
			if got := harness.ReadEcho(t, string(body)).Target; got != tt.upstream {
				t.Errorf("the upstream sees %s, want %s", got, tt.upstream)
			}
		})
	}
	t.Run("a body too long", func(t *testing.T) {
		for name, body := range map[string]io.Reader{
			"declared": strings.NewReader(strings.Repeat("x", 2000)), "chunked": io.MultiReader(strings.NewReader(strings.Repeat("x", 2000))),
		} {
			if code, _ := g.Send(t, http.MethodPost, "a.test", "/p", body); code != http.StatusRequestEntityTooLarge {
				t.Errorf("%s: %d, want 413", name, code)
			}
		}
	})
}

func manyHeaders(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("X-%d", i), "x")
	}
	return out
}

// TestHTTPSWithReloadedCertificate speaks HTTP/1.1 and HTTP/2 over TLS, and replaces the certificate under way.
func TestHTTPSWithReloadedCertificate(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	dir, addr := t.TempDir(), testkit.Addr(t)
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first := serverCertificate(t, certFile, keyFile)
	g := c.StartGateway("default", "--listen", "https="+addr, "--tls-cert", certFile, "--tls-key", keyFile)
	g.AwaitRevision(c.Apply(fmt.Sprintf(`group: default
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: [secure.test], policies: [{type: key-auth}]}]
consumers: [{name: gold, credentials: [{name: k, type: key-auth, config: {key: %s}}]}]
`, harness.Echo(t), goldKey)))

	if code, body := g.Get(t, "secure.test", "/", "X-API-Key", goldKey); code != http.StatusForbidden {
		t.Errorf("plain HTTP where HTTPS is required: %d %s, want 403", code, body)
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := tlsClient(t, first, protocol == "HTTP/2.0")
		for key, want := range map[string]int{goldKey: http.StatusOK, "wrong": http.StatusUnauthorized} {
			resp := getTLS(t, client, addr, "secure.test", key)
			if resp.StatusCode != want || resp.Proto != protocol {
				t.Errorf("%s with %q: %s %d, want %d", protocol, key, resp.Proto, resp.StatusCode, want)
			}
		}
		if resp := getTLS(t, client, addr, "other.test", goldKey); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s to a host of nobody: %d", protocol, resp.StatusCode)
		}
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: first, ServerName: "secure.test", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: secure.test\r\nX-API-Key: "+goldKey+"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("length and chunks over TLS: %v, %v", resp, err)
	}
	for version, name := range map[uint16]string{tls.VersionTLS10: "1.0", tls.VersionTLS11: "1.1"} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
			t.Errorf("TLS %s is accepted", name)
		}
	}

	second := serverCertificate(t, certFile, keyFile)
	testkit.Await(t, 30*time.Second, func() error {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: second, ServerName: "secure.test"})
		if err == nil {
			conn.Close()
		}
		return err
	})
	if resp := getTLS(t, tlsClient(t, second, true), addr, "secure.test", goldKey); resp.StatusCode != http.StatusOK {
		t.Errorf("after the reload: %d", resp.StatusCode)
	}
}

func tlsClient(t *testing.T, roots *x509.CertPool, h2 bool) *http.Transport {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "secure.test"}, ForceAttemptHTTP2: h2}
	if !h2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func getTLS(t *testing.T, client *http.Transport, addr, host, key string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("X-API-Key", key)
	resp, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// serverCertificate writes a self-signed certificate for secure.test and returns what verifies it.
func serverCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key := harness.NewKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "secure.test"}, DNSNames: []string{"secure.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public().(*ecdsa.PublicKey), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}, certFile: {Type: "CERTIFICATE", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return pool
}
