package token_test

import (
	"compress/flate"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

// epoch is when the tests take place.
func epoch() time.Time { return time.Unix(1_800_000_000, 0) }

func claims(more map[string]any) map[string]any {
	c := map[string]any{"iss": "https://id.test", "sub": "alice", "aud": "api", "exp": epoch().Unix() + 60, "iat": epoch().Unix()}
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

// verdict runs a token through everything.
func verdict(raw string, keys []*jwk.Key, algs []jwk.Algorithm, r *token.Rules) token.Fault {
	tok, fault := token.Parse([]byte(raw))
	if fault != token.OK {
		return fault
	}
	if _, fault := tok.Verify(keys, algs); fault != token.OK {
		return fault
	}
	_, fault = r.Check(tok, epoch())
	return fault
}

func set(t *testing.T, keys ...*tokentest.Key) []*jwk.Key {
	t.Helper()
	s, err := jwk.ParseSet(tokentest.Set(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return s.Keys
}

// TestAttacks has, for each attack on JOSE implementations that has a name, a token that is refused, and its honest twin.
func TestAttacks(t *testing.T) {
	t.Parallel()
	rs, es, ed := tokentest.NewKey(t, jwk.RS256, "rs"), tokentest.NewKey(t, jwk.ES256, "es"), tokentest.NewKey(t, jwk.EdDSA, "ed")
	evil := tokentest.NewKey(t, jwk.ES256, "es")
	keys := set(t, rs, es, ed)
	b64 := base64.RawURLEncoding.EncodeToString
	honest := es.Token(nil, claims(nil))
	part := strings.Split(honest, ".")
	payload, err := json.Marshal(claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	secretOf := func(text string) *tokentest.Key {
		return &tokentest.Key{ID: "rs", Alg: jwk.HS256, Secret: []byte(text)}
	}
	rsaDER, _ := json.Marshal(rs.Members())
	es384 := tokentest.NewKey(t, jwk.ES384, "es")
	bomb := `{"iss":"https://id.test","exp":1800000060,"x":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `}`
	signature := func(s []byte) string { return part[0] + "." + part[1] + "." + b64(s) }
	flipped := es.Sign([]byte(part[0] + "." + part[1]))
	flipped[10] ^= 1
	order := func(which int) []byte { // r or s is the order of the group: zero by another name
		n, _ := base64.RawURLEncoding.DecodeString("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE")
		s := es.Sign([]byte(part[0] + "." + part[1]))
		copy(s[32*which:], n)
		return s
	}
	for _, tt := range []struct {
		name         string
		attack, twin string
		want         token.Fault
	}{
		{"alg none", part0(`{"alg":"none"}`) + "." + part[1] + ".", honest, token.Algorithm},
		{"alg none with a signature", es.Token(map[string]any{"alg": "none"}, claims(nil)), honest, token.Algorithm},
		{"alg nOnE", es.Token(map[string]any{"alg": "nOnE"}, claims(nil)), honest, token.Algorithm},
		{"no alg", es.Token(map[string]any{"alg": nil}, claims(nil)), honest, token.Algorithm},
		{"alg in lower case", es.Token(map[string]any{"alg": "es256"}, claims(nil)), honest, token.Algorithm},
		{"alg that is a list", es.Token(map[string]any{"alg": []string{"ES256"}}, claims(nil)), honest, token.Algorithm},
		{"no signature", part[0] + "." + part[1] + ".", honest, token.Malformed},
		{"HMAC by the PEM of the RSA key", secretOf(rs.PEM(t)).Token(nil, claims(nil)), rs.Token(nil, claims(nil)), token.Algorithm},
		{"HMAC by the JWK of the RSA key", secretOf(string(rsaDER)).Token(nil, claims(nil)), rs.Token(nil, claims(nil)), token.Algorithm},
		{"an algorithm that is not allowed", rs.As(jwk.RS512).Token(nil, claims(nil)), rs.Token(nil, claims(nil)), token.Algorithm},
		{"RSA named where the key is of another kind", rs.Token(map[string]any{"kid": "es"}, claims(nil)), es.Token(nil, claims(nil)), token.NoKey},
		{"another curve", es384.Token(map[string]any{"alg": "ES256"}, claims(nil)), honest, token.Signature},
		{"embedded jwk", evil.Token(map[string]any{"jwk": evil.Members()}, claims(nil)), es.Token(map[string]any{"jwk": es.Members()}, claims(nil)), token.Signature},
		{"embedded jwk without kid", evil.Token(map[string]any{"kid": nil, "jwk": evil.Members()}, claims(nil)), es.Token(map[string]any{"kid": nil}, claims(nil)), token.Signature},
		{"jku", evil.Token(map[string]any{"jku": "https://evil.test/jwks"}, claims(nil)), es.Token(map[string]any{"jku": "https://evil.test/jwks"}, claims(nil)), token.Signature},
		{"x5u", evil.Token(map[string]any{"x5u": "https://evil.test/c.pem"}, claims(nil)), es.Token(map[string]any{"x5u": "https://evil.test/c.pem"}, claims(nil)), token.Signature},
		{"x5c", evil.Token(map[string]any{"x5c": []string{"MIIB"}}, claims(nil)), es.Token(map[string]any{"x5c": []string{"MIIB"}}, claims(nil)), token.Signature},
		{"kid that is a path", evil.Token(map[string]any{"kid": "../../../../dev/null"}, claims(nil)), honest, token.NoKey},
		{"kid that is SQL", evil.Token(map[string]any{"kid": "x' UNION SELECT 'key"}, claims(nil)), honest, token.NoKey},
		{"kid that is a command", evil.Token(map[string]any{"kid": "|touch /tmp/x"}, claims(nil)), honest, token.NoKey},
		{"kid that is empty", evil.Token(map[string]any{"kid": ""}, claims(nil)), es.Token(map[string]any{"kid": ""}, claims(nil)), token.Signature},
		{"kid that is a number", es.Token(map[string]any{"kid": 1}, claims(nil)), honest, token.Malformed},
		{"kid that is long", es.Token(map[string]any{"kid": strings.Repeat("k", 257)}, claims(nil)), honest, token.Malformed},
		{"b64 false", es.Token(map[string]any{"b64": false, "crit": []string{"b64"}}, claims(nil)), honest, token.Critical},
		{"b64 false without crit", es.Token(map[string]any{"b64": false}, claims(nil)), honest, token.Critical},
		{"b64 true", es.Token(map[string]any{"b64": true}, claims(nil)), honest, token.Critical},
		{"crit", es.Token(map[string]any{"crit": []string{"exp"}, "exp": 1}, claims(nil)), honest, token.Critical},
		{"crit that is empty", es.Token(map[string]any{"crit": []string{}}, claims(nil)), honest, token.Critical},
		{"compression", es.Token(map[string]any{"zip": "DEF"}, claims(nil)), honest, token.Critical},
		{"encryption", es.Token(map[string]any{"enc": "A256GCM"}, claims(nil)), honest, token.Critical},
		{"an encrypted token", honest + ".a.b", honest, token.Malformed},
		{"a compression bomb's shape", es.Raw(`{"alg":"ES256","kid":"es"}`, bomb), honest, token.Malformed},
		{"a member of the header twice", es.Raw(`{"alg":"ES256","kid":"es","alg":"none"}`, string(payload)), honest, token.Malformed},
		{"a claim twice", es.Raw(`{"alg":"ES256","kid":"es"}`, `{"sub":"alice","iss":"https://id.test","aud":"api","exp":1800000060,"sub":"root"}`), honest, token.Malformed},
		{"a claim twice by escapes", es.Raw(`{"alg":"ES256","kid":"es"}`, `{"sub":"alice","iss":"https://id.test","aud":"api","exp":1800000060,"s\u0075b":"root"}`), honest, token.Malformed},
		{"a huge exponent", es.Raw(`{"alg":"ES256","kid":"es"}`, `{"iss":"https://id.test","aud":"api","exp":1e400}`), honest, token.Malformed},
		{"an end beyond time", es.Raw(`{"alg":"ES256","kid":"es"}`, `{"iss":"https://id.test","aud":"api","exp":1e300}`), honest, token.Malformed},
		{"an end that is text", es.Token(nil, claims(map[string]any{"exp": "1800000060"})), honest, token.Malformed},
		{"an end before 1970", es.Token(nil, claims(map[string]any{"exp": -1})), honest, token.Malformed},
		{"no end", es.Token(nil, claims(map[string]any{"exp": nil})), honest, token.NoExpiry},
		{"expired", es.Token(nil, claims(map[string]any{"exp": epoch().Unix()})), es.Token(nil, claims(map[string]any{"exp": epoch().Unix() + 1})), token.Expired},
		{"not valid yet", es.Token(nil, claims(map[string]any{"nbf": epoch().Unix() + 1})), es.Token(nil, claims(map[string]any{"nbf": epoch().Unix()})), token.TooEarly},
		{"issued in the future", es.Token(nil, claims(map[string]any{"iat": epoch().Unix() + 1})), es.Token(nil, claims(map[string]any{"iat": 1799999999.5})), token.FromFuture},
		{"another audience", es.Token(nil, claims(map[string]any{"aud": "other"})), es.Token(nil, claims(map[string]any{"aud": []string{"other", "api"}})), token.Audience},
		{"no audience", es.Token(nil, claims(map[string]any{"aud": nil})), honest, token.Audience},
		{"no audience in a list", es.Token(nil, claims(map[string]any{"aud": []string{}})), honest, token.Audience},
		{"an audience that is an object", es.Token(nil, claims(map[string]any{"aud": map[string]any{"api": true}})), honest, token.Audience},
		{"an audience among other things", es.Token(nil, claims(map[string]any{"aud": []any{"api", 1}})), honest, token.Audience},
		{"an audience in a list in a list", es.Token(nil, claims(map[string]any{"aud": []any{[]any{"api"}}})), honest, token.Audience},
		{"an audience with a space", es.Token(nil, claims(map[string]any{"aud": "api other"})), honest, token.Audience},
		{"an audience in wide letters", es.Token(nil, claims(map[string]any{"aud": "ａｐｉ"})), honest, token.Audience},
		{"an audience with a zero", es.Token(nil, claims(map[string]any{"aud": "api\x00"})), honest, token.Audience},
		{"an audience with what is not seen", es.Token(nil, claims(map[string]any{"aud": "api\u200b"})), honest, token.Audience},
		{"an audience in a claim that looks alike", es.Token(nil, claims(map[string]any{"aud": nil, "аud": "api"})), es.Token(nil, claims(map[string]any{"аud": "x"})), token.Audience},
		{"a compressed payload", es.Raw(`{"alg":"ES256","kid":"es"}`, deflated(t, string(payload))), honest, token.Malformed},
		{"a bomb", es.Raw(`{"alg":"ES256","kid":"es","zip":"DEF"}`, deflated(t, strings.Repeat(" ", 1<<20)+string(payload))), honest, token.Critical},
		{"an issuer that looks alike", es.Token(nil, claims(map[string]any{"iss": "https://іd.test"})), honest, token.Issuer},
		{"an issuer in another case", es.Token(nil, claims(map[string]any{"iss": "https://ID.test"})), honest, token.Issuer},
		{"an issuer in a list", es.Token(nil, claims(map[string]any{"iss": []string{"https://id.test"}})), honest, token.Issuer},
		{"half a surrogate pair", es.Raw(`{"alg":"ES256","kid":"es"}`, `{"iss":"https://id.test","aud":"api","exp":1800000060,"sub":"\ud800"}`), es.Token(nil, claims(map[string]any{"sub": "ålice\u202e😀"})), token.Malformed},
		{"broken UTF-8", es.Raw(`{"alg":"ES256","kid":"es"}`, "{\"iss\":\"https://id.test\",\"aud\":\"api\",\"exp\":1800000060,\"sub\":\"\xff\"}"), honest, token.Malformed},
		{"blank ECDSA signature", signature(make([]byte, 64)), honest, token.Signature},
		{"ECDSA with r the order", signature(order(0)), honest, token.Signature},
		{"ECDSA with s the order", signature(order(1)), honest, token.Signature},
		{"half an ECDSA signature", signature(flipped[:32]), honest, token.Signature},
		{"ECDSA in ASN.1", signature(asn1(t, es, part[0]+"."+part[1])), honest, token.Signature},
		{"a changed signature", signature(flipped), honest, token.Signature},
		{"a changed claim", part[0] + "." + b64([]byte(strings.Replace(string(payload), "alice", "admin", 1))) + "." + part[2], honest, token.Signature},
		{"blank RSA signature", blank(rs.Token(nil, claims(nil)), 256), rs.Token(nil, claims(nil)), token.Signature},
		{"blank Ed25519 signature", blank(ed.Token(nil, claims(nil)), 64), ed.Token(nil, claims(nil)), token.Signature},
		{"padding", honest + "==", honest, token.Malformed},
		{"a line break", honest[:len(honest)-4] + "\n" + honest[len(honest)-4:], honest, token.Malformed},
		{"a space", honest + " ", honest, token.Malformed},
		{"standard Base64", part[0] + "." + part[1] + "." + strings.Repeat("+/", 43), honest, token.Malformed},
		{"JSON serialisation", `{"payload":"` + part[1] + `","signatures":[]}`, honest, token.Malformed},
		{"two parts", part[0] + "." + part[1], honest, token.Malformed},
		{"nothing before the dots", ".." + part[2], honest, token.Malformed},
		{"nothing", "", honest, token.Malformed},
		{"length", es.Token(nil, claims(map[string]any{"x": strings.Repeat("x", token.MaxBytes)})), es.Token(nil, claims(map[string]any{"x": strings.Repeat("x", 8000)})), token.Malformed},
		{"claims that are a list", es.Raw(`{"alg":"ES256","kid":"es"}`, `["iss"]`), honest, token.Malformed},
		{"an ID token", es.Token(nil, claims(map[string]any{"at_hash": "x"})), honest, token.Type},
		{"an ID token of Keycloak", es.Token(nil, claims(map[string]any{"typ": "ID"})), es.Token(nil, claims(map[string]any{"typ": "Bearer"})), token.Type},
		{"a logout token", es.Token(map[string]any{"typ": "logout+jwt"}, claims(nil)), es.Token(map[string]any{"typ": "application/at+jwt"}, claims(nil)), token.Type},
		{"a security event", es.Token(nil, claims(map[string]any{"events": map[string]any{}})), es.Token(map[string]any{"typ": nil}, claims(nil)), token.Type},
		{"a proof of possession", es.Token(map[string]any{"typ": "dpop+jwt"}, claims(nil)), honest, token.Type},
		{"a type that is no text", es.Token(map[string]any{"typ": 1}, claims(nil)), honest, token.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &token.Rules{Issuer: "https://id.test", Audiences: []string{"api"}, Expires: true}
			if got := verdict(tt.attack, keys, jwk.Default(), r); got != tt.want {
				t.Errorf("the attack gives %q, want %q", got, tt.want)
			}
			if got := verdict(tt.twin, keys, jwk.Default(), r); got != token.OK {
				t.Errorf("its honest twin is refused: %q", got)
			}
		})
	}
}

// deflated is how RFC 7516 compresses what it encrypts.
func deflated(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func part0(header string) string { return base64.RawURLEncoding.EncodeToString([]byte(header)) }

// blank puts a signature of nothing but zeros in the place of the one there is.
func blank(raw string, size int) string {
	return raw[:strings.LastIndexByte(raw, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, size))
}

func asn1(t *testing.T, k *tokentest.Key, input string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(input))
	der, err := k.Private().Sign(rand.Reader, sum[:], jwk.ES256.Hash())
	if err != nil {
		t.Fatal(err)
	}
	return der
}
