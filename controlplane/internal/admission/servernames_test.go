package admission_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/testkit/certtest"
)

// TestCertificatesAgreeOnHowTLSIsSpoken writes what certificates and settings say of it, in one document and one after the other.
func TestCertificatesAgreeOnHowTLSIsSpoken(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	names := certtest.Names("a.test", "b.test")
	byECDSA, byRSA := certtest.SelfSigned(t, "x", names), certtest.SelfSigned(t, "x", names, certtest.Key(key))
	const certificates = "certificates:\n"
	shown := func(name string, c *certtest.Cert, snis, says string) string {
		return fmt.Sprintf("  - {name: %s, snis: [%s], current: %q%s}\n", name, snis, c.PEM()+c.KeyPEM(t), says)
	}
	ecdsa := func(says string) string { return shown("ecdsa", byECDSA, "a.test", ", tls: "+says) }
	rsa := func(says string) string { return shown("rsa", byRSA, "b.test, a.test", ", tls: "+says) }
	silentECDSA, silentRSA := shown("ecdsa", byECDSA, "a.test", ""), shown("rsa", byRSA, "b.test, a.test", "")
	settings := func(says string) string { return "settings: {tls: " + says + "}\n" }
	const another, leaves = "certificates/ecdsa is for a.test as well and says something else", "; what the certificate leaves out is as tls of the settings says"
	for _, tt := range []struct{ name, first, second, want string }{
		{"the same", certificates + ecdsa("{min_version: 1.3}"), certificates + rsa("{min_version: TLSv1.3}"), ""},
		{"nothing, in two ways", certificates + ecdsa("{}"), certificates + silentRSA, ""},
		{"one is stricter", certificates + ecdsa("{min_version: 1.3}"), certificates + rsa("{min_version: 1.2}"), "[0].tls: " + another},
		{"one says nothing", certificates + ecdsa("{min_version: 1.3}"), certificates + silentRSA, "[0].tls: " + another},
		{"only one says something", certificates + silentECDSA, certificates + rsa("{alpn: h2}"), "[0].tls: " + another},
		{"with the settings", settings("{min_version: 1.3}"), certificates + ecdsa("{max_version: 1.3, curves: X25519MLKEM768}"), ""},
		{
			"nothing is left beside the settings", settings("{min_version: 1.3}"), certificates + ecdsa("{max_version: 1.2}"),
			"[0].tls.max_version: is below min_version" + leaves,
		},
		{
			"suites beside the settings", settings("{min_version: 1.3}"), certificates + ecdsa("{cipher_suites: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}"),
			"[0].tls.cipher_suites: means nothing with a min_version of 1.3: only those of TLS 1.2 can be chosen" + leaves,
		},
		{
			"curves beside the settings", settings("{curves: [X25519MLKEM768], min_version: 1.3}"), certificates + ecdsa("{min_version: 1.2}"),
			"[0].tls.curves: has nothing for TLS 1.2, which knows no hybrid ones: add X25519, or set min_version to 1.3" + leaves,
		},
		{"stricter than the settings", settings("{cipher_suites: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}"), certificates + ecdsa("{min_version: 1.3}"), ""},
		{
			"settings afterwards", certificates + ecdsa("{max_version: 1.2}"), settings("{min_version: 1.3}"),
			"settings.tls: certificates/ecdsa cannot be with it: its tls.max_version is below min_version" + leaves,
		},
		{"without snis", "", certificates + strings.Replace(ecdsa("{min_version: 1.3}"), "a.test", "", 1), "[0].tls: means nothing without snis: it is for these names only"},
		{"contradicting itself", "", certificates + ecdsa("{min_version: 1.3, max_version: 1.2}"), "[0].tls.max_version: is below min_version"},
		{"what does not exist", "", certificates + ecdsa("{alpn: h3}"), "[0].tls.alpn: is none of h2, http/1.1"},
		{"what is not safe", "", certificates + ecdsa("{cipher_suites: TLS_RSA_WITH_AES_128_GCM_SHA256}"), "[0].tls.cipher_suites: has no forward secrecy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			if tt.first != "" {
				g.must("group: g\n" + tt.first)
			}
			_, vs := g.apply("group: g\n"+tt.second, false)
			if got := reasons(vs); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") || strings.Contains(got, "\n") {
				t.Errorf("one after the other: %s, want %s", got, tt.want)
			}
			if strings.HasPrefix(tt.first, certificates) && strings.HasPrefix(tt.second, certificates) {
				_, vs := newGroup(t).apply("group: g\n"+tt.first+strings.TrimPrefix(tt.second, certificates), false)
				want := strings.Replace(tt.want, "[0]", "[1]", 1)
				if got := reasons(vs); !strings.Contains(got, want) || (got == "") != (want == "") || strings.Contains(got, "\n") {
					t.Errorf("in one document: %s, want %s", got, want)
				}
			}
		})
	}
}

// TestWhatIsSpokenIsChangedForAllCertificatesOfAName changes both in one request.
func TestWhatIsSpokenIsChangedForAllCertificatesOfAName(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	byECDSA, byRSA := certtest.SelfSigned(t, "x", certtest.Names("a.test")), certtest.SelfSigned(t, "x", certtest.Names("a.test"), certtest.Key(key))
	both := func(says string) string {
		out := "group: g\ncertificates:\n"
		for name, c := range map[string]*certtest.Cert{"ecdsa": byECDSA, "rsa": byRSA} {
			out += fmt.Sprintf("  - {name: %s, snis: a.test, current: %q%s}\n", name, c.PEM()+c.KeyPEM(t), says)
		}
		return out
	}
	g := newGroup(t)
	for _, says := range []string{", tls: {min_version: 1.3}", ", tls: {min_version: 1.2, alpn: http/1.1}", ""} {
		g.must(both(says))
	}
}
