package compile_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

const reference = "{file://mounted/web.pem}"

func referring() *configv1.CertificateVersion {
	return &configv1.CertificateVersion{PrivateKey: &configv1.Secret{Value: &configv1.Secret_Ref{Ref: reference}}}
}

// read is what was read for the current version of a certificate; nil: nothing for too long.
func read(certificate string, v *configv1.CertificateVersion) statetest.Record {
	name := certs.ResolvedName(certificate, referring())
	return record(certs.KindResolved, "read-"+certificate, name, &systemv1.ResolvedSecret{Reference: reference, Certificate: v})
}

// TestReferencesOpenAndCloseWithWhatIsRead follows a certificate and a service that proves itself with it, and holds each step
// against a compilation of the whole set.
func TestReferencesOpenAndCloseWithWhatIsRead(t *testing.T) {
	t.Parallel()
	first, second, foreign := selfSigned(t, "web.test"), selfSigned(t, "web.test"), selfSigned(t, "web.test")
	foreign.PrivateKey = first.GetPrivateKey()
	for _, v := range []*configv1.CertificateVersion{first, second, foreign} {
		v.PrivateKey.Set = false
	}
	failing := &systemv1.ResolvedSecret{Reference: reference, Certificate: second, FailingSince: timestamppb.Now()}
	web := certificate("web", referring(), "web.test")
	service := record("services", "s", "s", &configv1.Service{
		Name: "s", Url: "https://127.0.0.1:1", Tls: &configv1.UpstreamTls{ClientCertificate: "web"},
	})
	g := newGroup(t, web, service)
	steps := []struct {
		name string
		do   func()
		want *configv1.CertificateVersion
	}{
		{"not read yet", func() {}, nil},
		{"read", func() { g.put(read("web", first)) }, first},
		{"rotated", func() { g.put(read("web", second)) }, second},
		{"its source is down", func() { g.put(record(certs.KindResolved, "read-web", certs.ResolvedName("web", referring()), failing)) }, second},
		{"the certificate changes with what is read", func() { g.put(certificate("web", referring(), "web.test", "*.web.test"), read("web", first)) }, nil},
		{"and back", func() { g.put(web) }, first},
		{"too old", func() { g.put(read("web", nil)) }, nil},
		{"read again", func() { g.put(read("web", first)) }, first},
		{"the key of another", func() { g.put(read("web", foreign)) }, nil},
		{"for another certificate", func() { g.change([]statetest.Record{read("api", second)}, []statetest.Record{read("web", nil)}) }, nil},
		{"its own again", func() { g.put(read("web", second)) }, second},
		{"gone", func() { g.change(nil, []statetest.Record{read("web", nil)}) }, nil},
		{"a literal", func() { g.put(certificate("web", first, "web.test")) }, first},
	}
	for _, s := range steps {
		s.do()
		want := ""
		if s.want != nil {
			want = certs.VersionID(s.want)
		}
		if got := shown(g.rt, "web.test"); got != want {
			t.Fatalf("%s: %q is shown, want %q", s.name, got, want)
		}
		to := g.service("s")
		if open := to.Closed == ""; open != (s.want != nil) || open && to.Targets[0].Identity.At(time.Now()).ID != want {
			t.Fatalf("%s: the service is closed (%q), or proves itself with something else", s.name, to.Closed)
		}
		fresh, faults := newCompiler().Build(g.rt.Set, nil)
		if diff := cmp.Diff(faults, compile.Faults(g.rt)); diff != "" {
			t.Fatalf("%s: faults of the whole set and of the change differ (-whole +change):\n%s", s.name, diff)
		}
		if got := shown(fresh, "web.test"); got != want || (len(faults) == 0) != (s.want != nil) {
			t.Fatalf("%s: of the whole set %q is shown, faults %v", s.name, got, faults)
		}
	}
}

// TestAVersionToComeThatIsNotThereClosesNothing reports it.
func TestAVersionToComeThatIsNotThereClosesNothing(t *testing.T) {
	t.Parallel()
	current := selfSigned(t, "web.test")
	rt, faults := build(t, record(certs.Kind, "cert-web", "web", &configv1.Certificate{
		Name: "web", Snis: []string{"web.test"}, Current: proto.CloneOf(current), Next: referring(),
	}))
	if got := shown(rt, "web.test"); got != certs.VersionID(current) {
		t.Errorf("%q is shown", got)
	}
	if diff := cmp.Diff([]string{"certificates/web: next.private_key refers to what has not been read yet"}, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// TestALiteralReferenceIsNoKey holds that the text of a reference is never taken for what it refers to.
func TestALiteralReferenceIsNoKey(t *testing.T) {
	t.Parallel()
	v := selfSigned(t, "web.test")
	v.PrivateKey = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: reference}}
	rt, faults := build(t, certificate("web", v, "web.test"))
	if shown(rt, "web.test") != "" || len(faults) != 1 {
		t.Errorf("it is shown, or nothing is told: %v", faults)
	}
}
