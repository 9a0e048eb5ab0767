package compile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

func speaking(name string, v *configv1.CertificateVersion, says *configv1.ServerNameTls, snis ...string) statetest.Record {
	return record(certs.Kind, "cert-"+name, name, &configv1.Certificate{Name: name, Snis: snis, Current: v, Tls: says})
}

// TestTermsThatAreNotUnderstoodCloseTheirNamesOnly gives a gateway what only a newer one could know.
func TestTermsThatAreNotUnderstoodCloseTheirNamesOnly(t *testing.T) {
	t.Parallel()
	a, b := selfSigned(t, "a.test"), selfSigned(t, "b.test")
	for name, tt := range map[string]struct {
		says *configv1.ServerNameTls
		want string
	}{
		"a version":  {&configv1.ServerNameTls{MinVersion: "1.4"}, "certificates/a: tls a version is neither 1.2 nor 1.3"},
		"a suite":    {&configv1.ServerNameTls{CipherSuites: []string{"TLS_RSA_WITH_AES_128_GCM_SHA256"}}, "certificates/a: tls a cipher suite is not known, or not safe"},
		"a curve":    {&configv1.ServerNameTls{Curves: []string{"P-192"}}, "certificates/a: tls a curve is not known"},
		"a protocol": {&configv1.ServerNameTls{Alpn: []string{"h3"}}, "certificates/a: tls a protocol of alpn is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, faults := build(t, speaking("a", a, tt.says, "a.test"), certificate("b", b, "b.test"))
			if diff := cmp.Diff([]string{tt.want}, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if shown(rt, "a.test") != "" || shown(rt, "b.test") == "" || rt.Closed != "" {
				t.Errorf("shown are %q and %q, closed: %q", shown(rt, "a.test"), shown(rt, "b.test"), rt.Closed)
			}
		})
	}
}

// TestCertificatesThatDisagreeCloseTheirName follows a name through changes of one certificate after the other, which are not
// admitted, but may come about with one that cannot be read.
func TestCertificatesThatDisagreeCloseTheirName(t *testing.T) {
	t.Parallel()
	c, source, folder := newCompiler(), statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{})
	one, two := selfSigned(t, "a.test"), selfSigned(t, "a.test", "b.test")
	strict, other := &configv1.ServerNameTls{MinVersion: "1.3"}, &configv1.ServerNameTls{MinVersion: "1.3", Alpn: []string{"h2"}}
	const reason = "tls is not what another certificate for a.test says; the name is closed"
	source.Change([]statetest.Record{speaking("one", one, strict, "a.test"), speaking("two", two, strict, "a.test", "b.test")}, nil)
	rt, _ := c.Build(statetest.Fold(t, folder, source.Reset()), nil)
	for i, tt := range []struct {
		change statetest.Record
		open   bool
	}{
		{speaking("two", two, other, "a.test", "b.test"), false},
		{speaking("one", one, other, "a.test"), true},
		{speaking("one", one, nil, "a.test"), false},
		{speaking("two", two, nil, "a.test", "b.test"), true},
	} {
		rt, _ = c.Build(statetest.Fold(t, folder, source.Change([]statetest.Record{tt.change}, nil)), rt)
		if got := shown(rt, "a.test") != ""; got != tt.open {
			t.Errorf("after change %d a.test is open: %v, want %v", i, got, tt.open)
		}
		if shown(rt, "b.test") == "" {
			t.Errorf("after change %d nothing is shown for b.test, too", i)
		}
		var want, got []string
		if !tt.open {
			want = []string{"one: " + reason, "two: " + reason}
		}
		for _, f := range compile.Faults(rt) {
			got = append(got, f.Name+": "+f.Reason)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("faults after change %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestTransportSecurityIsTheHosts(t *testing.T) {
	t.Parallel()
	hsts := func(seconds int64) *configv1.Hsts {
		return &configv1.Hsts{MaxAge: &durationpb.Duration{Seconds: seconds}}
	}
	rt, faults := build(
		t, record("settings", "settings-uid", "settings", &configv1.Settings{Tls: &configv1.ServerTls{Hsts: hsts(1)}}),
		speaking("a", selfSigned(t, "a.test"), &configv1.ServerNameTls{Hsts: hsts(2)}, "a.test"),
		speaking("b", selfSigned(t, "b.test"), &configv1.ServerNameTls{MinVersion: "1.3"}, "b.test"),
		speaking("wild", selfSigned(t, "*.w.test"), &configv1.ServerNameTls{Hsts: hsts(0)}, "*.w.test"),
	)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for host, want := range map[string]string{"a.test": "max-age=2", "b.test": "max-age=1", "x.w.test": "max-age=0", "c.test": "max-age=1", "": "max-age=1"} {
		if got := rt.TransportSecurity([]byte(host)); string(got.Value) != want {
			t.Errorf("TransportSecurity(%q) = %s, want %s", host, got.Value, want)
		}
	}
}
