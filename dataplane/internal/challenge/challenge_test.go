package challenge_test

import (
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/challenge"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func overHTTP(host, token string) *systemv1.AcmeChallenge {
	return &systemv1.AcmeChallenge{
		Type: certs.ChallengeHTTP, Host: host, Token: token, KeyAuthorization: token + ".thumb", Until: timestamppb.New(noon),
	}
}

func TestOnlyLiveTokensOfTheHostAreAnswered(t *testing.T) {
	t.Parallel()
	table := challenge.New([]*systemv1.AcmeChallenge{overHTTP("a.test", "one"), overHTTP("b.test", "two")})
	for _, tt := range []struct {
		name, host, target string
		at                 time.Time
		want               string
	}{
		{"its own", "a.test", "/.well-known/acme-challenge/one", noon, "one.thumb"},
		{"of the other host", "b.test", "/.well-known/acme-challenge/one", noon, ""},
		{"another host", "c.test", "/.well-known/acme-challenge/one", noon, ""},
		{"too late", "a.test", "/.well-known/acme-challenge/one", noon.Add(time.Nanosecond), ""},
		{"unknown", "a.test", "/.well-known/acme-challenge/three", noon, ""},
		{"no token", "a.test", "/.well-known/acme-challenge/", noon, ""},
		{"with a query", "a.test", "/.well-known/acme-challenge/one?x", noon, ""},
		{"below", "a.test", "/.well-known/acme-challenge/one/", noon, ""},
		{"elsewhere", "a.test", "/x/.well-known/acme-challenge/one", noon, ""},
		{"in capitals", "a.test", "/.well-known/ACME-challenge/one", noon, ""},
		{"the prefix alone", "a.test", "/.well-known/acme-challenge", noon, ""},
	} {
		if got := table.Answer([]byte(tt.host), []byte(tt.target), tt.at); string(got) != tt.want {
			t.Errorf("%s: answered %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := challenge.New(nil).Answer([]byte("a.test"), []byte("/.well-known/acme-challenge/one"), noon); got != nil {
		t.Errorf("without challenges %q is answered", got)
	}
}

func TestTheCertificateIsForAuthoritiesOnly(t *testing.T) {
	t.Parallel()
	proof := func(until time.Time) (*systemv1.AcmeChallenge, string) {
		c := certtest.SelfSigned(t, "a.test", certtest.Names("a.test"))
		key, err := x509.MarshalPKCS8PrivateKey(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &systemv1.AcmeChallenge{
			Type: certs.ChallengeTLS, Host: "a.test", Shown: c.Cert.Raw, ShownKey: key, Until: timestamppb.New(until),
		}, string(c.Cert.Raw)
	}
	old, _ := proof(noon.Add(-time.Minute))
	fresh, want := proof(noon)
	broken := &systemv1.AcmeChallenge{Type: certs.ChallengeTLS, Host: "b.test", ShownKey: []byte("x"), Until: timestamppb.New(noon)}
	for _, order := range [][]*systemv1.AcmeChallenge{{old, fresh, broken}, {fresh, broken, old}} {
		table := challenge.New(order)
		for _, tt := range []struct {
			name, host string
			offered    []string
			at         time.Time
			shown      bool
		}{
			{"an authority", "a.test", []string{"acme-tls/1"}, noon, true},
			{"too late", "a.test", []string{"acme-tls/1"}, noon.Add(time.Second), false},
			{"a client that offers more", "a.test", []string{"acme-tls/1", "h2"}, noon, false},
			{"a client", "a.test", []string{"h2", "http/1.1"}, noon, false},
			{"a client that offers nothing", "a.test", nil, noon, false},
			{"another name", "c.test", []string{"acme-tls/1"}, noon, false},
			{"no name", "", []string{"acme-tls/1"}, noon, false},
			{"one that cannot be read", "b.test", []string{"acme-tls/1"}, noon, false},
		} {
			got := table.Shown(tt.host, tt.offered, tt.at)
			if (got != nil) != tt.shown || got != nil && string(got.Certificate[0]) != want {
				t.Errorf("%s: shown %v, want something: %v", tt.name, got != nil, tt.shown)
			}
		}
	}
}
