package certs_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

func order(keyType string, snis ...string) *configv1.Certificate {
	return &configv1.Certificate{Name: "web", Snis: snis, Acme: &configv1.CertificateAcme{Issuer: "ca", KeyType: keyType}}
}

// TestOrdersAreReplacedByWhatWasIssued has what is presented for an order in every state it can be in.
func TestOrdersAreReplacedByWhatWasIssued(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	a, both := version(t, ca.Issue(t, "a", certtest.Names("a.test"))), version(t, ca.Issue(t, "both", certtest.Names("a.test", "b.test")))
	with := func(previous *configv1.CertificateVersion, snis ...string) *configv1.Certificate {
		c := order("", snis...)
		c.Previous = previous
		return c
	}
	given := &configv1.Certificate{Name: "web", Current: a}
	for _, tt := range []struct {
		name     string
		in       *configv1.Certificate
		record   *systemv1.IssuedCertificate
		damaged  string
		current  *configv1.CertificateVersion // nil: nothing is presented
		previous bool
		snis     []string
	}{
		{name: "given", in: given, damaged: "never asked", current: a},
		{name: "nothing yet", in: order("", "a.test")},
		{name: "only failures", in: order("", "a.test"), record: &systemv1.IssuedCertificate{LastError: "x"}},
		{name: "the one before", in: with(a, "a.test"), current: a, snis: []string{"a.test"}},
		{name: "issued", in: order("", "a.test", "b.test"), record: &systemv1.IssuedCertificate{Certificate: both}, current: both, snis: []string{"a.test", "b.test"}},
		{name: "issued after another", in: with(a, "a.test"), record: &systemv1.IssuedCertificate{Certificate: both}, current: both, previous: true, snis: []string{"a.test"}},
		{name: "a name more", in: order("", "a.test", "b.test"), record: &systemv1.IssuedCertificate{Certificate: a}, current: a, snis: []string{"a.test"}},
		{name: "damaged", in: with(a, "a.test"), damaged: "the row is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := proto.CloneOf(tt.in)
			got, reason := certs.Ordered(tt.in, func(string) (*systemv1.IssuedCertificate, string) { return tt.record, tt.damaged })
			if diff := cmp.Diff(before, tt.in, protocmp.Transform()); diff != "" {
				t.Errorf("the certificate itself was changed:\n%s", diff)
			}
			if (reason != "") != (tt.damaged != "" && tt.in.GetAcme() != nil) || (got == nil) != (tt.current == nil) {
				t.Fatalf("presented: %v, reason %q", got != nil, reason)
			}
			if got == nil {
				return
			}
			if !proto.Equal(got.GetCurrent(), tt.current) || (got.GetPrevious() != nil) != tt.previous || !slices.Equal(got.GetSnis(), tt.snis) {
				t.Errorf("got current %s for %v, previous %v", certs.VersionID(got.GetCurrent()), got.GetSnis(), got.GetPrevious() != nil)
			}
			if _, vs := certs.Open(got); len(vs) > 0 {
				t.Errorf("what is presented does not open: %v", vs)
			}
		})
	}
}

func TestOrdersAreChecked(t *testing.T) {
	t.Parallel()
	v := version(t, certtest.SelfSigned(t, "a", certtest.Names("a.test")))
	with := func(change func(*configv1.Certificate)) *configv1.Certificate {
		c := order("", "a.test")
		change(c)
		return c
	}
	for _, tt := range []struct {
		name string
		in   *configv1.Certificate
		want []string
	}{
		{name: "good", in: order("rsa-2048", "a.test", "b.a.test")},
		{name: "given", in: &configv1.Certificate{Current: v}},
		{name: "neither", in: &configv1.Certificate{}, want: []string{"current: required"}},
		{name: "both", in: with(func(c *configv1.Certificate) { c.Current, c.Next = v, v }), want: []string{"current: cannot be given beside acme", "next: cannot be given beside acme"}},
		{name: "the one before", in: with(func(c *configv1.Certificate) { c.Previous = v })},
		{name: "no names", in: order(""), want: []string{"snis: required with acme"}},
		{name: "names that nobody can prove", in: order("", "*.a.test", "localhost", "a.test"), want: []string{
			"snis[0]: cannot be issued: names with * are proved by dns-01 only", "snis[1]: cannot be issued: it is not a full host name",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compare(t, certs.Order(tt.in), tt.want)
		})
	}
	for keyType, want := range map[string]string{"": "ECDSA", "ecdsa-p384": "ECDSA", "rsa-3072": "RSA"} {
		if got := certs.ShownKinds(order(keyType, "a.test")); !slices.Equal(got, []string{want}) {
			t.Errorf("%q is presented with keys of the kinds %v", keyType, got)
		}
	}
}
