package revocation_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestReadAnswer has answers that must not count although they are signed, beside good ones.
func TestReadAnswer(t *testing.T) {
	t.Parallel()
	now, root := time.Now(), certtest.CA(t, "root")
	ca, other := root.CA(t, "ca"), certtest.CA(t, "other")
	leaf := ca.Issue(t, "leaf")
	signer, expired := ca.Signer(t, "signer"), ca.Signer(t, "signer", certtest.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	foreign, twin := other.Signer(t, "signer"), certtest.CA(t, "ca").Signer(t, "signer")
	of := leaf.Cert
	good := ca.Answer(t, certtest.OCSP{Of: of})
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name  string
		in    []byte
		nonce string
		want  revocation.Status
		wrong string
	}{
		{name: "good", in: good, want: revocation.Good},
		{name: "revoked", in: ca.Answer(t, certtest.OCSP{Of: of, Revoked: true}), want: revocation.Revoked},
		{name: "not known there", in: ca.Answer(t, certtest.OCSP{Of: of, Unknown: true}), want: revocation.Unknown},
		{name: "the issuer's certificate comes along", in: ca.Answer(t, certtest.OCSP{Of: of, Along: true}), want: revocation.Good},
		{name: "by whom the issuer has appointed", in: ca.Answer(t, certtest.OCSP{Of: of, By: signer, Along: true}), want: revocation.Good},
		{name: "by whom, but nobody says", in: ca.Answer(t, certtest.OCSP{Of: of, By: signer}), wrong: "the answer of the responder is not signed by the issuer"},
		{name: "by another one of its certificates", in: ca.Answer(t, certtest.OCSP{Of: of, By: leaf, Along: true}), wrong: "the answer of the responder is signed with a certificate that is not for that"},
		{name: "by one that has expired", in: ca.Answer(t, certtest.OCSP{Of: of, By: expired, Along: true}), wrong: "the answer of the responder is signed with a certificate that is not valid"},
		{name: "appointed by another authority", in: ca.Answer(t, certtest.OCSP{Of: of, By: foreign, Along: true}), wrong: "the answer of the responder is signed by somebody whom the issuer does not know"},
		{name: "appointed by one of that name", in: ca.Answer(t, certtest.OCSP{Of: of, By: twin, Along: true}), wrong: "the answer of the responder is signed by somebody whom the issuer has not appointed"},
		{name: "by the issuer's issuer", in: ca.Answer(t, certtest.OCSP{Of: of, By: root, Along: true}), wrong: "the answer of the responder is signed by somebody whom the issuer does not know"},
		{name: "flipped", in: flipped, wrong: "the answer of the responder is not signed"},
		{name: "about another certificate", in: ca.Answer(t, certtest.OCSP{Of: ca.Issue(t, "b").Cert}), wrong: "read answer of responder"},
		{name: "about one of another issuer with that number", in: ca.Answer(t, certtest.OCSP{Of: of, About: other}), wrong: "the answer of the responder is about a certificate of another issuer"},
		{name: "out of date", in: ca.Answer(t, certtest.OCSP{Of: of, ThisUpdate: now.Add(-2 * time.Hour), Lasts: time.Hour}), wrong: "the answer of the responder is out of date"},
		{name: "of the future", in: ca.Answer(t, certtest.OCSP{Of: of, ThisUpdate: now.Add(time.Hour), Lasts: time.Hour}), wrong: "the answer of the responder is of the future"},
		{name: "without end", in: ca.Answer(t, certtest.OCSP{Of: of, Lasts: -1}), want: revocation.Good},
		{name: "to the question", in: ca.Answer(t, certtest.OCSP{Of: of, Nonce: []byte("one")}), nonce: "one", want: revocation.Good},
		{name: "to another question", in: ca.Answer(t, certtest.OCSP{Of: of, Nonce: []byte("two")}), nonce: "one", wrong: "the answer of the responder is for another question"},
		{name: "made before the question", in: good, nonce: "one", want: revocation.Good},
		{name: "try later", in: []byte{0x30, 3, 0x0a, 1, 3}, wrong: "read answer of responder"},
		{name: "junk", in: []byte("junk"), wrong: "read answer of responder"},
		{name: "nothing", wrong: "read answer of responder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := revocation.ReadAnswer(tt.in, of, ca.Cert, []byte(tt.nonce), now)
			switch {
			case tt.wrong != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.wrong)):
				t.Errorf("%v, %v, want %q", got, err, tt.wrong)
			case tt.wrong == "" && (err != nil || got.Status != tt.want || got.ThisUpdate.IsZero()):
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// TestReadAnswerOfEveryKind has authorities and those whom they appoint sign with keys of all kinds, and others with theirs.
func TestReadAnswerOfEveryKind(t *testing.T) {
	t.Parallel()
	keys := map[string]func() (crypto.Signer, error){
		"P-256":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"RSA":     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err },
	}
	of := func(t *testing.T, kind string) certtest.Option {
		t.Helper()
		key, err := keys[kind]()
		if err != nil {
			t.Fatal(err)
		}
		return certtest.Key(key)
	}
	for kind := range keys {
		for signing := range keys {
			t.Run(signing+" for "+kind, func(t *testing.T) {
				t.Parallel()
				ca, twin := certtest.CA(t, "ca", of(t, kind)), certtest.CA(t, "ca", of(t, kind))
				leaf, signer, stranger := ca.Issue(t, "leaf"), ca.Signer(t, "signer", of(t, signing)), twin.Signer(t, "signer", of(t, signing))
				for _, tt := range []struct {
					name string
					said certtest.OCSP
					want revocation.Status
					bad  bool
				}{
					{name: "the issuer", want: revocation.Good},
					{name: "the issuer, of one that is revoked", said: certtest.OCSP{Revoked: true}, want: revocation.Revoked},
					{name: "the issuer, with its certificate", said: certtest.OCSP{Along: true}, want: revocation.Good},
					{name: "whom it has appointed", said: certtest.OCSP{By: signer, Along: true, Revoked: true}, want: revocation.Revoked},
					{name: "one of its name", said: certtest.OCSP{By: twin, Along: true}, bad: true},
					{name: "one of its name, who says not who", said: certtest.OCSP{By: twin}, bad: true},
					{name: "whom one of its name has appointed", said: certtest.OCSP{By: stranger, Along: true}, bad: true},
				} {
					tt.said.Of = leaf.Cert
					text := ca.Answer(t, tt.said)
					got, err := revocation.ReadAnswer(text, leaf.Cert, ca.Cert, nil, time.Now())
					if (err != nil) != tt.bad || got.Status != tt.want {
						t.Errorf("signed by %s: %v, %v", tt.name, got, err)
					}
					for _, at := range []int{len(text) / 2, len(text) - 10} {
						changed := append([]byte(nil), text...)
						changed[at] ^= 1
						if got, err := revocation.ReadAnswer(changed, leaf.Cert, ca.Cert, nil, time.Now()); err == nil {
							t.Errorf("signed by %s and changed at %d: %v", tt.name, at, got)
						}
					}
				}
			})
		}
	}
}

// TestQuestion has the library read what is asked.
func TestQuestion(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf")
	for _, nonce := range []string{"", "0123456789abcdef"} {
		got, err := revocation.Question(leaf.Cert, ca.Cert, []byte(nonce))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ocsp.ParseRequest(got)
		if err != nil || parsed.SerialNumber.Cmp(leaf.Cert.SerialNumber) != 0 {
			t.Fatalf("%v, %v", parsed, err)
		}
		want, err := ocsp.CreateRequest(leaf.Cert, ca.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		if nonce == "" && string(got) != string(want) {
			t.Errorf("asked %x, the library asks %x", got, want)
		}
		if nonce != "" && !strings.Contains(string(got), nonce) {
			t.Error("the nonce is not in it")
		}
		if rest, err := asn1.Unmarshal(got, &asn1.RawValue{}); err != nil || len(rest) > 0 {
			t.Errorf("%x, %v", rest, err)
		}
	}
}

// FuzzReadAnswer feeds answers of others; none may be taken.
func FuzzReadAnswer(f *testing.F) {
	ca, other := certtest.CA(f, "ca"), certtest.CA(f, "ca")
	leaf := ca.Issue(f, "leaf")
	f.Add(other.Answer(f, certtest.OCSP{Of: leaf.Cert, About: ca}), []byte("n"))
	f.Add(other.Answer(f, certtest.OCSP{Of: leaf.Cert, Nonce: []byte("n"), Along: true}), []byte("n"))
	f.Add(ca.Answer(f, certtest.OCSP{Of: (&x509.Certificate{SerialNumber: ca.Cert.SerialNumber})}), []byte{})
	f.Fuzz(func(t *testing.T, text, nonce []byte) {
		if a, err := revocation.ReadAnswer(text, leaf.Cert, ca.Cert, nonce, time.Now()); err == nil {
			t.Errorf("took an answer that the issuer never gave: %v", a)
		}
	})
}
