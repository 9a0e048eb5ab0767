package token

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"keyward.dev/shared/check/jwk"
)

// vector is a signature that an RFC shows. Most of them sign something that is no JWT.
type vector struct {
	Name, Token, Secret string
	Alg                 jwk.Algorithm
	Key                 json.RawMessage
}

func TestTheSignaturesOfTheRFCsHold(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			signed, signature, header := take(t, v.Token)
			alg, _ := header["alg"].(string)
			kid, _ := header["kid"].(string)
			tok := &Token{Header: header, Algorithm: jwk.Algorithm(alg), KeyID: kid, signed: signed, signature: signature}
			keys := []*jwk.Key{v.key(t)}
			if _, fault := tok.Verify(keys, []jwk.Algorithm{v.Alg}); fault != OK {
				t.Errorf("Verify() = %s", fault)
			}
			tok.signed = append(bytes.Clone(signed), 'x')
			if _, fault := tok.Verify(keys, []jwk.Algorithm{v.Alg}); fault != Signature {
				t.Errorf("Verify() = %s for another message", fault)
			}
		})
	}
}

func take(t *testing.T, token string) (signed, signature []byte, header map[string]any) {
	t.Helper()
	dot := bytes.LastIndexByte([]byte(token), '.')
	signature, err := jwk.Bytes(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	header, ok := object([]byte(token[:bytes.IndexByte([]byte(token), '.')]))
	if !ok {
		t.Fatal("the header is not read")
	}
	return []byte(token[:dot]), signature, header
}

func (v *vector) key(t *testing.T) *jwk.Key {
	t.Helper()
	if v.Secret == "" {
		keys, err := jwk.Parse(string(v.Key))
		if err != nil {
			t.Fatal(err)
		}
		return keys[0]
	}
	secret, err := jwk.Bytes(v.Secret)
	if err != nil {
		t.Fatal(err)
	}
	k, err := jwk.FromSecret(secret, v.Alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
