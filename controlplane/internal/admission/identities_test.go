package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

// TestUpstreamCertificates writes what upstreams are shown, in every place and by every word for it.
func TestUpstreamCertificates(t *testing.T) {
	t.Parallel()
	a, b := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b")
	ca := certtest.CA(t, "ca")
	keyed := func(c *certtest.Cert) string { return c.PEM() + c.KeyPEM(t) }
	service := func(fields string) string {
		return "group: g\nservices:\n  - {name: s, url: \"https://a.test\", " + fields + "}\n"
	}
	settings := func(list string) string { return "group: g\nsettings:\n  upstream_certificates: " + list + "\n" }
	web := certificate("web", "current", keyed(a))
	authorities := fmt.Sprintf("group: g\nca-certificates:\n  - {name: ca, certificates: %q}\n", ca.PEM())
	for _, tt := range []struct {
		name  string
		docs  []string
		fault string
	}{
		{"by name", []string{web, service("tls: {client_certificate: web}")}, ""},
		{"by id", []string{web, service("tls: {client_certificate: " + a.ID() + "}")}, ""},
		{"in one request", []string{service("tls: {client_certificate: web}") + strings.TrimPrefix(web, "group: g\n")}, ""},
		{"by id in one request", []string{service("tls: {client_certificate: "+a.ID()+"}") + strings.TrimPrefix(web, "group: g\n")}, ""},
		{"in the map", []string{web, service("upstream_certificates: [{domain: a.test, certificate: web}]")}, ""},
		{"in the settings", []string{web, settings("[{domain: \"*\", certificate: web}]")}, ""},
		{"missing", []string{service("tls: {client_certificate: web}")}, `services[0].tls.client_certificate: there is no certificates/web`},
		{
			"missing in the map",
			[]string{service("upstream_certificates: [{domain: a.test, certificate: web}]")},
			`services[0].upstream_certificates[0].certificate: there is no certificates/web`,
		},
		{"missing in the settings", []string{settings("[{domain: \"*\", certificate: web}]")}, `settings.upstream_certificates[0].certificate: there is no certificates/web`},
		{"left out", []string{settings("[{domain: \"*\"}]")}, `settings.upstream_certificates[0].certificate: value is required`},
		{"a file", []string{service("tls: {client_certificate: \"gateway:/a.pem\"}")}, `services[0].tls.client_certificate: there is no certificates/gateway:/a.pem`},
		{
			"scheme",
			[]string{web, settings("[{domain: \"https://a.test\", certificate: web}]")},
			`settings.upstream_certificates[0].domain: is a URL; a domain has no scheme: write host or host:port`,
		},
		{
			"two levels",
			[]string{web, service("upstream_certificates: [{domain: \"*.*.test\", certificate: web}]")},
			`services[0].upstream_certificates[0].domain: a star stands for the first label, as in *.example.com, or alone for everything`,
		},
		{
			"twice",
			[]string{web, settings("[{domain: a.test, certificate: web}, {domain: A.test., certificate: web}]")},
			`settings.upstream_certificates[1].domain: a.test is in the list already`,
		},
		{
			"without a key",
			[]string{certificate("web", "current", a.PEM()), service("tls: {client_certificate: web}")},
			`services[0].tls.client_certificate: has no private key, without which it proves nothing to upstreams`,
		},
		{
			"without a key in the settings",
			[]string{certificate("web", "current", a.PEM()), settings("[{domain: \"*\", certificate: " + a.ID() + "}]")},
			`settings.upstream_certificates[0].certificate: has no private key, without which it proves nothing to upstreams`,
		},
		{
			"renewed without a key",
			[]string{web, service("tls: {client_certificate: web}"), certificate("web", "current", b.PEM())},
			`certificates[0]: needs a private key: it is shown to upstreams by services/s`,
		},
		{
			"staged without a key",
			[]string{web, settings("[{domain: \"*\", certificate: web}]"), certificate("web", "current", keyed(a), "next", b.PEM())},
			`certificates[0]: needs a private key: it is shown to upstreams by settings`,
		},
		{"renewed without a key, but used by the id of the one before", []string{
			web, service("tls: {client_certificate: " + a.ID() + "}"), certificate("web", "current", b.PEM()),
		}, ""},
		{"renewed", []string{web, service("tls: {client_certificate: web}"), certificate("web", "current", keyed(b))}, ""},
		{"authorities", []string{authorities, service("tls: {ca: [ca, \"gateway:/a.pem\"]}")}, ""},
		{"missing authorities", []string{service("tls: {ca: [ca]}")}, `services[0].tls.ca[0]: there is no ca-certificates/ca`},
		{"a certificate as authority", []string{web, service("tls: {ca: [web]}")}, `services[0].tls.ca[0]: there is no ca-certificates/web`},
		{
			"a file of the control plane",
			[]string{service("tls: {ca: [/a.pem]}")},
			`services[0].tls.ca[0]: is neither the name of one of ca-certificates nor gateway:/path, a file on the gateways`,
		},
		{"used authorities go", []string{authorities, service("tls: {ca: [ca]}"), "delete ca-certificates ca"}, `ca-certificates/ca is used by services/s`},
		{"used certificate goes", []string{web, settings("[{domain: \"*\", certificate: web}]"), "delete certificates web"}, `certificates/web is used by settings`},
		{"certificate used by id goes", []string{web, service("tls: {client_certificate: " + a.ID() + "}"), "delete certificates web"}, `certificates/web is used by services/s`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			last := len(tt.docs) - 1
			for _, doc := range tt.docs[:last] {
				g.must(doc)
			}
			var vs []problem.Violation
			if what, ok := strings.CutPrefix(tt.docs[last], "delete "); ok {
				kind, name, _ := strings.Cut(what, " ")
				_, vs = g.remove(kind, name)
			} else {
				_, vs = g.apply(tt.docs[last], false)
			}
			if got := reasons(vs); !strings.HasSuffix(got, tt.fault) || (got == "") != (tt.fault == "") {
				t.Errorf("%q, want %q", got, tt.fault)
			}
		})
	}
}
