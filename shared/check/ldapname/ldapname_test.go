package ldapname_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/check/ldapname"
)

func TestAttribute(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"uid": true, "sAMAccountName": true, "a-1": true, "2.5.4.3": true, "cn": true,
		"": false, "1": false, "2.05": false, "2..5": false, "-a": false, "a b": false, "uid=": false, "ü": false, "a*": false, "a)(b": false,
		"a;b": false, "2.5.": false, strings.Repeat("a", 65): false,
	} {
		if got := ldapname.Attribute(name); got != want {
			t.Errorf("Attribute(%q) = %v", name, got)
		}
	}
}

func TestParseDN(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ldapname.DN{
		"uid=alice,ou=people": {{{"uid", "alice"}}, {{"ou", "people"}}},
		"CN=a+UID=b, DC=x":    {{{"CN", "a"}, {"UID", "b"}}, {{"DC", "x"}}},
		`cn=a\,b\2Cc\20,dc=x`: {{{"cn", "a,b,c "}}, {{"dc", "x"}}},
		`cn=\C3\BC,dc=x`:      {{{"cn", "ü"}}, {{"dc", "x"}}},
		"cn=a=b  ,dc=x":       {{{"cn", "a=b"}}, {{"dc", "x"}}},
		"2.5.4.3=#0401":       {{{"2.5.4.3", "#0401"}}},
		`cn=\#a`:              {{{"cn", "#a"}}},
	} {
		got, ok := ldapname.ParseDN(text)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("ParseDN(%q): %v (-want +got):\n%s", text, ok, diff)
		}
	}
	for _, text := range []string{
		"", "cn", "cn=", "=a", "cn=a,", ",cn=a", "cn=a,,dc=x", `cn=a\`, `cn=a\zz`, "cn=#0", "cn=#zz", "cn=#", `cn=a"b"`, "cn=a;dc=x", "cn=<a>",
		"cn=a\x00", `cn=\C3`, "c n=a", "cn=a+", "cn=\xff", "{x}=a", strings.Repeat("cn=a,", 5000) + "cn=a",
	} {
		if got, ok := ldapname.ParseDN(text); ok {
			t.Errorf("ParseDN(%q) = %v", text, got)
		}
	}
}

func TestBelowAndNamed(t *testing.T) {
	t.Parallel()
	base, _ := ldapname.ParseDN("OU=Groups, dc=example")
	for text, want := range map[string]bool{
		"cn=a,ou=groups,dc=example": true, "cn=a,ou=x,ou=groups,DC=EXAMPLE": true, "ou=groups,dc=example": true,
		"cn=a,ou=groups,dc=example,dc=test": false, "cn=a,ou=other,dc=example": false, "dc=example": false, `cn=a\,ou\=groups,dc=example`: false,
		"cn=a,ou=groups+cn=b,dc=example": false,
	} {
		dn, ok := ldapname.ParseDN(text)
		if !ok || dn.Below(base) != want {
			t.Errorf("%q is below: %v, %v", text, dn.Below(base), ok)
		}
	}
	dn, _ := ldapname.ParseDN("uid=1+CN=The  Admins,ou=groups")
	if name, ok := dn.Named("cn"); !ok || name != "The  Admins" {
		t.Errorf("Named() = %q, %v", name, ok)
	}
	if _, ok := dn.Named("ou"); ok {
		t.Error("a part above names the entry")
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]bool{
		"uid={username},ou=people,dc=x": true, "cn=x {username} y,dc=x": true, "cn={username}+uid={username},dc=x": true,
		"uid=alice,dc=x": false, "{username},dc=x": false, "{username}=a,dc=x": false, "uid={username}": true, "uid=#{username},dc=x": false,
		`uid=\{username},dc=x`: false, "uid={username},": false, `uid="{username}",dc=x`: false, "uid={Username},dc=x": false,
	} {
		if got := ldapname.GoodTemplate(template); got != want {
			t.Errorf("GoodTemplate(%q) = %v", template, got)
		}
	}
	for template, want := range map[string]bool{
		"(uid={username})": true, "(&(objectClass=person)(|(uid={username})(mail={username}*)))": true, "(!(uid={username}))": true,
		"(cn:caseExactMatch:={username})": true, "(:dn:2.5.13.5:={username})": true, "(cn:dn:={username})": true, "(cn>={username})": true,
		"(memberOf:1.2.840.113556.1.4.1941:={username})": true, "(cn=a*{username}*b)": true, "(cn;lang-de={username})": true,
		"uid={username}": false, "(uid=alice)": false, "({username}=a)": false, "(uid={username}": false, "(uid={username}))": false, "(&)": false,
		"(&(uid={username})": false, "(cn:{username}:=a)": false, "(uid={username})(cn=a)": false, "(=({username}))": false, "(cn={username}**)": false,
		`(uid=\{username})`: false, "(:={username})": false, "(cn;={username})": false, "(cn>={username}*)": false, "": false, "({username})": false,
		strings.Repeat("(!", 20) + "(uid={username})" + strings.Repeat(")", 20): false,
	} {
		if got := ldapname.GoodFilter(template); got != want {
			t.Errorf("GoodFilter(%q) = %v", template, got)
		}
	}
}

// attacks are what users have written to become somebody else.
func attacks() []string {
	return []string{
		"*", "a*", "*)(uid=*", "alice)(|(uid=*", "alice)(objectClass=*))(&(uid=a", `\`, `\2a`, "alice\x00", "(", ")", "admin,ou=system", "alice+cn=admin",
		`alice\,ou=x`, "#0401", " alice", "alice ", "a=b", `"a"`, "<a>", "a;b", "ü", "{username}", "\r\n", "a\x7f",
	}
}

func TestWhatUsersWriteStaysAValue(t *testing.T) {
	t.Parallel()
	for _, user := range attacks() {
		stays(t, user)
	}
}

func stays(t *testing.T, user string) {
	t.Helper()
	const template, filter = "uid=a{username}b,ou=people", "(&(a=b)(uid={username}))"
	if dn, ok := ldapname.ParseDN(ldapname.FillDN(template, user)); !ok || len(dn) != 2 || len(dn[0]) != 1 || dn[0][0].Value != "a"+user+"b" {
		t.Errorf("%q makes the name %q: %v", user, ldapname.FillDN(template, user), dn)
	}
	if dn, ok := ldapname.ParseDN(ldapname.FillDN("uid={username},ou=people", user)); !ok || dn[0][0].Value != user {
		t.Errorf("%q alone makes the name %v", user, dn)
	}
	filled := ldapname.FillFilter(filter, user)
	if !ldapname.Filter(filled) || strings.Count(filled, "(") != 3 || strings.Contains(filled, "*") || strings.Contains(filled, "\x00") {
		t.Errorf("%q makes the filter %q", user, filled)
	}
}

func FuzzWhatUsersWriteStaysAValue(f *testing.F) {
	for _, user := range attacks() {
		f.Add(user)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if user != "" && strings.ToValidUTF8(user, "") == user && len(user) < 1000 {
			stays(t, user)
		}
	})
}

func FuzzParseDN(f *testing.F) {
	f.Add(`cn=a\,b+uid=\C3\BC , dc=#0401`)
	f.Fuzz(func(t *testing.T, text string) {
		dn, ok := ldapname.ParseDN(text)
		if !ok {
			return
		}
		if !dn.Below(dn) || !dn.Below(dn[len(dn)-1:]) {
			t.Errorf("%q is not below itself", text)
		}
		for _, rdn := range dn {
			for _, p := range rdn {
				written := p.Type + "=" + ldapname.EscapeValue(p.Value)
				if strings.HasPrefix(p.Value, "#") || len(written) > 8192 { // escaping makes it longer than what is read
					continue
				}
				again, ok := ldapname.ParseDN(written)
				if !ok || again[0][0] != p {
					t.Errorf("%+v is read again as %v", p, again)
				}
			}
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("(&(a=b)(!(c:dn:2.5.13.5:=d*))(e=*))")
	f.Fuzz(func(t *testing.T, text string) {
		if ldapname.Filter(text) && (strings.Count(text, "(") != strings.Count(text, ")") || strings.Contains(text, "\x00")) {
			t.Errorf("%q is a filter", text)
		}
	})
}
