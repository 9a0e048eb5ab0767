package token_test

import (
	"testing"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/dataplane/internal/token/tokentest"
	"keyward.dev/shared/check/jwk"
)

func TestWhatATokenIsBoundTo(t *testing.T) {
	t.Parallel()
	const sum = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, tt := range []struct {
		name  string
		cnf   any
		want  token.Bound
		fault token.Fault
	}{
		{"a key", map[string]any{"jkt": "x"}, token.Bound{Thumbprint: "x"}, token.OK},
		{"a certificate", map[string]any{"x5t#S256": sum}, token.Bound{HasCertificate: true}, token.OK},
		{"both", map[string]any{"x5t#S256": sum, "jkt": "x"}, token.Bound{HasCertificate: true, Thumbprint: "x"}, token.OK},
		{"nothing", map[string]any{}, token.Bound{}, token.Confirmation},
		{"a key of another kind", map[string]any{"jwk": map[string]any{}}, token.Bound{}, token.Confirmation},
		{"no thumbprint", map[string]any{"jkt": ""}, token.Bound{}, token.Confirmation},
		{"a thumbprint that is none", map[string]any{"jkt": 1}, token.Bound{}, token.Confirmation},
		{"half a hash", map[string]any{"x5t#S256": sum[:20]}, token.Bound{}, token.Confirmation},
		{"a hash that is none", map[string]any{"x5t#S256": nil}, token.Bound{}, token.Confirmation},
		{"null", nil, token.Bound{}, token.Confirmation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, fault := token.BoundTo(&token.Token{Claims: map[string]any{"cnf": tt.cnf}})
			if fault != tt.fault || fault == token.OK && got != tt.want {
				t.Errorf("BoundTo() = %+v, %q", got, fault)
			}
		})
	}
	if got, fault := token.BoundTo(&token.Token{Claims: map[string]any{}}); fault != token.OK || got != (token.Bound{}) {
		t.Errorf("BoundTo() = %+v, %q of a token that is anybody's", got, fault)
	}
}

// FuzzParseProof: a proof that is taken says all that it is compared by.
func FuzzParseProof(f *testing.F) {
	k := tokentest.NewKey(f, jwk.ES256, "")
	header := map[string]any{"typ": "dpop+jwt", "jwk": k.Members()}
	f.Add([]byte(k.Token(header, map[string]any{"jti": "1", "htm": "GET", "htu": "https://a.test/", "iat": 1})))
	f.Add([]byte(k.Token(header, map[string]any{"jti": 1})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, fault := token.ParseProof(raw, jwk.Default())
		if (p == nil) != (fault != token.OK) {
			t.Fatalf("ParseProof() = %v, %q", p, fault)
		}
		if p != nil && (p.Thumbprint == "" || p.ID == "" || p.Method == "" || p.URL == "" || p.Issued.IsZero()) {
			t.Errorf("ParseProof() = %+v", p)
		}
	})
}
