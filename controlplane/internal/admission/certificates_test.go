package admission_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/catalog"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

// certificate is a document with one certificate; each version is its place and what it holds.
func certificate(name string, versions ...string) string {
	doc := fmt.Sprintf("certificates:\n  - name: %s\n", name)
	for i := 0; i < len(versions); i += 2 {
		doc += fmt.Sprintf("    %s: %q\n", versions[i], versions[i+1])
	}
	return "group: g\n" + doc
}

// held says which version is where, by the common names, and marks those with a key.
func held(g *group, name string) string {
	r, ok := g.Get(certs.Kind, name)
	if !ok {
		return "none"
	}
	var out []string
	for _, s := range certs.Slots(r.Message.(*configv1.Certificate)) {
		set, _ := certs.Open(&configv1.Certificate{Current: s.Version})
		text := s.Name + "=" + set.Current.Leaf().Subject.CommonName
		if set.Current.Key != nil {
			text += "+key"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func reasons(vs []problem.Violation) string {
	var out []string
	for _, v := range vs {
		out = append(out, v.Path+": "+v.Reason)
	}
	return strings.Join(out, "\n")
}

// TestVersionsOfACertificate writes one certificate again and again, as renewals do.
func TestVersionsOfACertificate(t *testing.T) {
	t.Parallel()
	a, b, c := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b"), certtest.SelfSigned(t, "c")
	renewed := certtest.SelfSigned(t, "renewed", certtest.Key(b.Key))
	ca := certtest.CA(t, "ca")
	pem := func(c *certtest.Cert) string { return c.PEM() + c.KeyPEM(t) }
	for _, tt := range []struct {
		name  string
		docs  []string
		want  string
		fault string
	}{
		{name: "created", docs: []string{certificate("web", "current", pem(a))}, want: "current=a+key"},
		{name: "the same again", docs: []string{certificate("web", "current", pem(a)), certificate("web", "current", pem(a))}, want: "current=a+key"},
		{name: "key left out", docs: []string{certificate("web", "current", pem(a)), certificate("web", "current", a.PEM())}, want: "current=a+key"},
		{name: "rotated", docs: []string{certificate("web", "current", pem(a)), certificate("web", "current", pem(b))}, want: "current=b+key previous=a+key"},
		{name: "rotated and written again", docs: []string{
			certificate("web", "current", pem(a)), certificate("web", "current", pem(b)), certificate("web", "current", pem(b)),
		}, want: "current=b+key previous=a+key"},
		{name: "rotated twice", docs: []string{
			certificate("web", "current", pem(a)), certificate("web", "current", pem(b)), certificate("web", "current", pem(c)),
		}, want: "current=c+key previous=b+key"},
		{name: "rotated back", docs: []string{
			certificate("web", "current", pem(a)), certificate("web", "current", pem(b)), certificate("web", "current", a.PEM()),
		}, want: "current=a+key previous=b+key"},
		{name: "rotated with the old previous one still written", docs: []string{
			certificate("web", "current", pem(a)), certificate("web", "current", pem(b)), certificate("web", "current", pem(c), "previous", a.PEM()),
		}, want: "current=c+key previous=b+key"},
		{name: "another key is not kept for it", docs: []string{certificate("web", "current", pem(a)), certificate("web", "current", b.PEM())}, want: "current=b previous=a+key"},
		{name: "renewed for the same key", docs: []string{certificate("web", "current", pem(b)), certificate("web", "current", renewed.PEM())}, want: "current=renewed+key previous=b+key"},
		{name: "staged", docs: []string{certificate("web", "current", pem(a)), certificate("web", "current", a.PEM(), "next", pem(b))}, want: "current=a+key next=b+key"},
		{name: "promoted by hand", docs: []string{
			certificate("web", "current", pem(a), "next", pem(b)), certificate("web", "current", b.PEM()),
		}, want: "current=b+key previous=a+key"},
		{name: "cleared key", docs: []string{certificate("web", "current", pem(a)), "group: g\ncertificates:\n  - name: web\n    current: {chain: " + fmt.Sprintf("%q", a.PEM()) + ", private_key: null}\n"}, want: "current=a"},
		{name: "key to keep that is not there", docs: []string{
			certificate("web", "current", pem(a)), "group: g\ncertificates:\n  - name: web\n    current: {chain: " + fmt.Sprintf("%q", b.PEM()) + ", private_key: {set: true}}\n",
		}, want: "current=a+key", fault: "certificates[0].current.private_key: nothing is stored that could be kept: give the value"},
		{
			name: "snis need the key", docs: []string{"group: g\ncertificates:\n  - {name: web, snis: a.test, current: " + fmt.Sprintf("%q", certtest.SelfSigned(t, "a", certtest.Names("a.test")).PEM()) + "}\n"}, want: "none",
			fault: "certificates[0].current: required: without it the certificate cannot be presented for its snis",
		},
		{
			name: "everything wrong at once", docs: []string{"group: g\ncertificates:\n  - {name: web, snis: 'not a name', current: junk, next: {chain: " + fmt.Sprintf("%q", a.PEM()) + ", passphrase: x}}\n" +
				"ca-certificates:\n  - {name: ca, certificates: " + fmt.Sprintf("%q", a.PEM()+ca.KeyPEM(t)) + "}\n"}, want: "none",
			fault: "ca-certificates[0].certificates: holds a private key; authorities are believed by their certificates alone\n" +
				"certificates[0].current: holds no certificate in PEM (-----BEGIN CERTIFICATE-----)\n" +
				"certificates[0].next.chain: is for no host names (it has none among its subject alternative names), so not for snis\n" +
				"certificates[0].next.passphrase: there is no encrypted private key that it could open\n" +
				"certificates[0].next.private_key: required: without it the certificate cannot be presented for its snis\n" +
				`certificates[0].snis: "not a name" is not a host name`,
		},
		{
			name: "one certificate under two names", docs: []string{certificate("web", "current", pem(a)), certificate("other", "current", a.PEM())}, want: "current=a+key",
			fault: "certificates[0]: the group has the certificate already, as certificates/web",
		},
		{
			name: "a name that is another's id", docs: []string{certificate("web", "current", pem(a)), certificate(a.ID(), "current", pem(b))}, want: "current=a+key",
			fault: "certificates[0]: the group has the certificate already, as certificates/web",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			var vs []problem.Violation
			for i, doc := range tt.docs {
				if len(vs) > 0 {
					t.Fatalf("document %d: %v", i, vs)
				}
				_, vs = g.apply(doc, false)
			}
			for i := range vs {
				vs[i].Line, vs[i].Column = 0, 0
			}
			if diff := cmp.Diff(tt.fault, reasons(vs)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if got := held(g, "web"); got != tt.want {
				t.Errorf("held %q, want %q", got, tt.want)
			}
		})
	}
}

// TestCertificatesInUse drops what is used, by the name and by ids.
func TestCertificatesInUse(t *testing.T) {
	t.Parallel()
	a, b, c := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b"), certtest.SelfSigned(t, "c")
	pem := func(c *certtest.Cert) string { return c.PEM() + c.KeyPEM(t) }
	for _, tt := range []struct {
		name, uses, doc string
		want            string
	}{
		{name: "name", uses: "web", doc: "group: g\nconsumers: [{name: alice}]", want: ": certificates/web is used by services/s"},
		{name: "id of current", uses: b.ID(), doc: "group: g\nconsumers: [{name: alice}]", want: ": certificates/web is used by services/s"},
		{name: "id of previous", uses: a.ID(), doc: "group: g\nconsumers: [{name: alice}]", want: ": certificates/web is used by services/s"},
		{name: "a version falls out", uses: a.ID(), doc: certificate("web", "current", pem(c)), want: "certificates[0]: its version " + a.ID() + " would be dropped, which is used by services/s"},
		{name: "a version moves", uses: b.ID(), doc: certificate("web", "current", pem(c))},
		{name: "renewed under its name", uses: "web", doc: certificate("web", "current", pem(c))},
		{name: "moved to another name", uses: a.ID(), doc: certificate("other", "current", pem(a))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must("group: g\nservices: [{name: s, url: 'http://x.test'}]")
			g.must(certificate("web", "current", pem(a)))
			g.must(certificate("web", "current", pem(b)))
			g.uses = map[catalog.Reference]snapshot.Ref{{Kind: certs.Kind, Name: tt.uses}: {Kind: "services", Name: "s"}}
			_, req := g.changes(tt.doc)
			ready := admission.Prepare(req.Changes, time.Now())
			_, vs := g.admit(admission.Request{Changes: ready.Changes, Prune: true, PruneKinds: []string{certs.Kind}})
			if got := reasons(vs); got != tt.want {
				t.Errorf("told %q, want %q", got, tt.want)
			}
			web, _ := g.Get(certs.Kind, "web")
			out := &configv1.Certificate{}
			admission.Output(out, g, web)
			if len(out.GetUsedBy()) != 1 || out.GetUsedBy()[0] != "services/s" {
				t.Errorf("used by %v", out.GetUsedBy())
			}
		})
	}
}

// TestCertificateWrittenBack writes what the server answered.
func TestCertificateWrittenBack(t *testing.T) {
	t.Parallel()
	a, b := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b")
	g := newGroup(t)
	g.must(certificate("web", "current", a.PEM()+a.KeyPEM(t)))
	stored, _ := g.Get(certs.Kind, "web")
	answer := func() *configv1.Certificate {
		m := &configv1.Certificate{Name: "web", Current: &configv1.CertificateVersion{Chain: a.PEM(), PrivateKey: &configv1.Secret{Set: true}}}
		catalog.SetOutput(m, catalog.Output{UID: stored.UID, Revision: stored.Revision, CreatedAt: stored.CreatedAt, UpdatedAt: stored.UpdatedAt})
		admission.Output(m, g, stored)
		return m
	}
	try := func(m *configv1.Certificate) string {
		ready := admission.Prepare([]admission.Change{{Kind: certs.Kind, Message: m}}, time.Now())
		_, vs := g.admit(admission.Request{Changes: ready.Changes, Faults: ready.Faults})
		return reasons(vs)
	}
	if got := try(answer()); got != "" {
		t.Errorf("as answered: %s", got)
	}
	edited := answer()
	edited.Current.Chain = b.PEM()
	edited.Current.PrivateKey = nil
	if got := try(edited); got != "" {
		t.Errorf("with another chain: %s", got)
	}
	forged := answer()
	forged.Current.Info.Subject = "CN=x"
	if got := try(forged); got != "current.info: is set by the server; leave it out, or write what the server answered" {
		t.Errorf("with another subject: %q", got)
	}
	used := answer()
	used.UsedBy = []string{"services/s"}
	if got := try(used); got != "used_by: is set by the server; leave it out, or write what the server answered" {
		t.Errorf("with another user: %q", got)
	}
}

// TestCertificateWarnings has what is let in and yet told.
func TestCertificateWarnings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	version := func(c *certtest.Cert) *configv1.CertificateVersion {
		return &configv1.CertificateVersion{Chain: c.PEM()}
	}
	m := &configv1.Certificate{
		Name:    "web",
		Current: version(certtest.SelfSigned(t, "old", certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(0, 0, -1)))),
		Next:    version(certtest.CA(t, "ca", certtest.Valid(now.AddDate(0, 0, 1), now.AddDate(1, 0, 0)))),
	}
	over := certtest.CA(t, "over", certtest.Valid(now.AddDate(-1, 0, 0), now.AddDate(0, 0, -2)))
	list := over.CRL(t, 1, func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = now.AddDate(0, -2, 0), now.AddDate(0, -1, 0)
	})
	cas := &configv1.CaCertificate{Name: "cas", Certificates: over.PEM(), Revocation: &configv1.Revocation{Crl: certtest.Block("X509 CRL", list)}}
	got := admission.Prepare([]admission.Change{
		{Kind: certs.Kind, Message: m, Path: "certificates[0]"}, {Kind: certs.KindCA, Message: cas, Path: "ca-certificates[0]"},
	}, now)
	want := "certificates[0].current: has expired on 2026-05-31T00:00:00Z\n" +
		"certificates[0].next: is the certificate of an authority; those that are to be believed are ca-certificates\n" +
		`ca-certificates[0].certificates: "over" has expired on 2026-05-30T00:00:00Z` + "\n" +
		`ca-certificates[0].revocation.crl: the list of "over" is out of date since 2026-05-01T00:00:00Z`
	if diff := cmp.Diff(want, reasons(got.Warnings)); diff != "" || len(got.Faults) > 0 {
		t.Errorf("%v (-want +got):\n%s", got.Faults, diff)
	}
}
