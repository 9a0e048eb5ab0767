package scenario_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// tokenTaker is a service that verifies what the gateway signs with the keys that the gateway publishes, fetched when it gets a
// token: that is as early as any service can have them.
type tokenTaker struct {
	keys func() (*jose.JSONWebKeySet, error)

	mu    sync.Mutex
	kids  map[string]int
	wrong []string
}

func (s *tokenTaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kid, err := s.verify(r.Header.Get("Authorization"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.wrong = append(s.wrong, err.Error())
	}
	s.kids[kid]++
	fmt.Fprint(w, kid)
}

func (s *tokenTaker) verify(field string) (kid string, err error) {
	raw, _ := strings.CutPrefix(field, "Bearer ")
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return "", fmt.Errorf("parse %q: %w", field, err)
	}
	kid = parsed.Headers[0].KeyID
	set, err := s.keys()
	if err != nil {
		return kid, err
	}
	var standard jwt.Claims
	var own struct {
		Consumer string `json:"consumer"`
		Env      string `json:"env"`
	}
	if err := parsed.Claims(set, &standard, &own); err != nil {
		return kid, fmt.Errorf("verify: %w", err)
	}
	expected := jwt.Expected{Issuer: "https://api.bank.test", AnyAudience: jwt.Audience{"ledger"}, Subject: "shop", Time: time.Now()}
	if err := standard.ValidateWithLeeway(expected, time.Second); err != nil {
		return kid, err
	}
	if own.Consumer != "shop" || own.Env != "test" || standard.ID == "" {
		return kid, fmt.Errorf("claims are %+v %+v", standard, own)
	}
	return kid, nil
}

// seen returns how many tokens were signed with a key, and what was wrong with any.
func (s *tokenTaker) seen(kid string) (n int, wrong []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kids[kid], s.wrong
}

// TestServicesVerifyWhatTheGatewaySigns applies the example of the policy's page and rotates the key in the middle of traffic, to
// keys of other kinds.
func TestServicesVerifyWhatTheGatewaySigns(t *testing.T) {
	t.Parallel()
	const host, caller = "api.bank.test", "Zq7xV2mN9pL4tR8wB1cD5fG9"
	s := store{t, harness.New(t, harness.Options{})}
	taker := &tokenTaker{kids: map[string]int{}}
	up := httptest.NewServer(taker)
	t.Cleanup(up.Close)
	add := func(c *certtest.Cert, stage string) {
		t.Helper()
		s.call(http.StatusCreated, http.MethodPost, certificates+"?name=signing&stage="+stage, c.PEM()+c.KeyPEM(t), "Content-Type", "application/x-pem-file")
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	first := certtest.SelfSigned(t, "first")
	second, third := certtest.SelfSigned(t, "second", certtest.Key(long)), certtest.SelfSigned(t, "third", certtest.Key(edwards))
	add(first, "current")
	g := s.StartGateway("default")
	taker.keys = func() (*jose.JSONWebKeySet, error) { return publishedKeys(g, host) }
	page := strings.Replace(example(t, "jwt-signer"), "group: default\n", "group: default\nsettings: {require_https: false}\n", 1)
	g.AwaitRevision(s.Apply(strings.ReplaceAll(page, "127.0.0.1:9000", up.Listener.Addr().String())))
	if status, _ := g.Get(t, host, "/", "Authorization", "Bearer forged"); status != 401 {
		t.Errorf("nobody: %d", status)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if status, body := g.Get(t, host, "/", "X-API-Key", caller, "Authorization", "Bearer forged"); status != 200 {
					t.Errorf("in traffic: %d %s", status, body)
					return
				}
			}
		}
	}()
	await := func(c *certtest.Cert) {
		t.Helper()
		testkit.Await(t, 30*time.Second, func() error {
			if n, wrong := taker.seen(c.ID()); n <= 10 {
				return fmt.Errorf("%d tokens of %s; wrong ones: %v", n, c.Cert.Subject.CommonName, wrong)
			}
			return nil
		})
	}
	await(first)
	for _, c := range []*certtest.Cert{second, third} {
		add(c, "next")
		testkit.Await(t, 30*time.Second, func() error {
			set, err := publishedKeys(g, host)
			if err == nil && len(set.Key(c.ID())) != 1 {
				err = fmt.Errorf("the next key is not published: %+v", set)
			}
			return err
		})
		s.call(http.StatusOK, http.MethodPost, certificates+"/signing:promote", "{}")
		await(c)
	}
	close(stop)
	<-done
	if _, wrong := taker.seen(""); len(wrong) > 0 {
		t.Errorf("%d tokens that the service could not take: %s", len(wrong), wrong[0])
	}
	if set, err := publishedKeys(g, host); err != nil || len(set.Key(first.ID())) != 0 || len(set.Key(second.ID())) != 1 {
		t.Errorf("published in the end: %+v, %v", set, err)
	}
}

// publishedKeys fetches the key set of the page's route.
func publishedKeys(g *harness.Gateway, host string) (*jose.JSONWebKeySet, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+g.HTTP+"/.well-known/jwks.json", nil) //nolint:noctx // a test's own gateway
	if err != nil {
		return nil, err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/jwk-set+json" {
		return nil, fmt.Errorf("keys are answered %d %v", resp.StatusCode, resp.Header)
	}
	set := &jose.JSONWebKeySet{}
	return set, json.NewDecoder(resp.Body).Decode(set)
}
