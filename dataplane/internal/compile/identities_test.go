package compile_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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

// version returns a new version of a certificate in stored form.
func version(t testing.TB, name string) *configv1.CertificateVersion {
	t.Helper()
	c := certtest.SelfSigned(t, name)
	return &configv1.CertificateVersion{
		Chain: c.PEM(), PrivateKey: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: c.KeyPEM(t)}},
	}
}

// authorities returns a resource with a new authority.
func authorities(t testing.TB, name string) *configv1.CaCertificate {
	t.Helper()
	return &configv1.CaCertificate{Name: name, Certificates: certtest.CA(t, "authority").PEM()}
}

func client(name string, current, next *configv1.CertificateVersion) *configv1.Certificate {
	return &configv1.Certificate{Name: name, Current: current, Next: next}
}

// group is a set of records, which are compiled one change after the other.
type group struct {
	t      *testing.T
	source *statetest.Source
	folder *state.Folder
	rt     *runtime.Runtime
}

func newGroup(t *testing.T, records ...statetest.Record) *group {
	t.Helper()
	g := &group{t: t, source: statetest.NewSource(1), folder: state.NewFolder(state.Empty(), state.Limits{})}
	statetest.Fold(t, g.folder, g.source.Reset())
	g.put(records...)
	return g
}

func (g *group) put(records ...statetest.Record) { g.change(records, nil) }

func (g *group) change(upserts, removes []statetest.Record) {
	g.t.Helper()
	set := statetest.Fold(g.t, g.folder, g.source.Change(upserts, removes))
	g.rt, _ = newCompiler().Build(set, g.rt)
}

func (g *group) service(name string) *runtime.Service {
	g.t.Helper()
	s, ok := g.rt.Services.Get(name)
	if !ok {
		g.t.Fatalf("there is no service %s", name)
	}
	return s
}

// shownTo tells what the targets of a service are shown now, by common name.
func shownTo(s *runtime.Service) string {
	var out []string
	for _, t := range s.Targets {
		name := "nothing"
		if t.Identity != nil {
			name = "nobody"
			if v := t.Identity.At(time.Now()); v != nil {
				name = v.Leaf().Subject.CommonName
			}
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func certificateRecord(c *configv1.Certificate) statetest.Record {
	return record("certificates", "uid-"+c.GetName(), c.GetName(), c)
}

func domains(pairs ...string) []*configv1.UpstreamCertificate {
	var out []*configv1.UpstreamCertificate
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, &configv1.UpstreamCertificate{Domain: pairs[i], Certificate: pairs[i+1]})
	}
	return out
}

func TestWhatTargetsAreShown(t *testing.T) {
	t.Parallel()
	one, two, three := version(t, "one"), version(t, "two"), version(t, "three")
	certificates := []statetest.Record{
		certificateRecord(client("one", one, nil)), certificateRecord(client("two", two, three)),
		certificateRecord(&configv1.Certificate{Name: "old", Current: version(t, "new"), Previous: version(t, "old")}),
		certificateRecord(client("keyless", &configv1.CertificateVersion{Chain: one.GetChain()}, nil)),
		record("certificates", "uid-lost", "lost", nil),
	}
	for name, tt := range map[string]struct {
		tls            *configv1.UpstreamTls
		service, group []*configv1.UpstreamCertificate
		want           string // for a.test:443 b.test:8443; else what the fault has
	}{
		"nothing":                       {want: "nothing nothing"},
		"always":                        {tls: &configv1.UpstreamTls{ClientCertificate: "one"}, want: "one one"},
		"by id":                         {tls: &configv1.UpstreamTls{ClientCertificate: certs.VersionID(three)}, want: "three three"},
		"by the service":                {service: domains("a.test", "one"), want: "one nothing"},
		"by the group":                  {group: domains("*.test:8443", "two"), want: "nothing two"},
		"service before group":          {service: domains("*", "one"), group: domains("b.test:8443", "two"), want: "one one"},
		"service, then group":           {service: domains("a.test:443", "one"), group: domains("*", "two"), want: "one two"},
		"always before both":            {tls: &configv1.UpstreamTls{ClientCertificate: "one"}, service: domains("*", "two"), group: domains("*", "two"), want: "one one"},
		"missing":                       {tls: &configv1.UpstreamTls{ClientCertificate: "none"}, want: "none does not exist"},
		"missing id":                    {tls: &configv1.UpstreamTls{ClientCertificate: strings.Repeat("0", 64)}, want: "does not exist"},
		"missing for one target":        {service: domains("a.test", "one", "b.test", "none"), want: "none does not exist"},
		"missing in the group":          {group: domains("b.test", "none"), want: "none does not exist"},
		"missing for another's domain":  {group: domains("c.test", "none"), want: "nothing nothing"},
		"without a key":                 {tls: &configv1.UpstreamTls{ClientCertificate: "keyless"}, want: "keyless has no private key"},
		"unreadable":                    {tls: &configv1.UpstreamTls{ClientCertificate: "lost"}, want: "could not open"},
		"missing authority":             {tls: &configv1.UpstreamTls{Ca: []string{"none"}}, want: "CA certificate none does not exist"},
		"a certificate is no authority": {tls: &configv1.UpstreamTls{Ca: []string{"one"}}, want: "CA certificate one does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &configv1.Service{
				Name: "s", Targets: []*configv1.Target{{Address: "a.test:443"}, {Address: "b.test:8443"}}, Protocol: configv1.Protocol_PROTOCOL_HTTPS,
				Tls: tt.tls, UpstreamCertificates: tt.service,
			}
			rt, faults := build(t, append(slices.Clone(certificates),
				record("settings", "1", "settings", &configv1.Settings{UpstreamCertificates: tt.group}), record("services", "2", "s", s),
				record("routes", "3", "r", &configv1.Route{Name: "r", Service: "s", Hosts: []string{"a.test"}}))...)
			got, _ := rt.Services.Get("s")
			faults = slices.DeleteFunc(faults, func(f string) bool { return strings.HasPrefix(f, "certificates/lost") })
			open := decide(rt, call{host: "a.test", path: "/", ip: "10.0.0.1"}).status == 200
			if len(faults) == 0 {
				if shown := shownTo(got); shown != tt.want || !open {
					t.Errorf("shown is %s, open %t, want %s", shown, open, tt.want)
				}
				return
			}
			if len(faults) != 1 || !strings.HasPrefix(faults[0], "services/s: ") || !strings.Contains(faults[0], tt.want) || got.Closed == "" || open {
				t.Errorf("faults %q, closed %q, open %t, want %q", faults, got.Closed, open, tt.want)
			}
		})
	}
}

// Settings with a map that cannot be read say nothing of what any upstream is shown.
func TestBrokenMapOfTheSettingsClosesEverything(t *testing.T) {
	t.Parallel()
	rt, faults := build(t, record("settings", "1", "settings", &configv1.Settings{UpstreamCertificates: domains("a.test", "one", "*.*.test", "two")}))
	if want := "upstream_certificates: the one at place 2"; rt.Closed == "" || len(faults) != 1 || !strings.Contains(faults[0], want) {
		t.Errorf("closed %q, faults %q, want %q", rt.Closed, faults, want)
	}
}

// A service follows what its TLS is made from, whichever way it names it, and nothing else changes its connections.
func TestServicesFollowTheirCertificates(t *testing.T) {
	t.Parallel()
	one, two := version(t, "one"), version(t, "two")
	service := func(name, url string, tls *configv1.UpstreamTls, list ...*configv1.UpstreamCertificate) statetest.Record {
		return record("services", "uid-"+name, name, &configv1.Service{Name: name, Url: url, Tls: tls, UpstreamCertificates: list})
	}
	g := newGroup(t,
		service("named", "https://a.test", &configv1.UpstreamTls{ClientCertificate: "client", Ca: []string{"ca"}}),
		service("by-id", "https://a.test", &configv1.UpstreamTls{ClientCertificate: certs.VersionID(one)}),
		service("mapped", "https://a.test", nil, domains("*", "client")...),
		service("grouped", "https://grouped.test", nil),
		service("plain", "http://grouped.test", nil),
		service("else", "https://else.test", nil))
	state := func() map[string]string {
		out := map[string]string{}
		for name, s := range g.rt.Services.All() {
			if out[name] = shownTo(s); s.Closed != "" {
				out[name] = "closed"
			}
		}
		return out
	}
	want := func(step string, want map[string]string) {
		t.Helper()
		if diff := cmp.Diff(want, state()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	plain := map[string]string{"plain": "nothing", "else": "nothing", "grouped": "nothing", "named": "closed", "by-id": "closed", "mapped": "closed"}
	with := func(more ...string) map[string]string {
		out := maps.Clone(plain)
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	want("before there is anything", plain)
	g.put(certificateRecord(client("client", one, nil)))
	want("a certificate comes", with("by-id", "one", "mapped", "one"))
	g.put(record("ca-certificates", "uid-ca", "ca", authorities(t, "ca")))
	want("an authority comes", with("by-id", "one", "mapped", "one", "named", "one"))
	untouched, before := g.service("else"), g.service("named")
	byID := g.service("by-id")

	g.put(certificateRecord(&configv1.Certificate{Name: "client", Current: two, Previous: one}))
	want("it is renewed", with("by-id", "one", "mapped", "two", "named", "two"))
	if after := g.service("named"); after.Key != before.Key || after.Targets[0].Identity.Key == before.Targets[0].Identity.Key {
		t.Error("a renewed certificate must change what connections show, and not the service")
	}
	if after := g.service("by-id"); after.Targets[0].Identity.Key != byID.Targets[0].Identity.Key {
		t.Error("a version that is the same shows something else")
	}
	before = g.service("named")
	g.put(certificateRecord(&configv1.Certificate{Name: "client", Description: "changed", Current: two, Previous: one}))
	if after := g.service("named"); after.Targets[0].Identity.Key != before.Targets[0].Identity.Key {
		t.Error("a description changed what connections show")
	}
	g.put(record("ca-certificates", "uid-ca", "ca", authorities(t, "ca")))
	if after := g.service("named"); after.Key == before.Key || after.TLS.Authorities[0].Equal(before.TLS.Authorities[0]) {
		t.Error("another authority must change the service's key")
	}
	g.put(record("settings", "uid-settings", "settings", &configv1.Settings{UpstreamCertificates: domains("grouped.test", "client")}))
	want("the settings say something", with("by-id", "one", "mapped", "two", "named", "two", "grouped", "two"))
	g.put(record("settings", "uid-settings", "settings", &configv1.Settings{UpstreamCertificates: domains("grouped.test", "none")}))
	want("the settings say nonsense", with("by-id", "one", "mapped", "two", "named", "two", "grouped", "closed"))
	g.put(record("settings", "uid-settings", "settings", &configv1.Settings{}))
	g.put(record("certificates", "uid-client", "client", nil))
	want("it cannot be read", plain)
	g.put(certificateRecord(&configv1.Certificate{Name: "client", Current: two}))
	want("it comes again", with("mapped", "two", "named", "two"))
	g.change(nil, []statetest.Record{certificateRecord(&configv1.Certificate{Name: "client"})})
	want("it goes", plain)
	if g.service("else").TLS != untouched.TLS && g.service("else").Key != untouched.Key {
		t.Error("a service that nothing changed for is another one")
	}
}

// What a service is does not depend on how it came about.
func TestTrustDependsOnTheSetAlone(t *testing.T) {
	t.Parallel()
	var versions []*configv1.CertificateVersion
	for i := range 4 {
		versions = append(versions, version(t, fmt.Sprint("version", i)))
	}
	lists := []*configv1.CaCertificate{authorities(t, ""), authorities(t, "")}
	for seed := range uint64(30) {
		w := newWorld(t, seed, 7)
		reference := func() string {
			return pick(w, "c0", "c1", "c2", certs.VersionID(pick(w, versions...)), "missing")
		}
		list := func() []*configv1.UpstreamCertificate {
			return domains(pick(w, "a.test", "*.test"), reference(), pick(w, "a.test:443", "*"), reference())[:w.IntN(3)]
		}
		random := func() statetest.Record {
			i := fmt.Sprint(w.IntN(3))
			r := statetest.Record{}
			switch w.IntN(5) {
			case 0:
				c := &configv1.Certificate{Name: "c" + i, Current: pick(w, versions...)}
				if next := pick(w, versions...); next != c.GetCurrent() && w.IntN(2) == 0 {
					c.Next = next
				}
				r = record("certificates", "cert-"+i, c.GetName(), c)
			case 1:
				a := pick(w, lists...)
				r = record("ca-certificates", "ca-"+i, "a"+i, &configv1.CaCertificate{Name: "a" + i, Certificates: a.GetCertificates()})
			case 2:
				r = record("settings", "settings-uid", "settings", &configv1.Settings{UpstreamCertificates: list()})
			default:
				s := &configv1.Service{Name: "s" + i, Url: pick(w, "https://a.test", "https://b.c.test", "http://a.test")}
				if s.GetUrl() != "http://a.test" {
					s.UpstreamCertificates = list()
					s.Tls = &configv1.UpstreamTls{ClientCertificate: pick(w, "", reference())}
					if w.IntN(2) == 0 {
						s.Tls.Ca = []string{pick(w, "a0", "a1", "a2")}
					}
				}
				r = record("services", "service-"+i, s.GetName(), s)
			}
			if w.IntN(10) == 0 && r.Kind != "settings" {
				r.Resource = nil
			}
			return r
		}
		g := newGroup(t)
		for range 40 {
			if all := g.source.Records(); len(all) > 0 && w.IntN(4) == 0 {
				g.change(nil, []statetest.Record{all[w.IntN(len(all))]})
			} else {
				g.put(random())
			}
			fresh, freshFaults := newCompiler().Build(g.rt.Set, nil)
			_, faults := newCompiler().Build(g.rt.Set, g.rt)
			if diff := cmp.Diff(faultText(freshFaults), faultText(faults)); diff != "" {
				t.Fatalf("seed %d: faults (-fresh +incremental):\n%s", seed, diff)
			}
			if diff := cmp.Diff(summary(fresh), summary(g.rt)); diff != "" {
				t.Fatalf("seed %d (-fresh +incremental):\n%s", seed, diff)
			}
		}
	}
}

// summary is what services are, as text.
func summary(rt *runtime.Runtime) map[string]string {
	out := map[string]string{}
	for name, s := range rt.Services.All() {
		refs := slices.Clone(s.Refs)
		slices.Sort(refs)
		out[name] = fmt.Sprint(s.Closed, " ", s.Key, " ", refs)
		for _, t := range s.Targets {
			if t.Identity != nil {
				out[name] += fmt.Sprintf(" %s %s", t.Address, t.Identity.Key)
			}
		}
	}
	return out
}
