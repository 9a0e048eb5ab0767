package compile_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

// disk is what is in files of a gateway.
type disk struct {
	versions   map[certs.Local]*configv1.CertificateVersion
	generation uint64
}

func (d *disk) Read(at certs.Local) (*configv1.CertificateVersion, string, uint64) {
	v := d.versions[at]
	if v == nil {
		return nil, "is in a file that cannot be read", d.generation
	}
	return v, "", d.generation
}

func (d *disk) Generation(certs.Local) uint64 { return d.generation }

func (d *disk) put(at certs.Local, v *configv1.CertificateVersion) {
	d.versions[at] = v
	d.generation++
}

// TestCertificatesFollowFilesOfTheGateway has a certificate that clients are shown, and a service that proves itself with it. The
// set stays the same while files change.
func TestCertificatesFollowFilesOfTheGateway(t *testing.T) {
	t.Parallel()
	files := &disk{versions: map[certs.Local]*configv1.CertificateVersion{}, generation: 1}
	compiler := compile.New(compile.Deps{
		Factories: policies.All(), Host: hostsvc.New(hostsvc.Config{}), Files: files, Log: slog.New(slog.DiscardHandler), Group: "default",
	})
	first, second := selfSigned(t, "web.test"), selfSigned(t, "web.test")
	stranger := selfSigned(t, "other.test")
	at := certs.Local{Chain: "/tls/crt", Key: "/tls/key"}
	web := certificate("web", &configv1.CertificateVersion{Chain: "gateway:/tls/crt", PrivateKey: ref("gateway:/tls/key")}, "web.test")
	g := newGroup(t, web, certificate("still", selfSigned(t, "still.test"), "still.test"), record("services", "s", "s", &configv1.Service{
		Name: "s", Url: "https://127.0.0.1:1", Tls: &configv1.UpstreamTls{ClientCertificate: "web"},
	}))
	var rt *runtime.Runtime
	for _, s := range []struct {
		name string
		do   func()
		want *configv1.CertificateVersion
	}{
		{"not there", func() {}, nil},
		{"there", func() { files.put(at, first) }, first},
		{"nothing happens", func() {}, first},
		{"another", func() { files.put(at, second) }, second},
		{"for other names", func() { files.put(at, stranger) }, nil},
		{"gone", func() { files.put(at, nil) }, nil},
		{"back", func() { files.put(at, first) }, first},
	} {
		s.do()
		var faults []runtime.Fault
		rt, faults = compiler.Build(g.rt.Set, rt)
		want := ""
		if s.want != nil {
			want = certs.VersionID(s.want)
		}
		if got := shown(rt, "web.test"); got != want || (len(faults) == 0) != (s.want != nil) {
			t.Fatalf("%s: %q is shown, want %q; faults %v", s.name, got, want, faults)
		}
		if to, _ := rt.Services.Get("s"); (to.Closed == "") != (s.want != nil) || s.want != nil && to.Targets[0].Identity.At(time.Now()).ID != want {
			t.Fatalf("%s: the service is closed (%q), or proves itself with something else", s.name, to.Closed)
		}
		_, whole := compiler.Build(g.rt.Set, nil)
		if diff := cmp.Diff(whole, faults); diff != "" {
			t.Fatalf("%s: faults of the whole set and of the change differ (-whole +change):\n%s", s.name, diff)
		}
		if shown(rt, "still.test") == "" {
			t.Fatalf("%s: another certificate is closed", s.name)
		}
	}
	g.change(nil, []statetest.Record{web})
	if rt, _ = compiler.Build(g.rt.Set, rt); len(rt.Files) != 0 {
		t.Errorf("it still uses %v", rt.Files)
	}
	if rt, faults := newCompiler().Build(g.rt.Set, nil); len(rt.Files) != 0 || len(faults) == 0 {
		t.Errorf("the service without its certificate: faults %v", faults)
	}
}

func ref(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Ref{Ref: text}}
}
