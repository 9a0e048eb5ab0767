package httpsig_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/httpsig"
)

func TestKeysAreOfTheirAlgorithmOnly(t *testing.T) {
	t.Parallel()
	all := []httpsig.Algorithm{
		httpsig.HMACSHA256, httpsig.HMACSHA512, httpsig.Ed25519, httpsig.ECDSAP256SHA256, httpsig.ECDSAP384SHA384, httpsig.RSAPSSSHA512, httpsig.RSAPKCS1SHA256, 0, 99,
	}
	fits := map[string][]httpsig.Algorithm{
		keyRSA: {httpsig.RSAPSSSHA512, httpsig.RSAPKCS1SHA256}, keyP256: {httpsig.ECDSAP256SHA256}, keyEd25519: {httpsig.Ed25519},
	}
	for text, want := range fits {
		for _, a := range all {
			ok := false
			for _, w := range want {
				ok = ok || w == a
			}
			if _, err := httpsig.NewPublic(a, parsed(t, text)); (err == nil) != ok {
				t.Errorf("%s makes a key of %.20s: %v", a, text, err)
			}
		}
	}
	for _, a := range all {
		if _, err := httpsig.NewSecret(a, []byte("secret, and more")); (err == nil) != (a == httpsig.HMACSHA256 || a == httpsig.HMACSHA512) {
			t.Errorf("%s takes a secret: %v", a, err)
		}
	}
	for _, short := range []string{"", "thirteen byte"} {
		if _, err := httpsig.NewSecret(httpsig.HMACSHA256, []byte(short)); err == nil {
			t.Errorf("a secret of %d bytes is taken", len(short))
		}
	}
}

func TestOtherAlgorithmsVerify(t *testing.T) {
	t.Parallel()
	base := []byte("base")
	mac := hmac.New(sha512.New, []byte("secret, and more"))
	mac.Write(base)
	if k := secret(t, httpsig.HMACSHA512, []byte("secret, and more")); !k.Verify(base, mac.Sum(nil)) || k.Verify(base, mac.Sum(nil)[:32]) {
		t.Error("HMAC-SHA-512 is wrong")
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(base)
	r, s, err := ecdsa.Sign(rand.Reader, p384, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	k, err := httpsig.NewPublic(httpsig.ECDSAP384SHA384, &p384.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	if !k.Verify(base, signature) || k.Verify(base, make([]byte, 96)) || k.Verify(base, nil) {
		t.Error("ECDSA on P-384 is wrong")
	}
}

// What a message says of its algorithm can only be wrong: it never chooses one.
func TestTheMessageDoesNotChooseTheAlgorithm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		says  string
		draft bool
		key   httpsig.Algorithm
		want  bool
	}{
		{"hmac-sha256", false, httpsig.HMACSHA256, true},
		{"hmac-sha256", false, httpsig.RSAPSSSHA512, false},
		{"HMAC-SHA256", false, httpsig.HMACSHA256, false},
		{"hs2019", false, httpsig.HMACSHA256, false},
		{"none", false, httpsig.HMACSHA256, false},
		{"hs2019", true, httpsig.Ed25519, true},
		{"hmac-sha256", true, httpsig.HMACSHA256, true},
		{"hmac-sha1", true, httpsig.HMACSHA256, false},
		{"hmac-sha512", true, httpsig.HMACSHA256, false},
		{"rsa-sha256", true, httpsig.RSAPKCS1SHA256, true},
		{"rsa-sha256", true, httpsig.HMACSHA256, false},
		{"rsa-sha256", true, httpsig.RSAPSSSHA512, false},
		{"rsa-sha1", true, httpsig.RSAPKCS1SHA256, false},
		{"ecdsa-sha256", true, httpsig.ECDSAP256SHA256, true},
	}
	for _, tt := range tests {
		var s *httpsig.Signature
		if tt.draft {
			s = &httpsig.Signature{}
			if err := httpsig.ParseCavage([]byte(`keyId="a",algorithm="`+tt.says+`",signature="AA=="`), false, s, heap{}); err != nil {
				t.Fatal(err)
			}
		} else {
			var err error
			if s, err = labelled(request(t, "GET /", `Signature-Input: s=();alg="`+tt.says+`"`, "Signature: s=:AA==:"), "s"); err != nil {
				t.Fatal(err)
			}
		}
		if got := tt.key.Admits(s); got != tt.want {
			t.Errorf("%s admits %s: %v, want %v", tt.key, tt.says, got, tt.want)
		}
	}
}

// A blank signature is that of nobody, by no algorithm.
func TestBlankSignatures(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if v.key.Verify([]byte("base"), make([]byte, v.key.Size())) || v.key.Verify([]byte("base"), nil) {
			t.Errorf("%s takes a blank signature", v.key.Algorithm())
		}
	}
	if _, err := httpsig.NewPublic(httpsig.Ed25519, ed25519.PublicKey("short")); err == nil {
		t.Error("a short key is taken")
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, v := range vectors(b)[3:5] {
		b.Run(v.name, func(b *testing.B) {
			x := &exchange.Exchange{}
			var p httpsig.Inputs
			var s httpsig.Signature
			b.ReportAllocs()
			for b.Loop() {
				x.Reset()
				p.Begin(v.message, x)
				if !p.Next(&s) || p.Value(&s) != nil {
					b.Fatal(p.Err())
				}
				base, err := s.Base(v.message, x)
				if err != nil || !v.key.Verify(base, s.Value) {
					b.Fatal("it does not verify")
				}
			}
		})
	}
}
