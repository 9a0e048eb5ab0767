package token_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/token"
	"keyward.dev/shared/check/jwk"
)

// TestTokensOfNpmJoseVerify has tokens, public keys and proofs that jose of npm has made, by .tools/jose/mint.mjs; the private
// keys are gone. Tests of whole gateways have it make new ones.
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
		Proof string
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
			tok, _ := token.Parse([]byte(m.Token))
			if sub := tok.Text("sub"); sub != "ålice😀" {
				t.Errorf("sub %q", sub)
			}
			bound, fault := token.BoundTo(tok)
			if fault != token.OK {
				t.Fatalf("bound to nothing: %s", fault)
			}
			proof, fault := token.ParseProof([]byte(m.Proof), []jwk.Algorithm{m.Alg})
			if fault != token.OK {
				t.Fatalf("proof: %s", fault)
			}
			want := token.Proof{
				Thumbprint: bound.Thumbprint, ID: proof.ID, Method: "GET", URL: "https://api.test/v1", Token: token.Hash([]byte(m.Token)), Issued: epoch(),
			}
			if diff := cmp.Diff(&want, proof); diff != "" || proof.ID == "" {
				t.Errorf("proof (-want +got):\n%s", diff)
			}
			if _, fault := token.ParseProof([]byte(minted[(i+1)%len(minted)].Proof), []jwk.Algorithm{m.Alg}); fault == token.OK {
				t.Error("a proof by an algorithm that is not allowed counts")
			}
			if got := verdict(minted[(i+1)%len(minted)].Token, keys, []jwk.Algorithm{m.Alg}, r); got == token.OK {
				t.Error("another's token is verified")
			}
		})
	}
}
