package policytest

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

// signers are the keys that tokens of a case are signed with, by their names: the algorithm in lower case, and more.
type signers map[string]*tokentest.Key

var tokenPlaceholder = regexp.MustCompile(`\$(JWK|SECRET|CHAIN|PRIVATE)_[a-z0-9_]+|\$TOKEN\([^\n]*\)`)

// mint puts generated keys and tokens in the place of their placeholders, the same ones wherever these are the same.
func (w *world) mint(t testing.TB, b []byte) []byte {
	t.Helper()
	return tokenPlaceholder.ReplaceAllFunc(b, func(name []byte) []byte {
		p := string(name)
		if w.keys[p] == "" {
			w.keys[p] = w.minted(t, p)
		}
		return []byte(w.keys[p])
	})
}

func (w *world) minted(t testing.TB, placeholder string) string {
	t.Helper()
	if name, ok := strings.CutPrefix(placeholder, "$JWK_"); ok {
		b, err := json.Marshal(w.signer(t, name).Members())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if name, ok := strings.CutPrefix(placeholder, "$SECRET_"); ok {
		return base64.RawURLEncoding.EncodeToString(w.signer(t, name).Secret)
	}
	for _, kind := range []string{"CHAIN", "PRIVATE"} {
		if name, ok := strings.CutPrefix(placeholder, "$"+kind+"_"); ok {
			return w.certified(t, kind, name)
		}
	}
	name, rest, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(placeholder, "$TOKEN("), ")"), " ")
	var parts []map[string]any
	for d := json.NewDecoder(strings.NewReader(rest)); d.More(); {
		var part map[string]any
		if err := d.Decode(&part); err != nil {
			t.Fatalf("%s: %v", placeholder, err)
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 || len(parts) > 2 {
		t.Fatalf("%s: want claims, or a header and claims", placeholder)
	}
	claims := parts[len(parts)-1]
	for _, at := range []string{"exp", "nbf", "iat"} {
		if v, ok := claims[at].(float64); ok {
			claims[at] = Epoch().Unix() + int64(v)
		}
	}
	var header map[string]any
	if len(parts) == 2 {
		header = parts[0]
	}
	return w.signer(t, name).Token(header, claims)
}

func (w *world) signer(t testing.TB, name string) *tokentest.Key {
	t.Helper()
	w.minting.Lock()
	defer w.minting.Unlock()
	if w.signers == nil {
		w.signers = signers{}
	}
	if w.signers[name] == nil {
		alg, _, _ := strings.Cut(name, "_")
		a := jwk.Algorithm(strings.ToUpper(alg))
		if alg == "eddsa" {
			a = jwk.EdDSA
		}
		w.signers[name] = tokentest.NewKey(t, a, name)
	}
	return w.signers[name]
}
