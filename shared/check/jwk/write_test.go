package jwk_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"keyward.dev/shared/check/jwk"
)

// TestWhatIsWrittenIsRead writes keys many times over, so that some coordinate begins with a zero.
func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	var keys []*jwk.Key
	add := func(public crypto.PublicKey, alg jwk.Algorithm) {
		t.Helper()
		k, err := jwk.FromPublic(public, strings.Repeat("k", 1+len(keys)%64), alg)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	for range 40 {
		for alg, c := range map[jwk.Algorithm]elliptic.Curve{jwk.ES256: elliptic.P256(), jwk.ES384: elliptic.P384(), jwk.ES512: elliptic.P521()} {
			key, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			add(&key.PublicKey, alg)
		}
	}
	keys = keys[:100]
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	add(edwards, jwk.EdDSA)
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	add(&long.PublicKey, "")
	b, err := jwk.MarshalSet(keys)
	if err != nil {
		t.Fatal(err)
	}
	got, err := jwk.ParseSet(b)
	if err != nil || len(got.Keys) != len(keys) || got.Skipped != 0 {
		t.Fatalf("ParseSet(MarshalSet()) = %+v, %v", got, err)
	}
	for i, k := range keys {
		if !got.Keys[i].Same(k) || got.Keys[i].ID != k.ID {
			t.Errorf("key %d is another one when it is read again", i)
		}
	}
}

func TestSecretsAreNotWritten(t *testing.T) {
	t.Parallel()
	k, err := jwk.FromSecret(make([]byte, 32), jwk.HS256)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := jwk.MarshalSet([]*jwk.Key{k}); err == nil {
		t.Errorf("MarshalSet() = %s", b)
	}
}
