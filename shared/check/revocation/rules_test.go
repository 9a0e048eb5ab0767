package revocation_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

// TestOpen has what CA certificates say, good and bad.
func TestOpen(t *testing.T) {
	t.Parallel()
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "other")
	crl := listPEM(ca.CRL(t, 1, nil))
	strict, soft, ignore := configv1.RevocationMode_REVOCATION_MODE_STRICT, configv1.RevocationMode_REVOCATION_MODE_SOFT, configv1.RevocationMode_REVOCATION_MODE_IGNORE
	for _, tt := range []struct {
		name string
		in   *configv1.Revocation
		want string // what is wrong
		asks bool
		mode bool // strict
	}{
		{name: "nothing"},
		{name: "left out is strict", in: &configv1.Revocation{Crl: crl}, asks: true, mode: true},
		{name: "strict", in: &configv1.Revocation{Mode: strict, Ocsp: &configv1.Ocsp{}}, asks: true, mode: true},
		{name: "soft", in: &configv1.Revocation{Mode: soft, CrlUrls: []string{"http://a.test"}}, asks: true},
		{name: "ignore", in: &configv1.Revocation{Mode: ignore, Crl: crl}},
		{name: "ignore, without anything", in: &configv1.Revocation{Mode: ignore}},
		{name: "a mode of later", in: &configv1.Revocation{Mode: 99, Crl: crl}, want: "revocation.mode is none"},
		{name: "no source", in: &configv1.Revocation{}, want: "revocation names no source"},
		{name: "only how often", in: &configv1.Revocation{Refresh: durationpb.New(time.Minute)}, want: "revocation names no source"},
		{name: "one good, one not", in: &configv1.Revocation{Crl: crl + listPEM(other.CRL(t, 1, nil))}, want: "revocation.crl the list at place 2 is of none"},
		{name: "junk", in: &configv1.Revocation{Crl: "junk"}, want: "revocation.crl holds something that is no"},
		{name: "junk behind", in: &configv1.Revocation{Crl: crl + "junk"}, want: "revocation.crl holds something that is no"},
		{name: "a certificate", in: &configv1.Revocation{Crl: crl + ca.PEM()}, want: "revocation.crl holds something else"},
		{name: "bad where it is ignored", in: &configv1.Revocation{Mode: ignore, Crl: ca.PEM()}, want: "revocation.crl holds something else"},
		{name: "endless", in: &configv1.Revocation{Crl: strings.Repeat(listPEM([]byte("x")), 257)}, want: "revocation.crl holds more than 256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, vs := revocation.Open(&configv1.CaCertificate{Revocation: tt.in}, []*x509.Certificate{ca.Cert})
			if tt.want == "" && len(vs) > 0 || tt.want != "" && (len(vs) == 0 || !strings.HasPrefix(vs[0].Path+" "+vs[0].Reason, tt.want)) {
				t.Fatalf("told %v, want %q", vs, tt.want)
			}
			if (r != nil) != tt.asks {
				t.Errorf("Open() = %v, want somebody to be asked: %v", r, tt.asks)
			}
			if r != nil && (r.Strict != tt.mode || r.Refresh != time.Hour || r.Timeout != 2*time.Second) {
				t.Errorf("Open() = %+v", r)
			}
		})
	}
}
