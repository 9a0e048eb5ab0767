package certinput_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/certinput"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

func plain(text string) *configv1.Secret {
	return &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}
}

// TestForms has certificates in all the forms in which people have them, and the one form that comes of it.
func TestForms(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	middle := root.CA(t, "middle")
	leaf := middle.Issue(t, "www.example.com", certtest.Names("www.example.com"))
	edKey := newEd25519(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, rsaLeaf := middle.Issue(t, "ed", certtest.Key(edKey)), middle.Issue(t, "rsa", certtest.Key(rsaKey))
	sec1, err := x509.MarshalECPrivateKey(leaf.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := certtest.Block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))
	key := leaf.KeyPEM(t)
	chain := leaf.PEM() + middle.PEM()

	for _, tt := range []struct {
		name    string
		in      *configv1.CertificateVersion
		chain   string
		key     string // empty: the leaf's
		without bool
	}{
		{name: "as it is stored", in: &configv1.CertificateVersion{Chain: chain, PrivateKey: plain(key)}},
		{name: "all in one text", in: &configv1.CertificateVersion{Chain: chain + key}},
		{name: "key first", in: &configv1.CertificateVersion{Chain: key + chain}},
		{name: "issuer first", in: &configv1.CertificateVersion{Chain: middle.PEM() + key + leaf.PEM()}},
		{name: "issuer first without key", in: &configv1.CertificateVersion{Chain: middle.PEM() + leaf.PEM()}, without: true},
		{name: "with root, in the wrong order", in: &configv1.CertificateVersion{Chain: root.PEM() + leaf.PEM() + middle.PEM(), PrivateKey: plain(key)}, chain: chain + root.PEM()},
		{name: "certificates twice", in: &configv1.CertificateVersion{Chain: chain + chain + key + key}},
		{name: "certificate beside the key", in: &configv1.CertificateVersion{Chain: chain, PrivateKey: plain(leaf.PEM() + key)}},
		{name: "remarks and Windows line ends", in: &configv1.CertificateVersion{
			Chain: "Bag Attributes\r\n  friendlyName: www\r\n" + strings.ReplaceAll(chain, "\n", "\r\n") + "\r\nsubject=/CN=www\r\n" + key,
		}},
		{name: "SEC 1 with parameters", in: &configv1.CertificateVersion{Chain: chain, PrivateKey: plain(
			certtest.Block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + certtest.Block("EC PRIVATE KEY", sec1))}},
		{name: "PKCS#8 with the wrong label", in: &configv1.CertificateVersion{Chain: chain + strings.ReplaceAll(key, "PRIVATE KEY", "RSA PRIVATE KEY")}},
		{name: "encrypted", in: &configv1.CertificateVersion{Chain: chain + leaf.EncryptedKeyPEM(t, "open sesame", 2048), Passphrase: plain("open sesame")}},
		{name: "PKCS#1", in: &configv1.CertificateVersion{Chain: pkcs1 + rsaLeaf.ChainPEM()}, chain: rsaLeaf.ChainPEM(), key: rsaLeaf.KeyPEM(t)},
		{name: "Ed25519", in: &configv1.CertificateVersion{Chain: ed.ChainPEM() + ed.KeyPEM(t)}, chain: ed.ChainPEM(), key: ed.KeyPEM(t)},
		{name: "key kept", in: &configv1.CertificateVersion{Chain: chain, PrivateKey: &configv1.Secret{Set: true}}, without: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := &configv1.CertificateVersion{
				Chain: cmp.Or(tt.chain, chain), PrivateKey: plain(cmp.Or(tt.key, key)),
			}
			if tt.without {
				want.PrivateKey = tt.in.GetPrivateKey()
			}
			got := proto.CloneOf(tt.in)
			if vs := certinput.Version(got, certinput.NewWork(5000)); len(vs) > 0 {
				t.Fatalf("refused: %v", vs)
			}
			if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again := proto.CloneOf(got)
			if vs := certinput.Version(again, certinput.NewWork(5000)); len(vs) > 0 || !proto.Equal(again, got) {
				t.Errorf("what is stored is read otherwise: %v", vs)
			}
			if _, vs := certs.Open(&configv1.Certificate{Current: got}); len(vs) > 0 {
				t.Errorf("what is stored does not open: %v", vs)
			}
		})
	}
}

func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRefused has what cannot be a certificate, with everything that is wrong with it. No reason repeats a key.
func TestRefused(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	a, b := root.Issue(t, "a"), root.Issue(t, "b")
	key := a.KeyPEM(t)
	for _, tt := range []struct {
		name       string
		chain, key string
		passphrase string
		want       []string
	}{
		{name: "nothing", want: []string{"chain: holds no certificate"}},
		{name: "text", chain: "hello", want: []string{"chain: holds no certificate"}},
		{name: "a key alone", chain: key, want: []string{"chain: holds no certificate"}},
		{name: "no key where one should be", chain: a.PEM(), key: "secret words", want: []string{"private_key: holds no private key"}},
		{name: "two leaves", chain: a.PEM() + b.PEM(), want: []string{`chain: holds 2 certificates that issued none of the others ("a", "b")`}},
		{name: "two keys", chain: a.PEM() + key + b.KeyPEM(t), want: []string{"chain: there are 2 private keys"}},
		{name: "key of another", chain: a.PEM(), key: b.KeyPEM(t), want: []string{"private_key: the private key belongs to none of the certificates"}},
		{name: "foreign certificate", chain: a.PEM() + b.PEM() + key, want: []string{`chain: "b" issued neither "a" nor one of its issuers`}},
		{name: "a request", chain: certtest.Block("CERTIFICATE REQUEST", []byte{1}) + a.PEM(), want: []string{"chain: the PEM block at place 1 is neither"}},
		{name: "damaged block", chain: a.PEM() + strings.Replace(key, "\n", "\n!", 1), want: []string{"chain: has a damaged PEM block at place 2"}},
		{name: "damaged block in front", chain: strings.Replace(b.PEM(), "\n", "\n!", 1) + a.PEM(), want: []string{"chain: has a damaged block before"}},
		{name: "junk in blocks", chain: certtest.Block("CERTIFICATE", []byte("junk")) + certtest.Block("PRIVATE KEY", []byte("junk")), want: []string{
			"chain: the certificate at place 1 cannot be read", "chain: the private key at place 2 cannot be read",
		}},
		{name: "encrypted without passphrase", chain: a.PEM(), key: a.EncryptedKeyPEM(t, "sesame", 1000), want: []string{"private_key: the private key at place 1 is encrypted: give its passphrase"}},
		{name: "wrong passphrase", chain: a.PEM(), key: a.EncryptedKeyPEM(t, "sesame", 1000), passphrase: "simsim", want: []string{"private_key: the private key at place 1 cannot be "}},
		{name: "endless work", chain: a.PEM(), key: a.EncryptedKeyPEM(t, "sesame", 2_000_000_000), passphrase: "sesame", want: []string{"private_key: the private key at place 1 asks for 2000000000 rounds"}},
		{name: "passphrase for nothing", chain: a.PEM() + key, passphrase: "sesame", want: []string{"passphrase: there is no encrypted private key"}},
		{name: "old encryption", chain: a.PEM() + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", want: []string{"chain: the private key at place 2 is encrypted in the old form of openssl"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := &configv1.CertificateVersion{Chain: tt.chain}
			if tt.key != "" {
				v.PrivateKey = plain(tt.key)
			}
			if tt.passphrase != "" {
				v.Passphrase = plain(tt.passphrase)
			}
			vs := certinput.Version(v, certinput.NewWork(5000))
			compare(t, vs, tt.want)
			if v.GetPassphrase() != nil || strings.Contains(v.GetChain(), "PRIVATE KEY") {
				t.Errorf("passphrase or key is still where it was")
			}
		})
	}
}

func compare(t *testing.T, vs []problem.Violation, want []string) {
	t.Helper()
	if len(vs) != len(want) {
		t.Fatalf("told %v, want %v", vs, want)
	}
	for i, v := range vs {
		if !strings.HasPrefix(v.Path+": "+v.Reason, want[i]) {
			t.Errorf("told %q, want %q", v.Path+": "+v.Reason, want[i])
		}
	}
}

// TestWorkIsBoundedForAll opens keys until the work of one request is done.
func TestWorkIsBoundedForAll(t *testing.T) {
	t.Parallel()
	leaf := certtest.SelfSigned(t, "a")
	work := certinput.NewWork(5000)
	for i := range 3 { // 2048 rounds each, which 5000 cover twice
		v := &configv1.CertificateVersion{Chain: leaf.PEM() + leaf.EncryptedKeyPEM(t, "sesame", 2048), Passphrase: plain("sesame")}
		vs := certinput.Version(v, work)
		refused := len(vs) == 1 && strings.Contains(vs[0].Reason, "more than one request may take")
		if refused != (i == 2) {
			t.Errorf("key %d: %v", i+1, vs)
		}
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	root := certtest.CA(t, "root")
	got, vs := certinput.Authorities("# ours\n" + root.PEM() + root.PEM())
	if len(vs) > 0 || got != root.PEM() {
		t.Errorf("Authorities() = %q, %v", got, vs)
	}
	got, vs = certinput.Authorities(root.PEM() + root.KeyPEM(t))
	compare(t, vs, []string{"certificates: holds a private key"})
	if strings.Contains(got, "PRIVATE KEY") {
		t.Error("the key is still there")
	}
}

// FuzzVersion reads anything: what is accepted opens, and is stored as the same when it is read again.
func FuzzVersion(f *testing.F) {
	root := certtest.CA(f, "root")
	leaf := root.CA(f, "middle").Issue(f, "leaf")
	f.Add(leaf.ChainPEM()+leaf.KeyPEM(f), "")
	f.Add(leaf.ChainPEM()+leaf.EncryptedKeyPEM(f, "sesame", 1), "sesame")
	f.Add(root.PEM(), "")
	f.Fuzz(func(t *testing.T, text, passphrase string) {
		v := &configv1.CertificateVersion{Chain: text}
		if passphrase != "" {
			v.Passphrase = plain(passphrase)
		}
		if vs := certinput.Version(v, certinput.NewWork(5000)); len(vs) > 0 {
			return
		}
		if v.GetPassphrase() != nil || strings.Contains(v.GetChain(), "PRIVATE KEY") {
			t.Fatal("a key or passphrase stays where it is not kept")
		}
		again := proto.CloneOf(v)
		if vs := certinput.Version(again, certinput.NewWork(5000)); len(vs) > 0 || !proto.Equal(v, again) {
			t.Fatalf("read again it is another one: %v", vs)
		}
		_, _ = certs.Open(&configv1.Certificate{Current: v}) // must not panic
	})
}
