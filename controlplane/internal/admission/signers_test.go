package admission_test

import (
	"strings"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

func TestSignersNeedKeysAndFieldsOfTheirOwn(t *testing.T) {
	t.Parallel()
	a, b := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b")
	keyed := func(c *certtest.Cert) string { return c.PEM() + c.KeyPEM(t) }
	route := func(certificate, more string) string {
		return "group: g\nservices: [{name: s, url: http://a.test}]\nroutes: [{name: r, service: s, policies: [{type: jwt-signer, config: {certificate: " +
			certificate + ", issuer: i, audience: a" + more + "}}]}]\n"
	}
	signing, logged := certificate("signing", "current", keyed(a)), "group: g\nsettings: {access_log: {headers: [X-Token]}}\n"
	tells := "group: g\nsettings: {identity_headers: {subject: X-Token}}\n"
	for _, tt := range []struct {
		name string
		docs []string
		want string // of the last document; empty: it is taken
	}{
		{"with a key", []string{signing, route("signing", "")}, ""},
		{"by an id", []string{signing, route(a.ID(), "")}, ""},
		{"without a key", []string{certificate("signing", "current", a.PEM()), route("signing", "")}, "routes[0].policies[0].config.certificate: has no private key, without which it signs nothing"},
		{"renewed without a key", []string{signing, route("signing", ""), certificate("signing", "current", b.PEM())}, "certificates[0]: needs a private key: it signs tokens for routes/r"},
		{"staged without a key", []string{signing, route("signing", ""), certificate("signing", "current", keyed(a), "next", b.PEM())}, "certificates[0]: needs a private key: it signs tokens for routes/r"},
		{"renewed", []string{signing, route("signing", ""), certificate("signing", "current", keyed(b))}, ""},
		{"into a logged field", []string{signing, logged, route("signing", ", header: x-token")}, "routes[0].policies[0].config.header: is named by access_log.headers[0] of the settings, and carries a token"},
		{"then logged", []string{signing, route("signing", ", header: x-token"), logged}, "settings.access_log.headers[0]: carries the token that jwt-signer of routes/r signs"},
		{"into a field that says who calls", []string{signing, tells, route("signing", ", header: X_Token")}, "routes[0].policies[0].config.header: is named by identity_headers.subject of the settings, and carries a token"},
		{"then said", []string{signing, route("signing", ", header: X-Token"), tells}, "settings.identity_headers.subject: carries the token that jwt-signer of routes/r signs"},
		{"into another", []string{signing, logged, route("signing", ", header: X-Other")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			for _, doc := range tt.docs[:len(tt.docs)-1] {
				g.must(doc)
			}
			_, vs := g.apply(tt.docs[len(tt.docs)-1], false)
			var got []string
			for _, v := range vs {
				got = append(got, v.Path+": "+v.Reason)
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
