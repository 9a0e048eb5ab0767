package compile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

// ordered is a certificate that an authority issues.
func ordered(previous *configv1.CertificateVersion, snis ...string) statetest.Record {
	return record(certs.Kind, "cert-web", "web", &configv1.Certificate{
		Name: "web", Snis: snis, Acme: &configv1.CertificateAcme{Issuer: "ca"}, Previous: previous,
	})
}

func issued(certificate string, v *configv1.CertificateVersion) statetest.Record {
	return record(certs.KindIssued, "issued-"+certificate, certificate, &systemv1.IssuedCertificate{Certificate: v})
}

// TestWhatIsIssuedIsShown follows a certificate from its order on, with a service that proves itself with it, and holds each
// step against a compilation of the whole set.
func TestWhatIsIssuedIsShown(t *testing.T) {
	t.Parallel()
	before, first, second := selfSigned(t, "web.test"), selfSigned(t, "web.test"), selfSigned(t, "web.test", "new.test")
	foreign := selfSigned(t, "web.test")
	foreign.PrivateKey = first.GetPrivateKey()
	service := record("services", "s", "s", &configv1.Service{
		Name: "s", Url: "https://127.0.0.1:1", Tls: &configv1.UpstreamTls{ClientCertificate: "web"},
	})
	g := newGroup(t, certificate("web", before, "web.test"), service, record(certs.KindIssuer, "i", "ca", &configv1.AcmeIssuer{Name: "ca"}))
	for _, s := range []struct {
		name   string
		do     func()
		want   *configv1.CertificateVersion
		others []string // what is shown for new.test
		faults int
	}{
		{name: "given", do: func() {}, want: before},
		{name: "ordered: the one before goes on", do: func() { g.put(ordered(before, "web.test")) }, want: before},
		{name: "issued", do: func() { g.put(issued("web", first)) }, want: first},
		{name: "with a name more, that it is not for", do: func() { g.put(ordered(before, "web.test", "new.test")) }, want: first},
		{name: "issued for both", do: func() { g.put(issued("web", second)) }, want: second, others: []string{certs.VersionID(second)}},
		{name: "the key of another", do: func() { g.put(issued("web", foreign)) }, faults: 2},
		{name: "its own again", do: func() { g.put(issued("web", first)) }, want: first},
		{name: "what failed", do: func() {
			g.put(record(certs.KindIssued, "issued-web", "web", &systemv1.IssuedCertificate{LastError: "no"}), ordered(nil, "web.test"))
		}, faults: 1},
		{name: "for another certificate", do: func() { g.change([]statetest.Record{issued("api", first)}, []statetest.Record{issued("web", nil)}) }, faults: 1},
	} {
		s.do()
		want := ""
		if s.want != nil {
			want = certs.VersionID(s.want)
		}
		if got := shown(g.rt, "web.test"); got != want {
			t.Fatalf("%s: %q is shown, want %q", s.name, got, want)
		}
		if got := shown(g.rt, "new.test"); got != "" != (len(s.others) > 0) || got != "" && !slices.Contains(s.others, got) {
			t.Fatalf("%s: %q is shown for a name that was added", s.name, got)
		}
		to := g.service("s")
		if open := to.Closed == ""; open != (s.want != nil) || open && to.Targets[0].Identity.At(time.Now()).ID != want {
			t.Fatalf("%s: the service is closed (%q), or proves itself with something else", s.name, to.Closed)
		}
		fresh, faults := newCompiler().Build(g.rt.Set, nil)
		if diff := cmp.Diff(faults, compile.Faults(g.rt)); diff != "" || len(faults) != s.faults {
			t.Fatalf("%s: %d faults, want %d; of the whole set and of the change (-whole +change):\n%s\n%v", s.name, len(faults), s.faults, diff, faults)
		}
		if got := shown(fresh, "web.test"); got != want {
			t.Fatalf("%s: of the whole set %q is shown", s.name, got)
		}
	}
}

func TestChallengesComeAndGo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	asked := func(uid, token, text string) statetest.Record {
		return record(certs.KindChallenge, uid, uid, &systemv1.AcmeChallenge{
			Certificate: "web", Type: certs.ChallengeHTTP, Host: "web.test", Token: token, KeyAuthorization: text,
			Until: timestamppb.New(now.Add(time.Minute)),
		})
	}
	g := newGroup(t)
	answers := func(token, want string) {
		t.Helper()
		fresh, faults := newCompiler().Build(g.rt.Set, nil)
		for name, rt := range map[string]interface {
			Answer(host, target []byte, now time.Time) []byte
		}{"change": g.rt.Challenges, "whole": fresh.Challenges} {
			if got := rt.Answer([]byte("web.test"), []byte("/.well-known/acme-challenge/"+token), now); string(got) != want {
				t.Errorf("after the %s %s is answered with %q, want %q", name, token, got, want)
			}
		}
		if len(faults) > 0 {
			t.Errorf("faults: %v", faults)
		}
	}
	answers("a", "")
	g.put(asked("1", "a", "a.x"), asked("2", "b", "b.x"))
	answers("a", "a.x")
	g.change([]statetest.Record{asked("2", "b", "b.y")}, []statetest.Record{asked("1", "", "")})
	answers("a", "")
	answers("b", "b.y")
	g.change(nil, []statetest.Record{asked("2", "", "")})
	answers("b", "")
}
