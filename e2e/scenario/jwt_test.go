package scenario_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// identityProvider publishes keys and signs tokens with the newest of them.
type identityProvider struct {
	url string

	mu      sync.Mutex
	keys    []map[string]any
	newest  *ecdsa.PrivateKey
	kid     int
	ailment string // down, slow, garbage; empty: none
	ended   chan struct{}
}

// newIdentityProvider starts one, over TLS if it has a certificate.
func newIdentityProvider(t *testing.T, certificate ...*certtest.Cert) *identityProvider {
	t.Helper()
	p := &identityProvider{ended: make(chan struct{})}
	s := httptest.NewUnstartedServer(p)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if len(certificate) > 0 {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate[0].Cert.Raw}, PrivateKey: certificate[0].Key}}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		close(p.ended)
		s.Close()
	})
	p.url = s.URL
	p.rotate(t)
	return p
}

// newKey makes a key for ES256, with what is public of it as a JWK.
func newKey(t *testing.T) (*ecdsa.PrivateKey, map[string]any) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return key, map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

// rotate adds a key, signs with it at once, and keeps the one before.
func (p *identityProvider) rotate(t *testing.T) {
	t.Helper()
	key, jwk := newKey(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kid++
	p.newest = key
	jwk["use"], jwk["alg"], jwk["kid"] = "sig", "ES256", fmt.Sprint(p.kid)
	p.keys = append(p.keys, jwk)
	p.keys = p.keys[max(0, len(p.keys)-2):]
}

func (p *identityProvider) ail(ailment string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ailment = ailment
}

func (p *identityProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	ailment, keys := p.ailment, p.keys
	p.mu.Unlock()
	switch ailment {
	case "down":
		w.WriteHeader(http.StatusInternalServerError)
	case "slow":
		select {
		case <-r.Context().Done():
		case <-p.ended:
		}
	case "garbage":
		fmt.Fprint(w, "<html>welcome")
	default:
		if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.url, p.url+"/jwks")
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token signs a token that is valid for a minute. A kid may be given in the place of that of the key.
func (p *identityProvider) token(t testing.TB, kid string, more map[string]any) string {
	t.Helper()
	p.mu.Lock()
	key := p.newest
	if kid == "" {
		kid = fmt.Sprint(p.kid)
	}
	p.mu.Unlock()
	claims := map[string]any{"iss": p.url, "sub": "alice", "aud": "api", "exp": time.Now().Add(time.Minute).Unix(), "jti": rand.Text()}
	maps.Copy(claims, more)
	return signed(t, key, map[string]any{"typ": "JWT", "kid": kid}, claims)
}

// signed is a token that is signed by ES256.
func signed(t testing.TB, key *ecdsa.PrivateKey, header, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b64(b)
	}
	header = maps.Clone(header)
	header["alg"] = "ES256"
	input := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// TestTokensOfAnIdentityProvider has callers come with tokens whose keys gateways fetch, while those rotate in the middle of
// traffic, and while the provider is down, slow and answers garbage.
func TestTokensOfAnIdentityProvider(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	p := newIdentityProvider(t)
	const aliceKey = "Zq7xV2mN9pL4tR8wB1cD5fG9"
	document := fmt.Sprintf(`group: default
settings: {require_https: false}
services: [{name: s, url: "http://%s"}]
routes:
  - name: tokens
    service: s
    hosts: tokens.test
    policies:
      - type: jwt-auth
        config:
          issuers: [{name: idp, issuer: %q, jwks_uri: "%s/jwks", timeout: 1s}]
          audiences: api
          scope_groups: {"read:transfers": readers}
  - name: found
    service: s
    hosts: found.test
    policies: [{type: jwt-auth, config: {issuers: [{name: idp, issuer: %q, discovery: true}], consumer_by: name}}]
  - {name: keys, service: s, hosts: keys.test, policies: [{type: key-auth}]}
consumers: [{name: alice, credentials: [{name: key, type: key-auth, config: {key: %s}}]}]
`, harness.Echo(t), p.url, p.url, p.url, aliceKey)
	g := c.StartGateway("default")
	g.AwaitRevision(c.Apply(document))
	with := func(host, token string) int {
		status, _ := g.Get(t, host, "/", "Authorization", "Bearer "+token)
		return status
	}
	expect := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	expect("a token", with("tokens.test", p.token(t, "", nil)), 200)
	expect("a token, keys discovered", with("found.test", p.token(t, "", nil)), 200)
	expect("nobody's token", with("found.test", p.token(t, "", map[string]any{"sub": "eve"})), 401)
	expect("no token", with("tokens.test", ""), 401)
	expect("an expired token", with("tokens.test", p.token(t, "", map[string]any{"exp": time.Now().Add(-time.Second).Unix()})), 401)
	expect("a token for somebody else", with("tokens.test", p.token(t, "", map[string]any{"aud": "other"})), 401)
	expect("a key that is nobody's", with("tokens.test", p.token(t, "../../etc/passwd", nil)), 401)

	t.Run("rotation", func(t *testing.T) { rotateInTraffic(t, g, p) })

	known := p.token(t, "", nil)
	expect("a token of the newest key", with("tokens.test", known), 200)
	for _, ailment := range []string{"down", "garbage", "slow"} {
		p.ail(ailment)
		begin := time.Now()
		awaitTokens(t, ailment+": a token of a key that may be new", 503, func() int { return with("tokens.test", p.token(t, "new-"+ailment, nil)) })
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("%s: it took %v", ailment, took)
		}
		expect(ailment+": a token that is known", with("tokens.test", known), 200)
		expect(ailment+": another token of a key that is known", with("tokens.test", p.token(t, "", nil)), 200)
		expect(ailment+": an expired token", with("tokens.test", p.token(t, "", map[string]any{"exp": 1})), 401)
		status, _ := g.Get(t, "keys.test", "/", "X-API-Key", aliceKey)
		expect(ailment+": a key", status, 200)
	}
	p.ail("")
	p.rotate(t)
	awaitTokens(t, "a token of a new key once the provider is back", 200, func() int { return with("tokens.test", p.token(t, "", nil)) })
}

// awaitTokens asks until the answer is as it should be: how often an unknown key has keys fetched is bounded.
func awaitTokens(t *testing.T, what string, want int, ask func() int) {
	t.Helper()
	testkit.Await(t, 30*time.Second, func() error {
		if got := ask(); got != want {
			return fmt.Errorf("%s: %d, want %d", what, got, want)
		}
		return nil
	})
}

// rotateInTraffic has several clients come with fresh tokens as fast as they can while the keys rotate.
func rotateInTraffic(t *testing.T, g *harness.Gateway, p *identityProvider) {
	var asked, lost atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				if status, body := g.Get(t, "tokens.test", "/", "Authorization", "Bearer "+p.token(t, "", nil)); status != 200 {
					if lost.Add(1) == 1 {
						t.Logf("%d %s", status, body)
					}
				}
			}
		})
	}
	for _, after := range []int64{300, 600} {
		testkit.Await(t, time.Minute, func() error {
			if n := asked.Load(); n < after {
				return fmt.Errorf("%d requests", n)
			}
			return nil
		})
		p.rotate(t)
	}
	testkit.Await(t, time.Minute, func() error {
		if n := asked.Load(); n < 1000 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	close(stop)
	clients.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d requests were refused", n, asked.Load())
	}
}
