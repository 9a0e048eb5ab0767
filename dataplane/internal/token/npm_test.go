package token_test

import (
	"encoding/json"
	"os"
	"testing"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/shared/check/jwk"
)

// TestTokensOfNpmJoseVerify has tokens and public keys that jose 6.2.17 of npm has made; the private keys are gone.
func TestTokensOfNpmJoseVerify(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/npm-jose.json")
	if err != nil {
		t.Fatal(err)
	}
	var minted []struct {
		Alg   jwk.Algorithm
		Key   json.RawMessage
		Token string
	}
	if err := json.Unmarshal(raw, &minted); err != nil {
		t.Fatal(err)
	}
	if public, _ := jwk.Algorithms(); len(minted) != len(public) {
		t.Errorf("%d tokens, want one for each of %d algorithms", len(minted), len(public))
	}
	r := &token.Rules{Issuer: "https://id.test", Audiences: []string{"api"}, Expires: true}
	for i, m := range minted {
		t.Run(string(m.Alg), func(t *testing.T) {
			t.Parallel()
			keys, err := jwk.Parse(string(m.Key))
			if err != nil {
				t.Fatal(err)
			}
			if got := verdict(m.Token, keys, []jwk.Algorithm{m.Alg}, r); got != token.OK {
				t.Errorf("verdict = %q", got)
			}
			if got := verdict(minted[(i+1)%len(minted)].Token, keys, []jwk.Algorithm{m.Alg}, r); got == token.OK {
				t.Error("another's token is verified")
			}
		})
	}
}
