package certinput_test

import (
	"crypto/x509"
	"strings"
	"testing"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
)

// TestPKCS12 opens files that another implementation made, in all its forms.
func TestPKCS12(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	middle := root.CA(t, "middle")
	leaf := middle.Issue(t, "leaf")
	for _, tt := range []struct {
		name       string
		form       *gopkcs12.Encoder
		passphrase string
		give       string // if it is another one
		rounds     int
		want       string // of the reason; empty: opens
	}{
		{name: "modern", form: gopkcs12.Modern2023, passphrase: "open sesame"},
		{name: "modern with a passphrase beyond ASCII", form: gopkcs12.Modern2023, passphrase: "Sesam öffne dich"},
		{name: "modern without passphrase", form: gopkcs12.Modern2023},
		{name: "triple DES", form: gopkcs12.LegacyDES, passphrase: "open sesame"},
		{name: "not encrypted", form: gopkcs12.Passwordless},
		{name: "RC2", form: gopkcs12.LegacyRC2, passphrase: "open sesame", want: "is encrypted in an old form (RC2)"},
		{name: "wrong passphrase", form: gopkcs12.Modern2023, passphrase: "open sesame", give: "simsim", want: "cannot be opened: the passphrase is wrong"},
		{name: "too much work", form: gopkcs12.Modern2023.WithIterations(3000), passphrase: "x", rounds: 2999, want: "asks for 3000 rounds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			der, err := tt.form.Encode(leaf.Key, leaf.Cert, []*x509.Certificate{middle.Cert}, tt.passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if tt.give == "" {
				tt.give = tt.passphrase
			}
			if tt.rounds == 0 {
				tt.rounds = 100_000
			}
			text, reason := certinput.PKCS12(der, tt.give, certinput.NewWork(tt.rounds))
			if !strings.HasPrefix(reason, tt.want) || (reason == "") != (tt.want == "") {
				t.Fatalf("reason %q, want %q", reason, tt.want)
			}
			if tt.want != "" {
				return
			}
			v := &configv1.CertificateVersion{Chain: text}
			if vs := certinput.Version(v, certinput.NewWork(0)); len(vs) > 0 {
				t.Fatal(vs)
			}
			set, vs := certs.Open(&configv1.Certificate{Current: v})
			if len(vs) > 0 || v.GetChain() != leaf.PEM()+middle.PEM() || set.Current.Key == nil {
				t.Errorf("opened as %q, %v", v.GetChain(), vs)
			}
		})
	}
}

// FuzzPKCS12 opens anything, with an end.
func FuzzPKCS12(f *testing.F) {
	leaf := certtest.SelfSigned(f, "leaf")
	for _, form := range []*gopkcs12.Encoder{gopkcs12.Modern2023, gopkcs12.LegacyDES, gopkcs12.Passwordless} {
		der, err := form.Encode(leaf.Key, leaf.Cert, nil, "")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		text, reason := certinput.PKCS12(der, "", certinput.NewWork(10_000))
		if reason != "" && text != "" {
			t.Fatal("refused and yet answered")
		}
		_ = certinput.Version(&configv1.CertificateVersion{Chain: text}, certinput.NewWork(10_000))
	})
}
