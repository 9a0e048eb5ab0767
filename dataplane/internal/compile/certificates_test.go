package compile_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// selfSigned is a version for the names.
func selfSigned(t *testing.T, names ...string) *configv1.CertificateVersion {
	t.Helper()
	c := certtest.SelfSigned(t, "leaf", certtest.Names(names...))
	return &configv1.CertificateVersion{
		Chain: c.PEM(), PrivateKey: &configv1.Secret{Set: true, Value: &configv1.Secret_Plaintext{Plaintext: c.KeyPEM(t)}},
	}
}

func certificate(name string, v *configv1.CertificateVersion, snis ...string) statetest.Record {
	return record(certs.Kind, "cert-"+name, name, &configv1.Certificate{Name: name, Snis: snis, Current: v})
}

// shown is the id of what is shown for a name; empty: nothing is.
func shown(rt *runtime.Runtime, name string) string {
	choice := rt.Certificates.Find(name)
	if !choice.Valid(time.Now()) {
		return ""
	}
	return choice[0].At(time.Now()).ID
}

func TestCertificatesThatCannotBeUsedCloseTheirNamesOnly(t *testing.T) {
	t.Parallel()
	good, wild, bare, foreign := selfSigned(t, "a.b.test"), selfSigned(t, "*.b.test"), selfSigned(t, "c.b.test"), selfSigned(t, "d.b.test")
	bare.PrivateKey = nil
	foreign.PrivateKey = good.GetPrivateKey()
	rt, faults := build(t, certificate("good", good, "a.b.test"), certificate("wild", wild, "*.b.test"),
		certificate("bare", bare, "c.b.test"), certificate("foreign", foreign, "d.b.test"), certificate("trusted", selfSigned(t)))
	wantFaults := []string{
		"certificates/bare: current.private_key required: without it the certificate cannot be presented for its snis",
		`certificates/foreign: current.private_key does not belong to the certificate "leaf"`,
	}
	if diff := cmp.Diff(wantFaults, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"a.b.test": certs.VersionID(good), "x.b.test": certs.VersionID(wild), "c.b.test": "", "d.b.test": "", "other": "", "": "",
	} {
		if got := shown(rt, name); got != want {
			t.Errorf("for %q is shown %q, want %q", name, got, want)
		}
	}
}

// TestUnchangedCertificatesAreNotOpenedAgain looks at the table after changes, and after the whole set came again.
func TestUnchangedCertificatesAreNotOpenedAgain(t *testing.T) {
	t.Parallel()
	c, source, folder := newCompiler(), statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	b := certificate("b", selfSigned(t, "b.test"), "b.test")
	source.Change([]statetest.Record{certificate("a", selfSigned(t, "a.test"), "a.test"), b}, nil)
	first, _ := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	service := record("services", "s", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:1"})
	other, _ := c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{service}, nil)), first)
	if other.Certificates != first.Certificates {
		t.Error("a change of something else made a new table")
	}
	again, _ := c.Build(statetest.Fold(t, folder, source.Reset()), other)
	if again.Certificates != first.Certificates {
		t.Error("the whole set made a new table")
	}
	fresh := certificate("b", selfSigned(t, "b.test"), "b.test")
	second, _ := c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{fresh}, nil)), again)
	for name, want := range map[string]bool{"a.test": true, "b.test": false} {
		if same := second.Certificates.Find(name)[0] == first.Certificates.Find(name)[0]; same != want {
			t.Errorf("%s is the same: %v, want %v", name, same, want)
		}
	}
	without, _ := c.Build(statetest.Fold(t, folder, source.Change(nil, []statetest.Record{fresh})), second)
	if got := without.Certificates.Find("b.test"); got != nil {
		t.Errorf("a removed certificate is found: %v", got)
	}
}

// TestACertificatesNameMayGoToAnother gives the name of a removed certificate to a new one in the same change.
func TestACertificatesNameMayGoToAnother(t *testing.T) {
	t.Parallel()
	c := newCompiler()
	old, fresh := selfSigned(t, "a.test"), selfSigned(t, "a.test")
	before, _ := c.Build(statetest.Set(t, certificate("a", old, "a.test")), nil)
	moved := record(certs.Kind, "another-uid", "a", &configv1.Certificate{Name: "a", Snis: []string{"a.test"}, Current: fresh})
	after, _ := c.Build(statetest.Set(t, moved), before)
	if got := shown(after, "a.test"); got != certs.VersionID(fresh) {
		t.Errorf("shown is %s, want the new one", got)
	}
}

func TestDefaultCertificatesAreResolved(t *testing.T) {
	t.Parallel()
	a, b := selfSigned(t, "a.test"), selfSigned(t, "b.test")
	both := &configv1.Certificate{Name: "both", Current: a, Next: b}
	for _, tt := range []struct {
		name      string
		reference []string
		want      string
		known     bool
	}{
		{"none", nil, "", false},
		{"by name", []string{"both"}, certs.VersionID(a), true},
		{"one version by its id", []string{certs.VersionID(b)}, certs.VersionID(b), true},
		{"one that is not there", []string{"gone"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &configv1.Settings{Tls: &configv1.ServerTls{DefaultCertificate: tt.reference}}
			rt, _ := build(t, record(certs.Kind, "cert-both", "both", both), record("settings", "settings-uid", "settings", s))
			if known := len(rt.Certificates.Find("x.test")) > 0; known != tt.known {
				t.Errorf("there is a default: %v, want %v", known, tt.known)
			}
			if got := shown(rt, "x.test"); got != tt.want {
				t.Errorf("shown is %q, want %q", got, tt.want)
			}
		})
	}
}

// TestTLSThatIsNotUnderstoodClosesTheGroup gives a gateway what only a newer one could know.
func TestTLSThatIsNotUnderstoodClosesTheGroup(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*configv1.ServerTls{
		"a version": {MinVersion: "1.4"}, "a suite": {CipherSuites: []string{"TLS_RSA_WITH_AES_128_GCM_SHA256"}}, "a curve": {Curves: []string{"P-192"}}, "a protocol": {Alpn: []string{"h3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, faults := build(t, record("settings", "settings-uid", "settings", &configv1.Settings{Tls: s}))
			if rt.Closed == "" || len(faults) != 1 {
				t.Errorf("closed: %q, faults %v", rt.Closed, faults)
			}
		})
	}
}
