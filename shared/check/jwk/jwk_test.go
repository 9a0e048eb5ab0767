package jwk_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"keyward.dev/shared/check/jwk"
)

// ec is the key of RFC 7515 appendix A.3, rsaN the modulus of its appendix A.2, ed the key of RFC 8037 appendix A.2.
const (
	ec   = `"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"`
	rsaN = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
	ed   = `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		permits  []jwk.Algorithm
	}{
		{"EC", "{" + ec + "}", []jwk.Algorithm{jwk.ES256}},
		{"EC for signatures", "{" + ec + `,"use":"sig","key_ops":["verify"],"alg":"ES256","x5c":["x"]}`, []jwk.Algorithm{jwk.ES256}},
		{"RSA", `{"kty":"RSA","n":"` + rsaN + `","e":"AQAB"}`, []jwk.Algorithm{jwk.RS256, jwk.RS384, jwk.RS512, jwk.PS256, jwk.PS384, jwk.PS512}},
		{"RSA of one algorithm", `{"kty":"RSA","n":"` + rsaN + `","e":"AQAB","alg":"PS256"}`, []jwk.Algorithm{jwk.PS256}},
		{"Ed25519", "{" + ed + `,"alg":"EdDSA"}`, []jwk.Algorithm{jwk.EdDSA, jwk.Ed25519}},
		{"a set", `{"keys":[{` + ed + `}]}`, []jwk.Algorithm{jwk.EdDSA, jwk.Ed25519}},
		{"PEM", publicPEM(t, elliptic.P384()), []jwk.Algorithm{jwk.ES384}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, err := jwk.Parse(tt.in)
			if err != nil || len(keys) != 1 {
				t.Fatalf("Parse() = %v, %v", keys, err)
			}
			public, secret := jwk.Algorithms()
			var got []string
			for _, a := range append(public, secret...) {
				if keys[0].Permits(a) {
					got = append(got, string(a))
				}
			}
			var want []string
			for _, a := range tt.permits {
				want = append(want, string(a))
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("permits %v, want %v", got, want)
			}
		})
	}
}

func publicPEM(t *testing.T, c elliptic.Curve) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, &key.PublicKey)
}

func encode(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	short := base64.RawURLEncoding.EncodeToString(new(big.Int).SetBit(big.NewInt(1), 1023, 1).Bytes())
	long := base64.RawURLEncoding.EncodeToString(new(big.Int).SetBit(big.NewInt(1), 8192, 1).Bytes())
	even := base64.RawURLEncoding.EncodeToString(new(big.Int).SetBit(new(big.Int), 2047, 1).Bytes())
	rsaKey := func(n, e string) string { return `{"kty":"RSA","n":"` + n + `","e":"` + e + `"}` }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", "neither PEM"},
		{"not JSON", "{", "not JSON"},
		{"no key", "{}", "of a kind"},
		{"a secret", `{"kty":"oct","k":"AAAA"}`, "not a public key"},
		{"a private key", "{" + ec + `,"d":"AAAA"}`, "not a public key"},
		{"for encryption", "{" + ec + `,"use":"enc"}`, "not for signatures"},
		{"use of another type", "{" + ec + `,"use":1}`, "not a string"},
		{"not for verifying", "{" + ec + `,"key_ops":["sign"]}`, "not for verifying"},
		{"operations of another type", "{" + ec + `,"key_ops":"verify"}`, "not for verifying"},
		{"another algorithm", "{" + ec + `,"alg":"RS256"}`, "not a key for its algorithm"},
		{"an HMAC algorithm", `{"kty":"RSA","n":"` + rsaN + `","e":"AQAB","alg":"HS256"}`, "not a key for its algorithm"},
		{"algorithm none", "{" + ec + `,"alg":"none"}`, "not known"},
		{"a kid of another type", "{" + ec + `,"kid":7}`, "not a string"},
		{"a long kid", "{" + ec + `,"kid":"` + strings.Repeat("k", 257) + `"}`, "too long"},
		{"off the curve", strings.Replace("{"+ec+"}", "f83O", "f83P", 1), "not a point"},
		{"a short coordinate", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "wrong length"},
		{"no coordinate", `{"kty":"EC","crv":"P-256","x":"AA"}`, "wrong length"},
		{"another curve", `{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`, "curve"},
		{"X25519", `{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "curve"},
		{"a short Ed25519 key", `{"kty":"OKP","crv":"Ed25519","x":"AAAA"}`, "not an Ed25519"},
		{"padding", strings.Replace("{"+ed+"}", `URo"`, `URo="`, 1), "Base64"},
		{"a line break", strings.Replace("{"+ed+"}", `URo"`, `URo\n"`, 1), "line break"},
		{"bits that are not used", strings.Replace("{"+ed+"}", `URo"`, `URp"`, 1), "Base64"},
		{"a short RSA key", rsaKey(short, "AQAB"), "1024 bits"},
		{"a long RSA key", rsaKey(long, "AQAB"), "8193 bits"},
		{"an even modulus", rsaKey(even, "AQAB"), "weak"},
		{"a small exponent", rsaKey(rsaN, "Aw"), "weak"},
		{"an even exponent", rsaKey(rsaN, "AQAC"), "weak"},
		{"a huge exponent", rsaKey(rsaN, "AQABAQAB"), "exponent"},
		{"a member twice", "{" + ec + `,"kty":"EC"}`, "twice"},
		{"a set with one of no use", `{"keys":[{` + ed + `},{"kty":"oct","k":"AA"}]}`, "leave them out"},
		{"an empty set", `{"keys":[]}`, "no key"},
		{"a set of nothing", `{"keys":[1]}`, "not an object"},
		{"a set that is none", `{"keys":{}}`, "no list"},
		{"a private key in PEM", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), "neither a public key"},
		{"PEM of garbage", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "does not hold"},
		{"two keys in PEM", publicPEM(t, elliptic.P256()) + publicPEM(t, elliptic.P256()), "behind"},
		{"P-224", publicPEM(t, elliptic.P224()), "curve"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if keys, err := jwk.Parse(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse() = %v, %v, want an error with %q", keys, err, tt.want)
			}
		})
	}
}

func TestASetPassesOverWhatIsOfNoUse(t *testing.T) {
	t.Parallel()
	s, err := jwk.ParseSet([]byte(`{"keys":[{"kty":"oct","k":"AA"},{` + ec + `,"kid":"a"},{"kty":"new"},{` + ed + `,"kid":"b"}],"more":1}`))
	if err != nil || len(s.Keys) != 2 || s.Skipped != 2 || s.Keys[0].ID != "a" || s.Keys[1].ID != "b" {
		t.Fatalf("ParseSet() = %+v, %v", s, err)
	}
	other, err := jwk.Parse("{" + ec + `,"kid":"z"}`)
	if err != nil || !s.Has(other[0]) {
		t.Errorf("the set has not the key by another name: %v", err)
	}
	if fresh, err := jwk.Parse(publicPEM(t, elliptic.P256())); err != nil || s.Has(fresh[0]) {
		t.Errorf("the set has a key that is not in it: %v", err)
	}
}

func TestSecretsHaveAFloor(t *testing.T) {
	t.Parallel()
	for alg, floor := range map[jwk.Algorithm]int{jwk.HS256: 32, jwk.HS384: 48, jwk.HS512: 64} {
		if k, err := jwk.FromSecret(make([]byte, floor), alg); err != nil || !k.Permits(alg) || k.Permits(jwk.RS256) || k.Permits(jwk.HS256) != (alg == jwk.HS256) {
			t.Errorf("FromSecret(%d, %s) = %v, %v", floor, alg, k, err)
		}
		if _, err := jwk.FromSecret(make([]byte, floor-1), alg); err == nil {
			t.Errorf("FromSecret(%d, %s) takes it", floor-1, alg)
		}
	}
	if _, err := jwk.FromSecret(make([]byte, 64), jwk.RS256); err == nil {
		t.Error("FromSecret() takes a secret for RS256")
	}
}

// TestThumbprint holds it against RFC 7638 section 3.1 (whose RSA key is another one) and RFC 8037 appendix A.3.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for in, want := range map[string]string{
		`{"kty":"RSA","e":"AQAB","n":"` + n + `"}`: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		"{" + ed + "}": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		keys, err := jwk.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := keys[0].Thumbprint(); got != want {
			t.Errorf("Thumbprint() = %s, want %s", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("{" + ec + "}")
	f.Add(`{"keys":[{` + ed + `,"kid":"a"}]}`)
	f.Add(`{"kty":"RSA","n":"` + rsaN + `","e":"AQAB","alg":"PS256"}`)
	f.Fuzz(func(t *testing.T, in string) {
		keys, err := jwk.Parse(in)
		for _, k := range keys {
			_, members := k.Thumbprint()
			if !json.Valid(members) {
				t.Fatalf("thumbprint of %s", members)
			}
			again, err := jwk.Parse(string(members))
			if err != nil || again[0].Public() == nil || !samePublic(again[0].Public(), k.Public()) {
				t.Errorf("Parse(%s) = %v, not the key it is of", members, err)
			}
		}
		if err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
	})
}

func samePublic(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	case ed25519.PublicKey:
		return a.Equal(b)
	}
	return false
}
