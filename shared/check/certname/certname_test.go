package certname_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/check/certname"
	"keyward.dev/shared/testkit/certtest"
)

func TestParseSAN(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{ // want empty: refused
		{"URI", "URI:spiffe://Bank.Example/Ledger", "URI:spiffe://bank.example/Ledger"},
		{"kind in another case", "uri:SPIFFE://a/b", "URI:spiffe://a/b"},
		{"URN", "URI:urn:uuid:1", "URI:urn:uuid:1"},
		{"DNS", "dns:Ledger.Bank.Example.", "DNS:ledger.bank.example"},
		{"e-mail", "Email:Ledger@Bank.Example", "email:Ledger@bank.example"},
		{"no kind", "ledger.bank.example", ""},
		{"another kind", "IP:192.0.2.1", ""},
		{"nothing", "URI:", ""},
		{"relative", "URI:/a", ""},
		{"space", "URI:spiffe://a/b c", ""},
		{"star", "DNS:*.bank.example", ""},
		{"address", "DNS:192.0.2.1", ""},
		{"label left out", "DNS:a..b", ""},
		{"not ASCII", "DNS:bänk.example", ""},
		{"without a name", "email:@bank.example", ""},
		{"without a host", "email:ledger@", ""},
		{"not an address", "email:ledger", ""},
		{"too long", "URI:urn:" + strings.Repeat("x", 2048), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, reason := certname.ParseSAN(tt.text)
			if refused := reason != ""; refused != (tt.want == "") || !refused && got != tt.want {
				t.Errorf("ParseSAN(%q) = %q, %q, want %q", tt.text, got, reason, tt.want)
			}
		})
	}
}

func TestParseSubject(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{ // want empty: refused
		{"common name", "CN=ledger", "CN=ledger"},
		{"whole", "CN=ledger,OU=payments,O=Bank,C=DE", "CN=ledger,OU=payments,O=Bank,C=DE"},
		{"spaces and case of types", " cn = ledger , o=Bank ", "CN=ledger,O=Bank"},
		{"case of values", "CN=Ledger", "CN=Ledger"},
		{"types by number", "2.5.4.3=a,1.2.3.4=b", "CN=a,1.2.3.4=b"},
		{"e-mail", "emailAddress=a@b.example,E=c@d.example", "EMAILADDRESS=a@b.example,EMAILADDRESS=c@d.example"},
		{"several in one", "O=b+CN=a,C=DE", "CN=a+O=b,C=DE"},
		{"escaped", `CN=Smith\, John\2C \+,O=\ x\20`, `CN=Smith\, John\, \+,O=\ x\ `},
		{"escaped hash", `CN=\#1`, `CN=\#1`},
		{"equals sign", "CN=a=b", "CN=a=b"},
		{"UTF-8", `CN=Müller\C3\BC`, "CN=Müllerü"},
		{"control", `CN=a\0ab`, `CN=a\0ab`},
		{"nothing", "", ""},
		{"no type", "ledger", ""},
		{"unknown type", "XX=a", ""},
		{"no value", "CN=,O=b", ""},
		{"comma at the end", "CN=a,", ""},
		{"encoded", "CN=#0c0161", ""},
		{"quoted", `CN="a"`, ""},
		{"half an escape", `CN=a\`, ""},
		{"wrong escape", `CN=a\zz`, ""},
		{"broken UTF-8", `CN=\ff`, ""},
		{"NUL", `CN=a\00`, ""},
		{"number with a leading zero", "1.02=a", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, reason := certname.ParseSubject(tt.text)
			if refused := reason != ""; refused != (tt.want == "") || !refused && got != tt.want {
				t.Errorf("ParseSubject(%q) = %q, %q, want %q", tt.text, got, reason, tt.want)
			}
		})
	}
}

func leaf(t *testing.T, change func(*x509.Certificate)) *certtest.Cert {
	t.Helper()
	return certtest.CA(t, "ca").Issue(t, "x", certtest.Template(change))
}

func TestNamesOfACertificate(t *testing.T) {
	t.Parallel()
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	tests := []struct {
		name   string
		change func(*x509.Certificate)
		want   []string // without the fingerprint
	}{
		{"all kinds", func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "Smith, John", Organization: []string{"Bank"}, Country: []string{"DE"}}
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "BANK", Path: "/a"}}
			c.DNSNames, c.EmailAddresses = []string{"A.example", "*.b.example"}, []string{"X@B.example"}
		}, []string{
			"san URI:spiffe://bank/a", "san DNS:a.example", "san email:X@b.example",
			`subject CN=Smith\, John,O=Bank,C=DE`, `subject CN=Smith\, John`,
		}},
		{"common name alone", func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{CommonName: "a"}, nil }, []string{"subject CN=a"}},
		{"two common names", func(c *x509.Certificate) {
			c.DNSNames = nil
			c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "a"}, {Type: cn, Value: "b"}}}
		}, []string{"subject CN=b,CN=a"}},
		{"no subject", func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{}, []string{"a.example"} }, []string{"san DNS:a.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := leaf(t, tt.change)
			names := certname.Of(c.Cert)
			if names[0] != (certname.Name{Kind: certname.Fingerprint, Text: c.ID()}) {
				t.Errorf("the first is %v, want the fingerprint %s", names[0], c.ID())
			}
			var got []string
			for _, n := range names[1:] {
				got = append(got, n.Claim())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamesOfAKindAreNotThoseOfAnother(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]certname.Name{}
	for _, n := range []certname.Name{{certname.Fingerprint, "CN=a"}, {certname.SAN, "CN=a"}, {certname.Subject, "CN=a"}, {certname.Subject, "CN=b"}} {
		if other, ok := seen[n.Hash()]; ok {
			t.Errorf("%v and %v are looked up by the same", n, other)
		}
		seen[n.Hash()] = n
	}
}

// A normal form stays as it is, and means the same as what it was made from.
func FuzzParseSubject(f *testing.F) {
	for _, seed := range []string{"CN=a", `CN=Smith\, John+O=b , C = DE`, `CN=\ a\20`, `CN=\#\22`, "1.2.3=x", `CN=a\`, "=", "CN=a,+"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, reason := certname.ParseSubject(text)
		if reason != "" {
			return
		}
		if again, reason := certname.ParseSubject(normal); reason != "" || again != normal {
			t.Errorf("%q becomes %q, and that %q, %q", text, normal, again, reason)
		}
	})
}

func FuzzParseSAN(f *testing.F) {
	for _, seed := range []string{"URI:spiffe://A/b", "DNS:A.b.", "email:a@B", "URI:x:%zz", "dns:*", "email:a@b@c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, reason := certname.ParseSAN(text)
		if reason != "" {
			return
		}
		if again, reason := certname.ParseSAN(normal); reason != "" || again != normal {
			t.Errorf("%q becomes %q, and that %q, %q", text, normal, again, reason)
		}
	})
}
