package hostsvc_test

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"keyward.dev/shared/check/ldapname"
)

// FuzzWhatIsAdmittedIsUnderstood holds that the LDAP client takes every name and filter that admission does, and reads the same
// values out of them.
func FuzzWhatIsAdmittedIsUnderstood(f *testing.F) {
	for _, text := range []string{
		"(&(objectClass=person)(uid=alice))", "(|(a=b*c)(!(d:dn:2.5.13.5:=e)))", `(cn=\28\2a\29*)`, "(cn;lang-de>=x)", "(a=*)", "(a=*b*)", "(a:=b)",
		`uid=a\,b+cn=\C3\BC , dc=x`, "cn=a=b,dc=x", `cn=\20a\ ,dc=x`, "2.5.4.3=x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if ldapname.Filter(text) {
			if _, err := ldap.CompileFilter(text); err != nil {
				t.Errorf("the filter %q: %v", text, err)
			}
		}
		// Values in hex are BER, which the directory reads and nobody here.
		if ours, ok := ldapname.ParseDN(text); ok && !strings.Contains(text, "#") {
			theirs, err := ldap.ParseDN(text)
			if err != nil || len(theirs.RDNs) != len(ours) {
				t.Fatalf("the name %q: %v, %v", text, theirs, err)
			}
			for i, rdn := range theirs.RDNs {
				for j, a := range rdn.Attributes {
					if p := ours[i][j]; p.Value != a.Value || p.Type != a.Type {
						t.Errorf("the name %q has %+v, and for the client %+v", text, p, a)
					}
				}
			}
		}
		if packet, err := ldap.CompileFilter("(a=" + ldapname.EscapeFilter(text) + ")"); text != "" && (err != nil || packet.Children[1].Value != text) {
			t.Errorf("%q in a filter: %v", text, err)
		}
	})
}
