package token_test

import (
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

func TestRules(t *testing.T) {
	t.Parallel()
	key := tokentest.NewKey(t, jwk.EdDSA, "")
	in := func(s int64) int64 { return epoch().Unix() + s }
	profile := map[string]any{"client_id": "c", "jti": "1"}
	at := map[string]any{"typ": "at+jwt"}
	type rules = token.Rules
	rule := func(name string, m token.Match, values ...string) rules {
		return rules{Claims: []token.ClaimRule{{Name: name, Match: m, Values: values}}}
	}
	for _, tt := range []struct {
		name   string
		rules  rules
		header map[string]any
		accept map[string]any
		reject map[string]any
		want   token.Fault
	}{
		{"subject", rules{Subjects: []string{"alice", "bob"}}, nil, map[string]any{"sub": "bob"}, map[string]any{"sub": "eve"}, token.Subject},
		{"subject there", rules{Subjects: []string{"alice"}}, nil, nil, map[string]any{"sub": nil}, token.Subject},
		{"leeway at the end", rules{Leeway: 5 * time.Second}, nil, map[string]any{"exp": in(-4)}, map[string]any{"exp": in(-5)}, token.Expired},
		{"leeway at the beginning", rules{Leeway: 5 * time.Second}, nil, map[string]any{"nbf": in(5)}, map[string]any{"nbf": in(6)}, token.TooEarly},
		{"leeway of issue", rules{Leeway: 5 * time.Second}, nil, map[string]any{"iat": in(5)}, map[string]any{"iat": in(6)}, token.FromFuture},
		{"no end needed", rules{}, nil, map[string]any{"exp": nil}, map[string]any{"exp": in(-1)}, token.Expired},
		{"lifetime", rules{MaxLifetime: time.Minute}, nil, map[string]any{"exp": in(60)}, map[string]any{"exp": in(61)}, token.TooLong},
		{"lifetime from issue", rules{MaxLifetime: time.Minute}, nil, map[string]any{"iat": in(-10), "exp": in(50)}, map[string]any{"iat": in(-10), "exp": in(51)}, token.TooLong},
		{"lifetime without issue", rules{MaxLifetime: time.Minute}, nil, map[string]any{"iat": nil, "exp": in(60)}, map[string]any{"iat": nil, "exp": in(61)}, token.TooLong},
		{"lifetime needs an end", rules{MaxLifetime: time.Minute}, nil, nil, map[string]any{"exp": nil}, token.NoExpiry},
		{"access token", rules{AccessToken: true}, at, profile, map[string]any{"client_id": "c"}, token.Type},
		{"required", rules{Required: []string{"azp", "a.b"}}, nil, map[string]any{"azp": false, "a": map[string]any{"b": 1}}, map[string]any{"azp": "x"}, token.Claim},
		{"required is not null", rule("azp", token.Present), nil, map[string]any{"azp": ""}, map[string]any{"azp": nilClaim{}}, token.Claim},
		{"equal", rule("azp", token.Equals, "a", "b"), nil, map[string]any{"azp": "b"}, map[string]any{"azp": "a b"}, token.Claim},
		{"equal number", rule("n", token.Equals, "7"), nil, map[string]any{"n": 7}, map[string]any{"n": 7.5}, token.Claim},
		{"equal truth", rule("email_verified", token.Equals, "true"), nil, map[string]any{"email_verified": true}, map[string]any{"email_verified": false}, token.Claim},
		{"a list equals nothing", rule("azp", token.Equals, "a"), nil, map[string]any{"azp": "a"}, map[string]any{"azp": []string{"a"}}, token.Claim},
		{"contains in a list", rule("r", token.Contains, "a", "b"), nil, map[string]any{"r": []string{"x", "b"}}, map[string]any{"r": []string{"ab"}}, token.Claim},
		{"contains in a text", rule("scope", token.Contains, "read"), nil, map[string]any{"scope": "write read"}, map[string]any{"scope": "reader"}, token.Claim},
		{"contains deeper", rule("realm.roles", token.Contains, "a"), nil, map[string]any{"realm": map[string]any{"roles": []string{"a"}}}, map[string]any{"realm": "a"}, token.Claim},
		{"contains all", rule("scope", token.ContainsAll, "a", "b"), nil, map[string]any{"scope": "c b a"}, map[string]any{"scope": "b c"}, token.Claim},
		{"absent", rule("act", token.Absent), nil, nil, map[string]any{"act": map[string]any{"sub": "x"}}, token.Claim},
		{"a name with dots", rule("https://a.b/r", token.Contains, "x"), nil, map[string]any{"https://a.b/r": []string{"x"}}, map[string]any{"https://a": map[string]any{"b/r": "y"}}, token.Claim},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for more, want := range map[*map[string]any]token.Fault{&tt.accept: token.OK, &tt.reject: tt.want} {
				raw := key.Token(tt.header, claims(*more))
				if got := verdict(raw, set(t, key), jwk.Default(), &tt.rules); got != want {
					t.Errorf("claims %v give %q, want %q", *more, got, want)
				}
			}
		})
	}
}

// nilClaim is written as null.
type nilClaim struct{}

func (nilClaim) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

func TestUntilIsTheEndWithLeeway(t *testing.T) {
	t.Parallel()
	tok := &token.Token{Claims: map[string]any{"exp": epoch().Unix() + 60}}
	r := &token.Rules{Leeway: 5 * time.Second}
	if until, fault := r.Check(tok, epoch()); fault != token.OK || !until.Equal(epoch().Add(65*time.Second)) {
		t.Errorf("Check() = %v, %q", until, fault)
	}
	if until, fault := r.Check(&token.Token{Claims: map[string]any{}}, epoch()); fault != token.OK || !until.IsZero() {
		t.Errorf("Check() = %v, %q without an end", until, fault)
	}
}

func TestWordsAndNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    any
		words []string
		name  string
	}{
		{"a  b", []string{"a", "b"}, "a  b"},
		{[]any{"a b", int64(1), nil, true, "", []any{"x"}}, []string{"a b", "1", "true"}, ""},
		{int64(-7), []string{"-7"}, "-7"},
		{1.5, nil, ""},
		{nil, nil, ""},
		{map[string]any{}, nil, ""},
		{true, []string{"true"}, ""},
	} {
		if diff := cmp.Diff(tt.words, token.Words(tt.in)); diff != "" {
			t.Errorf("Words(%v) (-want +got):\n%s", tt.in, diff)
		}
		if got := token.Name(tt.in); got != tt.name {
			t.Errorf("Name(%v) = %q, want %q", tt.in, got, tt.name)
		}
	}
}

// TestTokensOfAnotherImplementationVerify has every algorithm, signed by go-jose.
func TestTokensOfAnotherImplementationVerify(t *testing.T) {
	t.Parallel()
	public, secret := jwk.Algorithms()
	for _, alg := range append(public, secret...) {
		if alg == jwk.Ed25519 { // a name that it does not know
			continue
		}
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			key := tokentest.NewKey(t, alg, "k")
			var private any = key.Private()
			keys := []*jwk.Key{}
			if alg.Symmetric() {
				k, err := jwk.FromSecret(key.Secret, alg)
				if err != nil {
					t.Fatal(err)
				}
				private, keys = key.Secret, append(keys, k)
			} else {
				keys = set(t, key)
			}
			signer, err := jose.NewSigner(
				jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: private, KeyID: "k"}},
				(&jose.SignerOptions{}).WithType("JWT"))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := jwt.Signed(signer).Claims(claims(nil)).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			if got := verdict(raw, keys, []jwk.Algorithm{alg}, &token.Rules{Expires: true}); got != token.OK {
				t.Errorf("verdict = %q", got)
			}
			if got := verdict(raw, set(t, tokentest.NewKey(t, jwk.ES256, "k")), []jwk.Algorithm{alg}, &token.Rules{}); got == token.OK {
				t.Error("another key verifies it")
			}
		})
	}
}

func TestATokenWithoutKeyIDIsTriedWithFewKeys(t *testing.T) {
	t.Parallel()
	var many []*tokentest.Key
	for range 9 {
		many = append(many, tokentest.NewKey(t, jwk.ES256, "x"))
	}
	r := &token.Rules{}
	for i, want := range map[int]token.Fault{0: token.OK, 7: token.OK, 8: token.Signature} {
		raw := many[i].Token(map[string]any{"kid": nil}, claims(nil))
		if got := verdict(raw, set(t, many...), jwk.Default(), r); got != want {
			t.Errorf("key %d: %q, want %q", i, got, want)
		}
	}
}

// FuzzParse: nothing panics, and a token that is parsed is signed by nobody.
func FuzzParse(f *testing.F) {
	key := tokentest.NewKey(f, jwk.ES256, "k")
	s, err := jwk.ParseSet(tokentest.Set(key))
	if err != nil {
		f.Fatal(err)
	}
	ours := []string{key.Token(nil, claims(nil)), key.Raw(`{"alg":"ES256"}`, `{"aud":["a",1],"exp":1e5}`)}
	for _, raw := range append([]string{"e30.e30.AA"}, ours...) {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tok, fault := token.Parse(raw)
		if (tok == nil) != (fault != token.OK) {
			t.Fatalf("Parse() = %v, %q", tok, fault)
		}
		if tok == nil {
			return
		}
		r := &token.Rules{Issuer: "i", Expires: true, MaxLifetime: time.Hour, Claims: []token.ClaimRule{{Name: "a.b", Match: token.Contains, Values: []string{"x"}}}}
		if until, fault := r.Check(tok, epoch()); fault == token.OK && until.IsZero() {
			t.Error("a token without an end passes")
		}
		if _, fault := tok.Verify(s.Keys, jwk.Default()); fault == token.OK && !slices.Contains(ours, string(raw)) {
			t.Errorf("%q is verified", raw)
		}
	})
}
