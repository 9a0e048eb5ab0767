package certs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"

	"keyward.dev/shared/check/certs"
)

const reference = "{file://mounted/web.pem}"

func referring(chain string) *configv1.CertificateVersion {
	return &configv1.CertificateVersion{Chain: chain, PrivateKey: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: reference}}}
}

func read(chain, key string) *configv1.CertificateVersion {
	return &configv1.CertificateVersion{Chain: chain, PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key}}}
}

func TestReferencesAreReplacedByWhatTheyMean(t *testing.T) {
	t.Parallel()
	const closed = "refers to what"
	record := func(ref string, v *configv1.CertificateVersion) *systemv1.ResolvedSecret {
		return &systemv1.ResolvedSecret{Reference: ref, Certificate: v}
	}
	cases := []struct {
		name   string
		given  *configv1.CertificateVersion
		record *systemv1.ResolvedSecret
		reason string
		want   *configv1.CertificateVersion // nil: closed
	}{
		{"chain and key", referring(""), record(reference, read("C", "K")), "", read("C", "K")},
		{"its chain", referring("C"), record(reference, read("C", "K")), "", read("C", "K")},
		{"another chain", referring("C"), record(reference, read("D", "K")), "", nil},
		{"never read", referring(""), nil, "", nil},
		{"stale", referring(""), record(reference, nil), "", nil},
		{"of another reference", referring(""), record("{file://mounted/other.pem}", read("C", "K")), "", nil},
		{"without a key", referring(""), record(reference, &configv1.CertificateVersion{Chain: "C"}), "", nil},
		{"with a reference again", referring(""), record(reference, referring("C")), "", nil},
		{"unreadable", referring(""), nil, "the row is damaged", nil},
		{"no reference", read("C", "K"), nil, "never asked", read("C", "K")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			given := &configv1.Certificate{Name: "web", Current: c.given}
			before := proto.CloneOf(given)
			got, vs := certs.Resolve(given, func(string) (*systemv1.ResolvedSecret, string) { return c.record, c.reason })
			if diff := cmp.Diff(c.want, got.GetCurrent(), protocmp.Transform()); diff != "" {
				t.Errorf("Resolve (-want +got):\n%s", diff)
			}
			told := len(vs) == 1 && vs[0].Path == "current.private_key" && strings.Contains(vs[0].Reason, closed)
			if told != (c.want == nil) {
				t.Errorf("it tells %v", vs)
			}
			if !proto.Equal(given, before) {
				t.Error("what was given has changed")
			}
		})
	}
}

func TestTheNameOfWhatIsReadSaysForWhat(t *testing.T) {
	t.Parallel()
	other := referring("")
	other.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{file://mounted/web.pem }"}}
	seen := map[string]bool{}
	for _, v := range []*configv1.CertificateVersion{referring(""), referring("C"), referring("D"), other} {
		seen[certs.ResolvedName("web", v)], seen[certs.ResolvedName("api", v)] = true, true
	}
	if len(seen) != 8 {
		t.Errorf("%d names for 8 places", len(seen))
	}
}

func TestWhatIsReadFromElsewhereMayHaveAnyKey(t *testing.T) {
	t.Parallel()
	if got := certs.KeyKinds(referring("")); len(got) != 3 {
		t.Errorf("kinds of one that is read from elsewhere: %v, want all", got)
	}
	if got := certs.KeyKinds(&configv1.CertificateVersion{}); len(got) != 0 {
		t.Errorf("kinds of nothing: %v", got)
	}
	_, vs := certs.Open(&configv1.Certificate{Name: "web", Current: referring(""), Next: referring("")})
	if len(vs) != 1 || vs[0].Path != "next" {
		t.Errorf("two versions with one reference: %v", vs)
	}
	set, vs := certs.Open(&configv1.Certificate{Name: "web", Snis: []string{"web.test"}, Current: referring("")})
	if len(vs) != 0 || set.Current != nil {
		t.Errorf("Open = %+v, %v; want nothing to show and nothing wrong", set.Current, vs)
	}
}
