package hmacauth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/credentials"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/hmacauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

const secret = "correct-horse-battery-staple-0001"

// gateway is what the policy meets in one: services that stay, and a table of credentials.
type gateway struct {
	host                      *hostsvc.Services
	directory                 *directory.Directory
	now                       time.Time
	method, target, authority []byte
}

func newGateway(t testing.TB, creds ...directory.Credential) *gateway {
	t.Helper()
	e := directory.New().Edit()
	e.PutConsumer(directory.Consumer{UID: "u", Name: "alice"})
	for i, c := range creds {
		c.UID, c.Consumer = fmt.Sprint("c", i), "alice"
		e.PutCredential(c)
	}
	return &gateway{
		host: hostsvc.New(hostsvc.Config{}), directory: e.Directory(), now: time.Now(),
		method: []byte("GET"), target: []byte("/a"), authority: []byte("hello.test"),
	}
}

func credential(t testing.TB, cfg *credentialv1.HmacAuth) directory.Credential {
	t.Helper()
	c, reason := credentials.Read(&configv1.Credential{Name: "c", Type: "hmac-auth", Consumer: "alice"}, cfg, true)
	if reason != "" {
		t.Fatalf("the credential does not count: %s", reason)
	}
	return c
}

func withSecret(t testing.TB, id string) directory.Credential {
	t.Helper()
	return credential(t, &credentialv1.HmacAuth{KeyId: id, Secret: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: secret}}})
}

func (g *gateway) build(t testing.TB, owner string, cfg *policyv1.HmacAuth) *policy.Chain {
	t.Helper()
	id := policy.Identity{Type: "hmac-auth", Name: "hmac-auth", OwnerKind: "routes", OwnerUID: owner, OwnerName: owner}
	p, err := hmacauth.Build(cfg, policy.Deps{Binding: id, Host: g.host, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return policy.NewRoute(nil, [][]policy.Link{{{Binding: id, Policy: p}}}, nil)
}

// signed returns the fields of a signature of RFC 9421 by HMAC over GET /a at hello.test.
func signed(at time.Time, key, by, more string) exchange.Headers {
	input := fmt.Sprintf(`("@method" "@target-uri");created=%d;keyid="%s"%s`, at.Unix(), key, more)
	mac := hmac.New(sha256.New, []byte(by))
	fmt.Fprintf(mac, "\"@method\": GET\n\"@target-uri\": https://hello.test/a\n\"@signature-params\": %s", input)
	return exchange.Headers{
		exchange.Field("Host", "hello.test"), exchange.Field("Signature-Input", "s="+input),
		exchange.Field("Signature", "s=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":"),
	}
}

// fill makes the exchange a request with these fields.
func (g *gateway) fill(x *exchange.Exchange, fields exchange.Headers) {
	x.Reset()
	q := &x.Request
	q.Method, q.RawTarget, q.Authority, q.Scheme, q.Proto = g.method, g.target, g.authority, "https", 11
	q.Header = append(q.Header, fields...)
	x.Directory, x.Timings.Received = g.directory, g.now
}

func (g *gateway) status(c *policy.Chain, fields exchange.Headers) int {
	x := &exchange.Exchange{}
	if g.fill(x, fields); c.Request(x) == policy.Next {
		return 200
	}
	return x.Response.Status
}

// A push makes policies anew. What was used up stays used up, on the route it was used on.
func TestNoncesSurviveAPush(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withSecret(t, "a"))
	fields := signed(g.now, "a", secret, `;nonce="1"`)
	if got := g.status(g.build(t, "r", &policyv1.HmacAuth{}), fields); got != 200 {
		t.Fatalf("a fresh nonce is answered %d", got)
	}
	if got := g.status(g.build(t, "r", &policyv1.HmacAuth{Realm: "changed"}), fields); got != 401 {
		t.Errorf("a nonce that was used before a push is answered %d", got)
	}
	if got := g.status(g.build(t, "another", &policyv1.HmacAuth{}), fields); got != 200 {
		t.Errorf("on another route it is answered %d", got)
	}
}

// A key that is taken away counts no more with the next push, whatever else stays.
func TestRevokedKeysDoNotSurviveAPush(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withSecret(t, "a"))
	c := g.build(t, "r", &policyv1.HmacAuth{})
	if got := g.status(c, signed(g.now, "a", secret, "")); got != 200 {
		t.Fatalf("answered %d", got)
	}
	e := g.directory.Edit()
	e.RemoveCredential("c0")
	g.directory = e.Directory()
	if got := g.status(c, signed(g.now, "a", secret, "")); got != 401 {
		t.Errorf("a key that was taken away is answered %d", got)
	}
}

// When nothing can be remembered, what counts once is not taken, and what need not be remembered is.
func TestWhatCannotBeRememberedIsNotTaken(t *testing.T) {
	t.Parallel()
	g := newGateway(t, withSecret(t, "a"))
	g.host = hostsvc.New(hostsvc.Config{MaxReplayEntries: 1}) // one a shard
	c := g.build(t, "r", &policyv1.HmacAuth{})
	answers := map[int]int{}
	for i := range 1000 {
		answers[g.status(c, signed(g.now, "a", secret, fmt.Sprintf(`;nonce="%d"`, i)))]++
	}
	if answers[200] == 0 || answers[200] > 64 || answers[503] != 1000-answers[200] {
		t.Errorf("answers are %v", answers)
	}
	if got := g.status(c, signed(g.now, "a", secret, "")); got != 200 {
		t.Errorf("without a nonce it is answered %d", got)
	}
}

// A credential whose secret is kept elsewhere, and has not been read yet, is not refused: nobody can tell.
func TestUnresolvedSecretsAreAnOutage(t *testing.T) {
	t.Parallel()
	cfg := &credentialv1.HmacAuth{KeyId: "later", Secret: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://corp/a#b}"}}}
	later, reason := credentials.Read(&configv1.Credential{Name: "c", Type: "hmac-auth", Consumer: "alice"}, cfg, false)
	if reason != "" {
		t.Fatal(reason)
	}
	g := newGateway(t, withSecret(t, "a"), later)
	c := g.build(t, "r", &policyv1.HmacAuth{})
	for id, want := range map[string]int{"later": 503, "a": 200, "nobody": 401} {
		if got := g.status(c, signed(g.now, id, secret, "")); got != want {
			t.Errorf("%s is answered %d, want %d", id, got, want)
		}
	}
}

// Nobody finds out which keys there are: the answers are the same to the letter.
func TestAnswersDoNotTellWhichKeysThereAre(t *testing.T) {
	t.Parallel()
	ended := withSecret(t, "ended")
	ended.Expires = time.Now().Add(-time.Hour)
	g := newGateway(t, withSecret(t, "a"), ended)
	c := g.build(t, "r", &policyv1.HmacAuth{})
	var first string
	for _, fields := range []exchange.Headers{
		signed(g.now, "a", secret+"x", ""), signed(g.now, "nobody", secret, ""), signed(g.now, "ended", secret, ""), signed(g.now, strings.Repeat("a", 300), secret, ""),
		signed(g.now, "a", secret, `;alg="ed25519"`),
	} {
		x := &exchange.Exchange{}
		g.fill(x, fields)
		x.SetID(exchange.ID{1})
		c.Request(x)
		got := fmt.Sprint(x.Response.Status, x.Response.Header, string(x.Response.Body))
		if first == "" {
			first = got
		}
		if got != first || x.Response.Status != 401 {
			t.Errorf("answer is\n%s\nwant\n%s", got, first)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	for name, cfg := range map[string]*policyv1.HmacAuth{
		"format":    {Formats: []string{"saml"}},
		"algorithm": {Algorithms: []string{"hmac-sha1"}},
		"component": {Required: []string{"@status"}},
		"realm":     {Realm: `a"b`},
		"nonce":     {RequireNonce: true, Replay: policyv1.HmacAuthReplay_HMAC_AUTH_REPLAY_OFF},
	} {
		if _, err := hmacauth.Build(cfg, policy.Deps{Host: g.host}); err == nil {
			t.Errorf("%s: Build() = nil error", name)
		}
	}
}
