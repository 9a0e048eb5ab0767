package revocation_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/check/revocation"
	"keyward.dev/shared/testkit/certtest"
)

func listPEM(der []byte) string { return certtest.Block("X509 CRL", der) }

// extension makes an extension with an empty sequence in it.
func extension(critical bool, id ...int) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier(id), Critical: critical, Value: []byte{0x30, 0}}
}

func extended(e pkix.Extension) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, e) }
}

func entry(e pkix.Extension) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(7), RevocationTime: l.ThisUpdate, ExtraExtensions: []pkix.Extension{e},
		})
	}
}

// TestParse has lists of all sorts; those that do not say which certificates of their authority are revoked, all of them, are
// refused.
func TestParse(t *testing.T) {
	t.Parallel()
	ca, other := certtest.CA(t, "ca"), certtest.CA(t, "other")
	twin := certtest.CA(t, "ca") // of the same name
	mute := certtest.CA(t, "mute", certtest.Template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }))
	noSigner := certtest.CA(t, "mute", certtest.Key(mute.Key), certtest.Template(func(*x509.Certificate) {}))
	good, leaf := ca.CRL(t, 1, nil, ca.Issue(t, "a").Cert), ca.Issue(t, "leaf")
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name string
		in   []byte
		want string // what is wrong; empty: nothing
	}{
		{"good", good, ""},
		{"good, in PEM", []byte(listPEM(good)), ""},
		{"empty", ca.CRL(t, 2, nil), ""},
		{"an entry with its reason", ca.CRL(t, 2, nil, leaf.Cert), ""},
		{"two in PEM", []byte(listPEM(good) + listPEM(good)), "is PEM, but not of one"},
		{"a certificate", []byte(ca.PEM()), "is PEM, but not of one"},
		{"junk", []byte("junk"), "cannot be read"},
		{"cut off", good[:len(good)-10], "cannot be read"},
		{"of another authority", other.CRL(t, 1, nil), "is of none of the authorities"},
		{"of another one of that name", twin.CRL(t, 1, nil), "is not signed by the authority"},
		{"flipped", flipped, "is not signed by the authority"},
		{"of one that may not sign lists", noSigner.CRL(t, 1, nil), "is not signed by the authority"},
		{"a delta", ca.CRL(t, 1, extended(extension(true, 2, 5, 29, 27))), "is a delta list"},
		{"a delta that is not marked as one must", ca.CRL(t, 1, extended(extension(false, 2, 5, 29, 27))), "is a delta list"},
		{"a part", ca.CRL(t, 1, extended(extension(true, 2, 5, 29, 28))), "is for a part"},
		{"indirect", ca.CRL(t, 1, entry(extension(true, 2, 5, 29, 29))), "is an indirect list"},
		{"something critical", ca.CRL(t, 1, extended(extension(true, 1, 2, 3))), "has an extension that must not be passed over"},
		{"something that is not", ca.CRL(t, 1, extended(extension(false, 1, 2, 3))), ""},
		{"something critical of an entry", ca.CRL(t, 1, entry(extension(true, 1, 2, 3))), "has an entry with an extension"},
		{"something of an entry", ca.CRL(t, 1, entry(extension(false, 1, 2, 3))), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := revocation.Parse(tt.in, []*x509.Certificate{mute.Cert, ca.Cert})
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	a, b := ca.Issue(t, "a"), ca.Issue(t, "b")
	parse := func(der []byte) *revocation.List {
		l, err := revocation.Parse(der, []*x509.Certificate{ca.Cert})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	later := func(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(time.Second) }
	one, two := parse(ca.CRL(t, 1, nil, a.Cert)), parse(ca.CRL(t, 2, nil, a.Cert))
	if !one.Revoked(a.Cert.SerialNumber) || one.Revoked(b.Cert.SerialNumber) || one.Len() != 1 {
		t.Error("the list does not say what it was made of")
	}
	if !one.FreshAt(one.NextUpdate) || one.FreshAt(one.NextUpdate.Add(time.Second)) {
		t.Error("the list is out of date at the wrong time")
	}
	if !one.Before(two) || two.Before(one) || one.Before(one) || !one.Before(parse(ca.CRL(t, 1, later))) {
		t.Error("the order of lists is wrong")
	}
	if !one.SaysSame(two) || one.SaysSame(parse(ca.CRL(t, 3, nil, b.Cert))) || one.SaysSame(parse(ca.CRL(t, 3, nil))) {
		t.Error("lists are taken for the same, or not, wrongly")
	}
}

// FuzzParse feeds lists of which an authority could have signed anything; none may be taken that it has not.
func FuzzParse(f *testing.F) {
	ca, other := certtest.CA(f, "ca"), certtest.CA(f, "ca")
	f.Add(other.CRL(f, 1, nil, ca.Cert))
	f.Add([]byte(listPEM(other.CRL(f, 2, nil))))
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := revocation.Parse(text, []*x509.Certificate{ca.Cert}); err == nil {
			t.Errorf("took a list of number %v that the authority never made", l.Number)
		}
	})
}
