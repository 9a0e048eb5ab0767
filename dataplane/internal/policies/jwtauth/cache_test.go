package jwtauth_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/jwtauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/jwk"
	"keyward.dev/shared/testkit"
)

// world is a gateway as far as the policy sees it.
type world struct {
	host      *hostsvc.Services
	directory *directory.Directory
	now       time.Time
	mu        sync.Mutex
	body      []byte
	err       error
	fetched   int
	group     policy.Group
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{host: hostsvc.New(hostsvc.Config{}), now: time.Now(), directory: directory.New()}
	w.host.KeySets = hostsvc.NewKeySets(func(context.Context, hostsvc.KeySource) (hostsvc.Fetched, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fetched++
		return hostsvc.Fetched{Body: w.body}, w.err
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.host.KeySets.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *world) publish(err error, keys ...*tokentest.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body, w.err = tokentest.Set(keys...), err
}

func (w *world) edit(change func(*directory.Editor)) {
	e := w.directory.Edit()
	change(e)
	w.directory = e.Directory()
}

func (w *world) build(t testing.TB, cfg *policyv1.JwtAuth) policy.Policy {
	t.Helper()
	p, err := jwtauth.Build(cfg, policy.Deps{
		Binding: policy.Identity{Type: "jwt-auth", Name: "jwt-auth", OwnerKind: "routes", OwnerUID: "r"}, Host: w.host, Group: w.group, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask returns the principal of a token, or the status and the reason of the refusal.
func (w *world) ask(p policy.Policy, raw string) (who *exchange.Principal, status int, reason string) {
	x := &exchange.Exchange{Directory: w.directory}
	x.Timings.Received = w.now
	x.Request.Header.Add(exchange.Field("Authorization", "Bearer "+raw))
	if p.Request(x) == policy.Next {
		return x.Principal, 200, ""
	}
	return nil, x.Refusal().Status(), x.Refusal().Reason()
}

func (w *world) claims(more map[string]any) map[string]any {
	c := map[string]any{"iss": "i", "sub": "alice", "exp": w.now.Unix() + 600}
	maps.Copy(c, more)
	return c
}

func fetched() *policyv1.JwtAuth {
	return &policyv1.JwtAuth{Issuers: []*policyv1.JwtIssuer{{
		Name: "i", Issuer: "i", JwksUri: "https://id.test/jwks", Timeout: durationpb.New(time.Second), StaleBound: durationpb.New(0),
	}}}
}

func static(t testing.TB, k *tokentest.Key) *policyv1.JwtAuth {
	t.Helper()
	return &policyv1.JwtAuth{Issuers: []*policyv1.JwtIssuer{{Name: "i", Issuer: "i", PublicKeys: []string{k.PEM(t)}}}}
}

func TestWhoMayWaitSaysSo(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	w.publish(nil, k)
	if _, waits := w.build(t, fetched()).(policy.Waiter); !waits {
		t.Error("keys are fetched, and nobody is told that requests wait")
	}
	if _, waits := w.build(t, static(t, k)).(policy.Waiter); waits {
		t.Error("nothing is fetched, and requests are said to wait")
	}
}

func TestARotationLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := tokentest.NewKey(t, jwk.ES256, "one"), tokentest.NewKey(t, jwk.ES256, "two")
	w.publish(nil, one)
	p := w.build(t, fetched())
	old := one.Token(nil, w.claims(nil))
	if _, status, why := w.ask(p, old); status != 200 {
		t.Fatalf("%d %s", status, why)
	}
	w.publish(nil, one, two)
	if _, status, why := w.ask(p, two.Token(nil, w.claims(nil))); status != 200 {
		t.Errorf("a token of the new key: %d %s", status, why)
	}
	before, _, _ := w.ask(p, old)
	after, status, _ := w.ask(w.build(t, fetched()), old)
	if status != 200 || before != after {
		t.Error("what was verified does not survive a push that does not concern it")
	}
	w.publish(nil, two)
	if _, status, _ := w.ask(p, two.Token(map[string]any{"kid": "three"}, w.claims(nil))); status != 401 {
		t.Errorf("an unknown key: %d", status)
	}
	if _, status, why := w.ask(p, old); status != 401 || why != string(token.NoKey) {
		t.Errorf("a token that was verified, of a key that was removed: %d %s", status, why)
	}
}

// Whoever makes up names of keys uses up the fetches for such: what is really added meanwhile is not called wrong.
func TestMadeUpNamesOfKeysRefuseNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := tokentest.NewKey(t, jwk.ES256, "one"), tokentest.NewKey(t, jwk.ES256, "two")
	w.publish(nil, one)
	p := w.build(t, fetched())
	statuses := map[int]int{}
	for range 20 {
		_, status, _ := w.ask(p, one.Token(map[string]any{"kid": "made up"}, w.claims(nil)))
		statuses[status]++
	}
	if statuses[401] != 3 || statuses[503] != 17 {
		t.Errorf("statuses %v, want 401 for what was looked up, 503 for what was not", statuses)
	}
	w.publish(nil, one, two)
	if _, status, why := w.ask(p, two.Token(nil, w.claims(nil))); status != 503 || why != "token_key_not_looked_up" {
		t.Errorf("a new key that was not looked up: %d %s", status, why)
	}
	if _, status, why := w.ask(p, two.Token(nil, w.claims(map[string]any{"exp": 1000}))); status != 401 || why != string(token.Expired) {
		t.Errorf("a token that no key would save: %d %s", status, why)
	}
	if _, status, why := w.ask(p, one.Token(nil, w.claims(map[string]any{"sub": "bob"}))); status != 200 {
		t.Errorf("a key that is known: %d %s", status, why)
	}
}

func TestKeysWithoutNamesMayRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := tokentest.NewKey(t, jwk.ES256, ""), tokentest.NewKey(t, jwk.ES256, "")
	w.publish(nil, one)
	p := w.build(t, fetched())
	w.ask(p, one.Token(nil, w.claims(nil)))
	w.publish(nil, two)
	if _, status, why := w.ask(p, two.Token(nil, w.claims(nil))); status != 200 {
		t.Errorf("%d %s", status, why)
	}
	if _, status, why := w.ask(p, tokentest.NewKey(t, jwk.ES256, "").Token(nil, w.claims(nil))); status != 401 || why != string(token.Signature) {
		t.Errorf("a key that nobody has published: %d %s", status, why)
	}
}

func TestAnOutageIsNoRefusal(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.ES256, "k")
	w.publish(errors.New("down"), k)
	p := w.build(t, fetched())
	if _, status, why := w.ask(p, k.Token(nil, w.claims(nil))); status != 503 || why != "token_keys_unavailable" {
		t.Errorf("keys were never there: %d %s", status, why)
	}
	if _, status, _ := w.ask(p, "x.y.z"); status != 401 {
		t.Errorf("garbage needs no keys: %d", status)
	}
	if _, status, _ := w.ask(p, k.Token(nil, w.claims(map[string]any{"iss": "j"}))); status != 401 {
		t.Errorf("somebody else's token needs none of these keys: %d", status)
	}

	w.publish(nil, k)
	cfg := fetched()
	cfg.Issuers[0].Refresh = durationpb.New(time.Minute)
	p = w.build(t, cfg)
	if _, status, why := w.ask(p, k.Token(nil, w.claims(nil))); status != 200 {
		t.Fatalf("%d %s", status, why)
	}
	w.publish(errors.New("down"), k)
	if _, status, why := w.ask(p, k.Token(map[string]any{"kid": "new"}, w.claims(nil))); status != 503 {
		t.Errorf("a key that may have been added: %d %s", status, why)
	}
	if _, status, why := w.ask(p, k.Token(nil, w.claims(map[string]any{"sub": "bob"}))); status != 200 {
		t.Errorf("a key that is there: %d %s", status, why)
	}
}

func TestAChangedConfigurationVerifiesAgain(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	raw := k.Token(nil, w.claims(nil))
	if _, status, why := w.ask(w.build(t, static(t, k)), raw); status != 200 {
		t.Fatalf("%d %s", status, why)
	}
	stricter := static(t, k)
	stricter.Audiences = []string{"api"}
	if _, status, _ := w.ask(w.build(t, stricter), raw); status != 401 {
		t.Errorf("%d after a change", status)
	}
	if _, status, _ := w.ask(w.build(t, static(t, tokentest.NewKey(t, jwk.EdDSA, ""))), raw); status != 401 {
		t.Errorf("%d after the key was replaced", status)
	}
}

func TestWhatIsRememberedFollowsTheDirectory(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	keys, err := jwk.Parse(k.PEM(t))
	if err != nil {
		t.Fatal(err)
	}
	own := func(keys []*jwk.Key, expires time.Time) func(*directory.Editor) {
		return func(e *directory.Editor) {
			e.PutCredential(directory.Credential{
				UID: "c", Name: "own", Type: "jwt-auth", Consumer: "alice", Expires: expires,
				Hash: exchange.NameHash("jwt-auth", []byte("alice-app")), Material: &token.OwnKey{Keys: keys},
			})
		}
	}
	alice := func(groups ...string) func(*directory.Editor) {
		return func(e *directory.Editor) {
			e.PutConsumer(directory.Consumer{UID: "a", Name: "alice", Groups: groups})
		}
	}
	w.edit(alice("gold"))
	w.edit(own(keys, time.Time{}))
	cfg := static(t, tokentest.NewKey(t, jwk.ES256, ""))
	cfg.Issuers[0].PublicKeys = append(cfg.Issuers[0].PublicKeys, k.PEM(t))
	cfg.ConsumerBy = []policyv1.JwtConsumerBy{policyv1.JwtConsumerBy_JWT_CONSUMER_BY_NAME}
	p := w.build(t, cfg)
	issued, signed := k.Token(nil, w.claims(nil)), k.Token(nil, w.claims(map[string]any{"iss": "alice-app"}))
	expect := func(when, raw string, status int, groups string) {
		t.Helper()
		for range 2 {
			who, got, why := w.ask(p, raw)
			if got != status || status == 200 && (len(who.Groups) != 1 || who.Groups[0] != groups) {
				t.Errorf("%s: %d %s, %+v", when, got, why, who)
			}
		}
	}
	expect("issued", issued, 200, "gold")
	expect("signed", signed, 200, "gold")
	w.edit(alice("silver"))
	expect("issued, groups changed", issued, 200, "silver")
	expect("signed, groups changed", signed, 200, "silver")
	w.edit(own(keys, w.now.Add(time.Minute)))
	expect("signed, expires later", signed, 200, "silver")
	before := w.now
	w.now = w.now.Add(time.Minute)
	expect("signed, expired", signed, 401, "")
	w.now = before
	w.edit(own(nil, time.Time{}))
	expect("signed, key replaced", signed, 401, "")
	w.edit(own(keys, time.Time{}))
	expect("signed, key put back", signed, 200, "silver")
	w.edit(func(e *directory.Editor) { e.RemoveCredential("c") })
	expect("signed, credential revoked", signed, 401, "")
	expect("issued, another's credential revoked", issued, 200, "silver")
	w.edit(func(e *directory.Editor) { e.RemoveConsumer("alice") })
	expect("issued, consumer removed", issued, 401, "")
}

// Where nobody may wait, the keys of a consumer that are kept elsewhere are there already, and what is not there is fetched for
// the next time.
func TestKeysOfConsumersWhereNobodyWaits(t *testing.T) {
	t.Parallel()
	w, issuer := newWorld(t), tokentest.NewKey(t, jwk.ES256, "")
	one, two := tokentest.NewKey(t, jwk.ES256, "one"), tokentest.NewKey(t, jwk.ES256, "two")
	w.publish(nil, one)
	const url = "https://alice.test/jwks"
	own := &token.OwnKey{URL: url, Held: w.host.KeySets.Hold(hostsvc.KeysAt(url))}
	w.edit(func(e *directory.Editor) {
		e.PutConsumer(directory.Consumer{UID: "a", Name: "alice"})
		e.PutCredential(directory.Credential{
			UID: "c", Name: "own", Type: "jwt-auth", Consumer: "alice", Hash: exchange.NameHash("jwt-auth", []byte("alice-app")), Material: own,
		})
	})
	w.host.KeySets.Open(hostsvc.KeysAt(url)).Keys() // as long as it takes to be fetched
	p := w.build(t, static(t, issuer))
	if _, waits := p.(policy.Waiter); waits {
		t.Fatal("it waits")
	}
	ask := func(k *tokentest.Key) (int, string) {
		_, status, why := w.ask(p, k.Token(nil, w.claims(map[string]any{"iss": "alice-app"})))
		return status, why
	}
	if status, why := ask(one); status != 200 {
		t.Errorf("the first token: %d %s", status, why)
	}
	w.publish(nil, two)
	if status, why := ask(two); status != 503 {
		t.Errorf("a new key: %d %s", status, why)
	}
	testkit.Await(t, 10*time.Second, func() error {
		if status, why := ask(two); status != 200 {
			return fmt.Errorf("a new key once it is fetched: %d %s", status, why)
		}
		return nil
	})
	if status, why := ask(one); status != 401 {
		t.Errorf("a key that was withdrawn: %d %s", status, why)
	}
}

// A token whose end is far is remembered, too, and a principal is one for all its requests.
func TestAPrincipalIsMadeOnce(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	cfg := static(t, k)
	cfg.RequireExpiry = new(bool)
	p := w.build(t, cfg)
	for name, exp := range map[string]any{"soon": w.now.Unix() + 10, "far": w.now.Unix() + 1e6, "never": nil} {
		c := w.claims(map[string]any{"exp": exp})
		if exp == nil {
			delete(c, "exp")
		}
		raw := k.Token(nil, c)
		a, _, why := w.ask(p, raw)
		b, _, _ := w.ask(p, raw)
		if a == nil || a != b {
			t.Errorf("%s: %p and %p, %s", name, a, b, why)
		}
	}
}

// certificates is a group with certificates.
type certificates struct {
	policy.Group
	versions map[string][]*certs.Version
}

func (c certificates) Certificate(reference string) ([]*certs.Version, error) {
	if v := c.versions[reference]; v != nil {
		return v, nil
	}
	return nil, errors.New("there is none")
}

func TestTheKeyOfACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	current, next := tokentest.NewKey(t, jwk.ES256, "a"), tokentest.NewKey(t, jwk.ES256, "b")
	version := func(k *tokentest.Key) *certs.Version {
		return &certs.Version{Chain: []*x509.Certificate{{PublicKey: k.Private().Public()}}}
	}
	w.group = certificates{versions: map[string][]*certs.Version{"idp": {version(current), version(next)}}}
	cfg := &policyv1.JwtAuth{Issuers: []*policyv1.JwtIssuer{{Name: "i", Issuer: "i", Certificate: "idp"}}}
	p := w.build(t, cfg)
	raw := current.Token(nil, w.claims(nil))
	if _, status, why := w.ask(p, raw); status != 200 {
		t.Errorf("%d %s", status, why)
	}
	for k, want := range map[*tokentest.Key]int{current: 200, next: 200, tokentest.NewKey(t, jwk.ES256, "a"): 401} {
		if _, status, why := w.ask(p, k.Token(nil, w.claims(nil))); status != want {
			t.Errorf("%d %s, want %d", status, why, want)
		}
	}
	w.group = certificates{versions: map[string][]*certs.Version{"idp": {version(next)}}}
	if _, status, why := w.ask(w.build(t, cfg), raw); status != 401 {
		t.Errorf("%d %s for a token that was verified with a certificate that is gone", status, why)
	}
	cfg.Issuers[0].Certificate = "other"
	if _, err := jwtauth.Build(cfg, policy.Deps{Host: w.host, Group: w.group}); err == nil {
		t.Error("a certificate that is not there is a key")
	}
}
