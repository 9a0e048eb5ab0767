package jwtauth_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/jwtauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/jwk"
)

func TestTokensThatCountOnce(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	cfg := static(t, k)
	cfg.OneTime = true
	other := tokentest.NewKey(t, jwk.EdDSA, "")
	cfg.Issuers = append(cfg.Issuers, &policyv1.JwtIssuer{Name: "j", Issuer: "j", PublicKeys: []string{other.PEM(t)}})
	p := w.build(t, cfg)
	ask := func(name string, p policy.Policy, raw string, want int, reason string) {
		t.Helper()
		if _, status, why := w.ask(p, raw); status != want || why != reason {
			t.Errorf("%s: %d %s, want %d %s", name, status, why, want, reason)
		}
	}
	raw := k.Token(nil, w.claims(map[string]any{"jti": "1"}))
	ask("first", p, raw, 200, "")
	ask("again", p, raw, 401, string(token.Used))
	ask("the same id in another token", p, k.Token(nil, w.claims(map[string]any{"jti": "1", "x": 1})), 401, string(token.Used))
	ask("the same id of another issuer", p, other.Token(nil, w.claims(map[string]any{"iss": "j", "jti": "1"})), 200, "")
	ask("after a push", w.build(t, cfg), raw, 401, string(token.Used))
	ask("without an id", p, k.Token(nil, w.claims(nil)), 401, string(token.NoID))
	ask("an id that is no text", p, k.Token(nil, w.claims(map[string]any{"jti": 1})), 401, string(token.NoID))
	ask("where tokens count until they end", w.build(t, static(t, k)), raw, 200, "")
	forged := other.Token(nil, w.claims(map[string]any{"jti": "2"}))
	ask("forged", p, forged, 401, string(token.Signature))
	ask("what the forged one said it was", p, k.Token(nil, w.claims(map[string]any{"jti": "2"})), 200, "")

	w.host.Once = hostsvc.NewProofTable(1)
	p = w.build(t, cfg)
	ask("the last that fits", p, k.Token(nil, w.claims(map[string]any{"jti": "3", "exp": w.now.Unix() + 10})), 200, "")
	ask("one more", p, k.Token(nil, w.claims(map[string]any{"jti": "4"})), 503, "token_uses_full")
	w.now = w.now.Add(20 * time.Second)
	ask("when the other has ended", p, k.Token(nil, w.claims(map[string]any{"jti": "4"})), 200, "")

	cfg.RequireExpiry = new(bool)
	if _, err := jwtauth.Build(cfg, policy.Deps{Host: w.host}); err == nil {
		t.Error("tokens without an end count once, which nobody could remember")
	}
}

// Alternatives of one route look at the same token and proof for one request, which is one use.
func TestAlternativesOfARouteUseATokenOnce(t *testing.T) {
	t.Parallel()
	w, k := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, "")
	cfg := static(t, k)
	cfg.OneTime = true
	link := policy.Link{Policy: w.build(t, cfg), Binding: policy.Identity{Name: "jwt"}}
	never := policy.Link{Policy: w.build(t, fetched()), Binding: policy.Identity{Name: "never"}}
	chain := policy.NewRoute(nil, [][]policy.Link{{link, never}, {link}}, nil)
	raw := k.Token(nil, w.claims(map[string]any{"jti": "1"}))
	for i, want := range []policy.Verdict{policy.Next, policy.Stop} {
		x := &exchange.Exchange{Directory: w.directory}
		x.Timings.Received = w.now
		x.Request.Header.Add(exchange.Field("Authorization", "Bearer "+raw))
		if got := chain.Request(x); got != want {
			t.Errorf("request %d: %v, want %v", i, got, want)
		}
	}
}

// TestNoncesOfProofs asks two gateways of a group, which have nothing in common but the group's keys.
func TestNoncesOfProofs(t *testing.T) {
	t.Parallel()
	w, k, mine := newWorld(t), tokentest.NewKey(t, jwk.EdDSA, ""), tokentest.NewKey(t, jwk.ES256, "")
	term := func(n uint32) *directory.Term {
		key := make([]byte, 32)
		key[0] = byte(n)
		out, err := directory.NewTerm(n, key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	with := func(terms ...*directory.Term) exchange.Directory {
		e := directory.New().Edit()
		e.SetTerms(terms)
		return e.Directory()
	}
	cfg := static(t, k)
	cfg.DpopUseNonce = true
	raw := k.Token(nil, w.claims(map[string]any{"cnf": map[string]any{"jkt": thumbprint(t, mine)}}))
	n := 0
	ask := func(d exchange.Directory, later time.Duration, claims map[string]any) (int, string, string) {
		n++
		c := map[string]any{"jti": fmt.Sprint(n), "htm": "GET", "htu": "https://api.test/", "iat": w.now.Add(later).Unix(), "ath": token.Hash([]byte(raw))}
		maps.Copy(c, claims)
		x := &exchange.Exchange{Directory: d}
		x.Timings.Received = w.now.Add(later)
		x.Request.Method, x.Request.RawTarget, x.Request.Path = []byte("GET"), []byte("/"), []byte("/")
		x.Request.Host, x.Request.Scheme = []byte("api.test"), "https"
		x.Request.Header.Add(exchange.Field("Authorization", "DPoP "+raw))
		x.Request.Header.Add(exchange.Field("DPoP", mine.Token(map[string]any{"typ": "dpop+jwt", "jwk": public(mine)}, c)))
		one := hostsvc.New(hostsvc.Config{}) // a gateway of its own
		w.host.Proofs = one.Proofs
		if w.build(t, cfg).Request(x) == policy.Next {
			return 200, "", ""
		}
		r := x.Refusal()
		h := r.Header()
		return r.Status(), r.Reason(), string(h.Get("DPoP-Nonce")) + " " + string(h.Get("WWW-Authenticate"))
	}
	one, two := term(1), term(2)
	status, why, answer := ask(with(one), 0, nil)
	var fresh, challenge string
	if _, err := fmt.Sscanf(answer, "%s DPoP realm=\"keyward\", %s", &fresh, &challenge); err != nil {
		t.Fatalf("answer %q: %v", answer, err)
	}
	if status != 401 || why != "token_proof_nonce" || challenge != `error="use_dpop_nonce"` {
		t.Fatalf("%d %s %s", status, why, challenge)
	}
	b, err := base64.RawURLEncoding.DecodeString(fresh)
	if err != nil {
		t.Fatal(err)
	}
	b[7]++ // says that it was made a second later
	forged := base64.RawURLEncoding.EncodeToString(b)
	for _, tt := range []struct {
		name   string
		in     exchange.Directory
		later  time.Duration
		claims map[string]any
		want   int
	}{
		{"the nonce", with(one), 0, map[string]any{"nonce": fresh}, 200},
		{"at another gateway, which has a newer term", with(one, two), time.Minute, map[string]any{"nonce": fresh}, 200},
		{"at a gateway whose clock is behind", with(one), -time.Minute, map[string]any{"nonce": fresh}, 200},
		{"when its term is gone", with(two), 0, map[string]any{"nonce": fresh}, 401},
		{"too late", with(one), 5*time.Minute + time.Second, map[string]any{"nonce": fresh}, 401},
		{"far too early", with(one), -2 * time.Minute, map[string]any{"nonce": fresh}, 401},
		{"forged", with(one), 0, map[string]any{"nonce": forged}, 401},
		{"cut off", with(one), 0, map[string]any{"nonce": fresh[:11]}, 401},
		{"none", with(one), 0, nil, 401},
		{"no text", with(one), 0, map[string]any{"nonce": 1}, 401},
		{"a wrong proof is told of no nonce", with(one), 0, map[string]any{"nonce": fresh, "htm": "PUT"}, 401},
		{"where nobody can make one", with(), 0, nil, 503},
	} {
		status, why, answer := ask(tt.in, tt.later, tt.claims)
		if status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, status, why, tt.want)
		}
		wrong := tt.claims["htm"] != nil
		if given := !strings.HasPrefix(answer, " "); status == 401 && (given == wrong || (why == "token_proof") != wrong) {
			t.Errorf("%s: answer %q, %s", tt.name, answer, why)
		}
	}
	cfg.Dpop = policyv1.JwtProof_JWT_PROOF_OFF
	if _, err := jwtauth.Build(cfg, policy.Deps{Host: w.host}); err == nil {
		t.Error("nonces are asked for, and no proofs")
	}
}
