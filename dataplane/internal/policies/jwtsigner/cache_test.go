package jwtsigner_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/jwtsigner"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/policytest"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/check/jwk"
)

// place is a gateway with one certificate, across pushes.
type place struct {
	policy.Group
	host     *hostsvc.Services
	versions []*certs.Version
}

func (p *place) Certificate(string) ([]*certs.Version, error) {
	if len(p.versions) == 0 {
		return nil, errors.New("does not exist")
	}
	return p.versions, nil
}

func newPlace(t testing.TB, alg jwk.Algorithm) *place {
	return &place{host: hostsvc.New(hostsvc.Config{}), versions: []*certs.Version{version(t, alg, "first")}}
}

func version(t testing.TB, alg jwk.Algorithm, id string) *certs.Version {
	return &certs.Version{ID: id, Key: tokentest.NewKey(t, alg, id).Private()}
}

func config() *policyv1.JwtSigner {
	return &policyv1.JwtSigner{Certificate: "gateway", Issuer: "gw", Audience: []string{"ledger"}}
}

// build is what each push does.
func (p *place) build(t testing.TB, cfg *policyv1.JwtSigner, name string) policy.Policy {
	t.Helper()
	built, err := jwtsigner.Build(proto.CloneOf(cfg), policy.Deps{
		Binding: policy.Identity{Type: "jwt-signer", Name: name, OwnerKind: "routes", OwnerUID: "uid"}, Host: p.host, Group: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// call lets somebody pass and returns the token.
func call(t testing.TB, pol policy.Policy, who *exchange.Principal, later time.Duration, proofs ...*exchange.Principal) string {
	t.Helper()
	x := &exchange.Exchange{Principal: who, Proofs: proofs}
	x.Timings.Received = policytest.Epoch().Add(later)
	if pol.Request(x) != policy.Next {
		t.Fatal(x.Refusal().Reason())
	}
	return string(x.Request.Header.Get("Authorization"))
}

func alice() *exchange.Principal {
	return &exchange.Principal{Kind: exchange.KindUser, Consumer: "alice", ConsumerUID: "1"}
}

func TestWhatATokenIsRememberedBy(t *testing.T) {
	t.Parallel()
	p, who := newPlace(t, jwk.ES256), alice()
	pol := p.build(t, config(), "a")
	first := call(t, pol, who, 0)
	other, renewed := proto.CloneOf(config()), alice()
	other.Issuer = "other"
	soon := &exchange.Principal{Expires: policytest.Epoch().Add(30 * time.Second)}
	for name, again := range map[string]bool{
		"again":                              call(t, pol, who, time.Second) == first,
		"after a push":                       call(t, p.build(t, config(), "a"), who, time.Second) == first,
		"until a fifth of its life is left":  call(t, pol, who, 47*time.Second) == first,
		"with a credential that ends later":  call(t, pol, who, time.Second, &exchange.Principal{}) == first,
		"while a push changes another route": call(t, p.build(t, config(), "b"), renewed, time.Second) != first && call(t, pol, who, time.Second) == first,
	} {
		if !again {
			t.Errorf("%s: another token", name)
		}
	}
	key := p.versions
	p.versions = []*certs.Version{version(t, jwk.ES256, "second"), key[0]}
	for name, again := range map[string]bool{
		"another key":              call(t, p.build(t, config(), "a"), who, time.Second) == first,
		"another config":           call(t, p.build(t, other, "a"), who, time.Second) == first,
		"another binding":          call(t, p.build(t, config(), "b"), who, time.Second) == first,
		"changed caller":           call(t, pol, renewed, time.Second) == first,
		"when its life is over":    call(t, pol, who, 48*time.Second) == first,
		"with a second credential": call(t, pol, who, time.Second, soon) == first,
	} {
		if again {
			t.Errorf("%s: the token of before", name)
		}
	}
}

// TestNoTokenOutlivesACredential has callers come by two credentials, of which one ends soon.
func TestNoTokenOutlivesACredential(t *testing.T) {
	t.Parallel()
	p := newPlace(t, jwk.EdDSA)
	ends := policytest.Epoch().Add(1500 * time.Millisecond)
	raw := call(t, p.build(t, config(), "a"), alice(), 0, alice(), &exchange.Principal{Expires: ends})
	got, fault := token.Parse([]byte(raw[len("Bearer "):]))
	if fault != token.OK || got.Claims["exp"] != policytest.Epoch().Unix()+1 {
		t.Errorf("%s: %v", fault, got)
	}
}

// TestManyCallersAtOnce: slow signatures wait for their turn, and what one caller's requests wait for is signed once.
func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	p, who := newPlace(t, jwk.PS256), alice()
	cfg := config()
	cfg.RsaAlgorithm = "PS256"
	pol := p.build(t, cfg, "a")
	if _, ok := pol.(policy.Waiter); !ok {
		t.Error("RSA signatures do not wait")
	}
	if _, ok := newPlace(t, jwk.ES256).build(t, config(), "a").(policy.Waiter); ok {
		t.Error("P-256 signatures wait")
	}
	got := make([]string, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = call(t, pol, who, 0) })
	}
	wg.Wait()
	turns := max(1, runtime.GOMAXPROCS(0)/2)
	different := map[string]bool{}
	for _, raw := range got {
		different[raw] = true
	}
	if len(different) > turns {
		t.Errorf("%d tokens for one caller at once, with %d turns", len(different), turns)
	}
}

// TestWhenNoTurnComes fills the queue for signatures.
func TestWhenNoTurnComes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, jwk.RS256)
	p.host.Signing.Turns = hostsvc.NewWorkers(1)
	pol, who := p.build(t, config(), "a"), alice()
	warm := call(t, pol, who, 0)
	held, begun := make(chan struct{}), make(chan struct{})
	go p.host.Signing.Turns.Do(1, func() {
		close(begun)
		<-held
	})
	<-begun
	defer close(held)
	x := &exchange.Exchange{Principal: alice()}
	x.Timings.Received = policytest.Epoch()
	if pol.Request(x) != policy.Stop || x.Refusal().Status() != 503 || len(x.Request.Header) != 0 {
		t.Errorf("%v %v", x.Refusal(), x.Request.Header)
	}
	if call(t, pol, who, time.Second) != warm {
		t.Error("a caller with a token had to wait")
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short.E = 3
	for name, change := range map[string]func(*policyv1.JwtSigner, *place){
		"no issuer":                 func(c *policyv1.JwtSigner, _ *place) { c.Issuer = "" },
		"no audience":               func(c *policyv1.JwtSigner, _ *place) { c.Audience = nil },
		"an algorithm for others":   func(c *policyv1.JwtSigner, _ *place) { c.RsaAlgorithm = "HS256" },
		"a subject that is none":    func(c *policyv1.JwtSigner, _ *place) { c.Subject = 9 },
		"anonymous that is nothing": func(c *policyv1.JwtSigner, _ *place) { c.Anonymous = 9 },
		"a claim of the gateway": func(c *policyv1.JwtSigner, _ *place) {
			c.Set = []*policyv1.JwtSignerClaim{{Name: "sub", Value: "root"}}
		},
		"no certificate":        func(_ *policyv1.JwtSigner, p *place) { p.versions = nil },
		"no private key":        func(_ *policyv1.JwtSigner, p *place) { p.versions[0].Key = nil },
		"a key that is no good": func(_ *policyv1.JwtSigner, p *place) { p.versions[0].Key = short },
	} {
		cfg, p := config(), newPlace(t, jwk.ES256)
		change(cfg, p)
		if built, err := jwtsigner.Build(cfg, policy.Deps{Host: p.host, Group: p}); err == nil {
			t.Errorf("%s: %v", name, built)
		}
	}
}
