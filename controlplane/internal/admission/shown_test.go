package admission_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

// TestGatewaysNeedNotChooseBetweenCertificates gives one name to several certificates, in one document and in two.
func TestGatewaysNeedNotChooseBetweenCertificates(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	shown := func(name string, c *certtest.Cert, more string, snis ...string) string {
		return fmt.Sprintf("  - {name: %s, snis: [%s], current: %q%s}\n", name, strings.Join(snis, ", "), c.PEM()+c.KeyPEM(t), more)
	}
	names := certtest.Names("a.test", "b.test", "*.c.test")
	ecdsa := func() *certtest.Cert { return certtest.SelfSigned(t, "x", names) }
	byRSA := certtest.SelfSigned(t, "x", names, certtest.Key(key))
	staged := fmt.Sprintf(", next: %q", byRSA.PEM()+byRSA.KeyPEM(t))
	first := shown("first", ecdsa(), "", "a.test", `"*.c.test"`)
	for _, tt := range []struct{ name, second, want string }{
		{"another name", shown("second", ecdsa(), "", "b.test"), ""},
		{"another kind of key", shown("second", byRSA, "", "a.test"), ""},
		{"a name below the wildcard", shown("second", certtest.SelfSigned(t, "x", certtest.Names("x.c.test")), "", "x.c.test"), ""},
		{"the same kind of key", shown("second", ecdsa(), "", "b.test", "a.test"), "snis[1]: certificates/first is presented for a.test with a key of the same kind, ECDSA: gateways could not choose"},
		{"the same wildcard", shown("second", ecdsa(), "", `"*.c.test"`), "snis[0]: certificates/first is presented for *.c.test with a key of the same kind, ECDSA: gateways could not choose"},
		{"one of two versions", shown("second", ecdsa(), staged, "a.test"), "snis[0]: certificates/first is presented for a.test with a key of the same kind, ECDSA: gateways could not choose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const head = "group: g\ncertificates:\n"
			_, vs := newGroup(t).apply(head+first+tt.second, false)
			if got := reasons(vs); !strings.HasSuffix(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, "\n") {
				t.Errorf("in one document: %s, want %s", got, tt.want)
			}
			g := newGroup(t)
			g.must(head + first)
			_, vs = g.apply(head+tt.second, false)
			if got := reasons(vs); !strings.HasSuffix(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, "\n") {
				t.Errorf("one after the other: %s, want %s", got, tt.want)
			}
			if _, vs = g.apply(head+first, false); len(vs) > 0 {
				t.Errorf("the same again: %s", reasons(vs))
			}
		})
	}
}

// TestDefaultCertificatesCanBePresented names certificates in the settings, first or last.
func TestDefaultCertificatesCanBePresented(t *testing.T) {
	t.Parallel()
	a, b := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "b")
	document := func(defaults string, withKeys bool) string {
		doc := "group: g\n"
		if defaults != "" {
			doc += "settings: {tls: {default_certificate: " + defaults + "}}\n"
		}
		key := a.KeyPEM(t)
		if !withKeys {
			key = ""
		}
		return doc + fmt.Sprintf("certificates:\n  - {name: a, current: %q}\n  - {name: b, current: %q}\n", a.PEM()+key, b.PEM()+b.KeyPEM(t))
	}
	for _, tt := range []struct{ name, first, second, want string }{
		{"by name", "", document("a", true), ""},
		{"by id", "", document(a.ID(), true), ""},
		{"without a key", "", document("a", false), "tls.default_certificate: certificates/a has no private key"},
		{"without a key, by id", "", document(a.ID(), false), "tls.default_certificate: certificates/a has no private key"},
		{"two of a kind", "", document("[a, b]", true), "tls.default_certificate[1]: certificates/b has a key of the same kind, ECDSA, as certificates/a"},
		{"later without a key", document("b", true), strings.ReplaceAll(document("", true), b.KeyPEM(t), ""), ""}, // the stored one is kept
		{"named later", document("", false), "group: g\nsettings: {tls: {default_certificate: a}}\n", "tls.default_certificate: certificates/a has no private key"},
		{"nobody", "", "group: g\nsettings: {tls: {default_certificate: nobody}}\n", "there is no certificates/nobody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			if tt.first != "" {
				g.must(tt.first)
			}
			_, vs := g.apply(tt.second, false)
			if got := reasons(vs); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("told is %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAnotherVersionOfADefaultNeedsItsKey replaces the default certificate by one whose key is not known.
func TestAnotherVersionOfADefaultNeedsItsKey(t *testing.T) {
	t.Parallel()
	a, other := certtest.SelfSigned(t, "a"), certtest.SelfSigned(t, "a")
	g := newGroup(t)
	g.must(fmt.Sprintf("group: g\nsettings: {tls: {default_certificate: a}}\ncertificates: [{name: a, current: %q}]\n", a.PEM()+a.KeyPEM(t)))
	_, vs := g.apply(fmt.Sprintf("group: g\ncertificates: [{name: a, current: %q}]\n", other.PEM()), false)
	if got := reasons(vs); !strings.Contains(got, "current: required: tls.default_certificate of the settings names it") {
		t.Errorf("told is %q", got)
	}
}
