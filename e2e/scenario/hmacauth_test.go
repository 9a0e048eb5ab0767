package scenario_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// signing is a client that signs requests to payments.test as RFC 9421 has it.
type signing struct {
	key, secret, nonce string
	at                 time.Time
}

// request returns a signed POST of the body.
func (s signing) request(t *testing.T, target, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://payments.test"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	input := fmt.Sprintf(`("@method" "@target-uri" "content-digest");created=%d;keyid="%s"`, s.at.Unix(), s.key)
	if s.nonce != "" {
		input += `;nonce="` + s.nonce + `"`
	}
	mac := hmac.New(sha256.New, []byte(s.secret))
	fmt.Fprintf(mac, "\"@method\": POST\n\"@target-uri\": https://payments.test%s\n\"content-digest\": %s\n\"@signature-params\": %s", target, digest, input)
	req.Header.Set("Content-Digest", digest)
	req.Header.Set("Signature-Input", "sig1="+input)
	req.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	return req
}

// instead replaces the body of a signed request.
func instead(req *http.Request, body string, known bool) *http.Request {
	req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	if !known {
		req.ContentLength = -1
	}
	return req
}

// documented is the configuration in the page of a policy, with another service.
func documented(t *testing.T, page, upstream string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/policies/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	document, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("%s shows no configuration", page)
	}
	return strings.Replace(document, "127.0.0.1:9000", upstream, 1)
}

// TestSignedRequests has a client sign requests to what the page of hmac-auth shows, over both versions of HTTP, and others
// meddle with them.
func TestSignedRequests(t *testing.T) {
	t.Parallel()
	c, addr := harness.New(t, harness.Options{}), testkit.Addr(t)
	ca := certtest.CA(t, "shop")
	leaf := ca.Issue(t, "server", certtest.Names("payments.test"))
	document := documented(t, "hmac-auth.md", harness.Echo(t)) +
		fmt.Sprintf("settings: {tls: {default_certificate: server}}\ncertificates: [{name: server, snis: [payments.test], current: %q}]\n", leaf.PEM()+leaf.KeyPEM(t))
	g := c.StartGateway("default", "--listen", "https="+addr)
	g.AwaitRevision(c.Apply(document))
	shop := signing{key: "shop-2026", secret: "aN8vQ2xT5rL0pW7yE4uC9sJ3kD6gH1mB", at: time.Now()}
	with := func(change func(*signing)) signing {
		other := shop
		change(&other)
		return other
	}
	long := strings.Repeat("order", 100_000)
	for _, h2 := range []bool{false, true} {
		tr := dialTLS{addr: addr, sni: "payments.test", roots: poolOf(ca)}.transport(h2)
		t.Cleanup(tr.CloseIdleConnections)
		nonce := with(func(s *signing) { s.nonce = fmt.Sprint("n", h2) })
		for _, tt := range []struct {
			name string
			req  *http.Request
			want int
			code string
		}{
			{"signed", shop.request(t, "/orders?dry=1", "one"), 200, ""},
			{"with an escaped path", shop.request(t, "/a%7Eb?x=%20", "one"), 200, ""},
			{"with a long body", shop.request(t, "/orders", long), 200, ""},
			{"with a body of unknown length", instead(shop.request(t, "/orders", "one"), "one", false), 200, ""},
			{"with another body", instead(shop.request(t, "/orders", "one"), "two", true), 401, "digest_mismatch"},
			{"with another long body of unknown length", instead(shop.request(t, "/orders", long), long+"!", false), 401, "digest_mismatch"},
			{"without its body", instead(shop.request(t, "/orders", "one"), "", true), 401, "digest_mismatch"},
			{"a minute ago", with(func(s *signing) { s.at = s.at.Add(-2 * time.Minute) }).request(t, "/orders", "one"), 401, "signature_stale"},
			{"by another secret", with(func(s *signing) { s.secret = "x" }).request(t, "/orders", "one"), 401, "unauthenticated"},
			{"by another key", with(func(s *signing) { s.key = "x" }).request(t, "/orders", "one"), 401, "unauthenticated"},
			{"with a nonce", nonce.request(t, "/orders", "one"), 200, ""},
			{"with the nonce again", nonce.request(t, "/orders", "one"), 401, "signature_replayed"},
		} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				status, body := exchanged(t, tr, tt.req)
				if status != tt.want || !strings.Contains(body, tt.code) {
					t.Fatalf("%d %s, want %d %s", status, body, tt.want, tt.code)
				}
				if status != http.StatusOK {
					return
				}
				if e := harness.ReadEcho(t, body); e.Header.Get("Signature")+e.Header.Get("Signature-Input") != "" || e.Header.Get("Content-Digest") == "" {
					t.Errorf("the service gets %v", e.Header)
				}
			})
		}
	}
	t.Run("taken away", func(t *testing.T) {
		tr := dialTLS{addr: addr, sni: "payments.test", roots: poolOf(ca)}.transport(false)
		defer tr.CloseIdleConnections()
		g.AwaitRevision(c.Apply(strings.ReplaceAll(document, "shop-2026", "shop-2027")))
		if status, body := exchanged(t, tr, shop.request(t, "/orders", "one")); status != 401 {
			t.Errorf("a key that was taken away is answered %d %s", status, body)
		}
		next := with(func(s *signing) { s.key = "shop-2027" })
		if status, body := exchanged(t, tr, next.request(t, "/orders", "one")); status != 200 {
			t.Errorf("the new key is answered %d %s", status, body)
		}
	})
}

func exchanged(t *testing.T, tr http.RoundTripper, req *http.Request) (int, string) {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body.String()
}
