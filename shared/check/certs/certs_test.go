package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

func version(t *testing.T, c *certtest.Cert) *configv1.CertificateVersion {
	t.Helper()
	return &configv1.CertificateVersion{Chain: c.ChainPEM(), PrivateKey: plain(c.KeyPEM(t))}
}

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

func compare(t *testing.T, vs []problem.Violation, want []string) {
	t.Helper()
	var got []string
	for _, v := range problem.Sort(vs) {
		got = append(got, v.Path+": "+v.Reason)
	}
	if len(got) != len(want) {
		t.Fatalf("told %q, want %q", got, want)
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("told %q, want %q", got[i], want[i])
		}
	}
}

// TestOpen has certificates in stored form, good and bad, with everything that is wrong with them.
func TestOpen(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	middle := root.CA(t, "middle")
	www := middle.Issue(t, "www", certtest.Names("www.example.com", "*.api.example.com", "UPPER.example.com"))
	nameless, other := root.Issue(t, "nameless"), root.Issue(t, "other")
	for _, tt := range []struct {
		name string
		in   *configv1.Certificate
		want []string
	}{
		{name: "good", in: &configv1.Certificate{
			Snis: []string{"www.example.com", "*.api.example.com", "v1.api.example.com", "upper.example.com"}, Current: version(t, www),
		}},
		{name: "only believed", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: nameless.PEM()}}},
		{name: "no current", in: &configv1.Certificate{}},
		{name: "snis without key", in: &configv1.Certificate{
			Snis: []string{"www.example.com"}, Current: version(t, www), Next: &configv1.CertificateVersion{Chain: middle.Issue(t, "b", certtest.Names("www.example.com")).ChainPEM()},
		}, want: []string{"next.private_key: required"}},
		{name: "key is kept", in: &configv1.Certificate{
			Snis: []string{"www.example.com"}, Current: &configv1.CertificateVersion{Chain: www.ChainPEM(), PrivateKey: &configv1.Secret{Set: true}},
		}},
		{name: "other names", in: &configv1.Certificate{
			Snis:    []string{"www.example.org", "*.example.com", "a.b.api.example.com", "api.example.com", "10.0.0.1", "[::1]"},
			Current: version(t, www), Next: version(t, nameless), Previous: version(t, other),
		}, want: []string{
			"current.chain: is not for www.example.org, *.example.com, a.b.api.example.com, api.example.com, 10.0.0.1, [::1] of snis; it is for www.example.com, *.api.example.com, UPPER.example.com",
			"next.chain: is for no host names", "snis[4]: is an address", "snis[5]: is an address",
		}},
		{name: "twice the same", in: &configv1.Certificate{Current: version(t, www), Next: version(t, www)}, want: []string{"next: is the same certificate as current"}},
		{name: "key of another", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.ChainPEM(), PrivateKey: plain(other.KeyPEM(t))}}, want: []string{
			`current.private_key: does not belong to the certificate "www"`,
		}},
		{name: "no order", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: middle.PEM() + www.PEM()}}, want: []string{`current.chain: "www" did not issue "middle"`}},
		{name: "key in the chain", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.PEM() + www.KeyPEM(t)}}, want: []string{"current.chain: holds something else than certificates"}},
		{name: "something behind", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.PEM() + "x"}}, want: []string{"current.chain: has something behind"}},
		{name: "endless", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: strings.Repeat(root.PEM(), 17)}}, want: []string{"current.chain: holds more than 16 certificates"}},
		{name: "junk as key", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.PEM(), PrivateKey: plain("junk")}}, want: []string{"current.private_key: is not one private key"}},
		{name: "damaged key", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.PEM(), PrivateKey: plain(certtest.Block("PRIVATE KEY", []byte("junk")))}}, want: []string{"current.private_key: cannot be read"}},
		{name: "a passphrase", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: www.PEM(), Passphrase: plain("x")}}, want: []string{"current.passphrase: opens nothing"}},
		{name: "an RSA key too short", in: &configv1.Certificate{Current: version(t, root.Issue(t, "weak", certtest.Key(shortRSA(t))))}, want: []string{
			"current.chain: has an RSA key of 1024 bits", "current.private_key: has an RSA key of 1024 bits",
		}},
		{name: "a curve too short", in: &configv1.Certificate{Current: &configv1.CertificateVersion{Chain: root.Issue(t, "weak", certtest.Key(p224(t))).PEM()}}, want: []string{
			"current.chain: has an ECDSA key on P-224",
		}},
		{name: "authority as leaf", in: &configv1.Certificate{Current: version(t, middle)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, vs := certs.Open(tt.in)
			compare(t, vs, tt.want)
		})
	}
}

func shortRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	p, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func p224(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpenCA(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	middle, leaf := root.CA(t, "middle"), root.Issue(t, "leaf")
	mute := certtest.CA(t, "mute", certtest.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }))
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{name: "one", in: root.PEM()},
		{name: "several", in: root.PEM() + middle.PEM()},
		{name: "none", want: []string{"certificates: holds no certificate"}},
		{name: "no authority, and one twice", in: root.PEM() + leaf.PEM() + mute.PEM() + root.PEM(), want: []string{
			`certificates: the certificate at place 2, "leaf", is not one of an authority`,
			`certificates: the certificate at place 3, "mute", may not sign certificates`,
			"certificates: the certificate at place 4 is the same as the one at place 1",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, vs := certs.OpenCA(&configv1.CaCertificate{Certificates: tt.in})
			compare(t, vs, tt.want)
		})
	}
}

// TestPresented looks at the versions of a certificate through its life.
func TestPresented(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	cert := func(name string, from, to int) *configv1.CertificateVersion {
		return version(t, certtest.SelfSigned(t, name, certtest.Valid(day(from), day(to))))
	}
	full := &configv1.Certificate{Name: "web", Current: cert("current", 2, 10), Next: cert("next", 8, 20), Previous: cert("previous", 1, 30)}
	gap := &configv1.Certificate{Name: "gap", Current: cert("current", 2, 10), Next: cert("next", 12, 20)}
	for _, tt := range []struct {
		name string
		in   *configv1.Certificate
		at   time.Time
		want string
	}{
		{"before all", full, day(1), ""},
		{"current", full, day(2), "current"},
		{"current although next is valid", full, day(9), "current"},
		{"current in its last second", full, day(10), "current"},
		{"next", full, day(10).Add(time.Second), "next"},
		{"never the previous one", full, day(21), ""},
		{"between", gap, day(11), ""},
		{"after the gap", gap, day(12), "next"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, vs := certs.Open(tt.in)
			if len(vs) > 0 {
				t.Fatal(vs)
			}
			got := ""
			if v := set.For(tt.in.GetName(), tt.at); v != nil {
				got = v.Leaf().Subject.CommonName
			}
			if got != tt.want {
				t.Errorf("presented %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReferences has what names and ids mean, also for a certificate that is named by the id of a version it once had.
func TestReferences(t *testing.T) {
	t.Parallel()
	a, b, c := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b"), certtest.SelfSigned(t, "c")
	for _, name := range []string{"web", a.ID()} {
		set, vs := certs.Open(&configv1.Certificate{Name: name, Previous: version(t, a), Current: version(t, b), Next: version(t, c)})
		if len(vs) > 0 {
			t.Fatal(vs)
		}
		want := map[string][]string{name: {"b", "b c"}, b.ID(): {"b", "b"}, c.ID(): {"c", "c"}, strings.Repeat("0", 64): {"", ""}, "other": {"", ""}}
		if name != a.ID() {
			want[a.ID()] = []string{"a", "a"}
		} else {
			want[name] = []string{"b", "b c"}
		}
		got := map[string][]string{}
		for ref := range want {
			one, all := "", []string{}
			if v := set.For(ref, time.Now()); v != nil {
				one = v.Leaf().Subject.CommonName
			}
			for _, v := range set.Believed(ref) {
				all = append(all, v.Leaf().Subject.CommonName)
			}
			got[ref] = []string{one, strings.Join(all, " ")}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("certificate %.8s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.test", "a.test", true},
		{"a.test", "b.a.test", false},
		{"*.a.test", "b.a.test", true},
		{"*.a.test", "c.b.a.test", false},
		{"*.a.test", "a.test", false},
		{"*.a.test", ".a.test", false},
		{"*.a.test", "*.a.test", true},
		{"*.test", "*.a.test", false},
		{"*.b.a.test", "*.a.test", false},
		{"b.a.test", "*.a.test", false},
		{"*.", "a.", true},
	} {
		if got := certs.Covers(tt.pattern, tt.name); got != tt.want {
			t.Errorf("Covers(%q, %q) = %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	middle := root.CA(t, "middle")
	leaf := middle.Issue(t, "www", certtest.Names("www.example.com", "ev\x00il"))
	c := &configv1.Certificate{Current: version(t, leaf), Next: &configv1.CertificateVersion{Chain: "junk"}}
	certs.Describe(c)
	if c.GetNext().GetInfo() != nil {
		t.Error("something is said of what cannot be read")
	}
	got := c.GetCurrent().GetInfo()
	want := &configv1.CertificateInfo{
		Id: leaf.ID(), Subject: "CN=www", Issuer: "CN=middle", Serial: leaf.Cert.SerialNumber.Text(16), Sans: []string{"www.example.com", "ev\uFFFDil"},
		NotBefore: timestamppb.New(leaf.Cert.NotBefore), NotAfter: timestamppb.New(leaf.Cert.NotAfter),
		KeyAlgorithm: "ECDSA-P-256", HasPrivateKey: true, Chain: []string{"CN=middle"},
	}
	hashes := protocmp.IgnoreFields(&configv1.CertificateInfo{}, "fingerprint", "public_key")
	if diff := cmp.Diff(want, got, protocmp.Transform(), hashes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if strings.ToLower(strings.ReplaceAll(got.GetFingerprint(), ":", "")) != leaf.ID() || len(got.GetFingerprint()) != 95 {
		t.Errorf("fingerprint %q", got.GetFingerprint())
	}
	if !certs.IsID(got.GetPublicKey()) || got.GetPublicKey() == got.GetId() || certs.VersionID(c.GetCurrent()) != got.GetId() {
		t.Errorf("public_key %q, id %q", got.GetPublicKey(), certs.VersionID(c.GetCurrent()))
	}
	if infos := certs.Authorities(&configv1.CaCertificate{Certificates: root.PEM() + middle.PEM()}); len(infos) != 2 || infos[1].GetSubject() != "CN=middle" {
		t.Errorf("authorities %v", infos)
	}
}
