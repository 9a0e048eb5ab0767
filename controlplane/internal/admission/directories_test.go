package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyward.dev/shared/secret"
)

// asking is a route with a policy that asks a directory.
func asking(server, search string) string {
	return fmt.Sprintf(`
services: [{name: d, url: "http://127.0.0.1:1"}]
routes:
  - name: d
    service: d
    hosts: [d.test]
    policies: [{type: ldap-auth, name: people, config: {server: {%s}, search: {base_dn: 'dc=x', %s}}}]`, server, search)
}

func TestPasswordsOfDirectoriesAreNotSentElsewhereThanTheyWereGivenFor(t *testing.T) {
	t.Parallel()
	const at = "addresses: 'ldap.test:636'"
	for _, tt := range []struct {
		name, server, search string
		path                 string // of what is wrong; empty: the password is kept
	}{
		{"nothing changes", at, "bind_password: {set: true}", ""},
		{"left out", at, "scope: one-level", ""},
		{"another timeout", at + ", timeout: 1s", "bind_password: {set: true}", ""},
		{"another address", "addresses: 'evil.test:636'", "bind_password: {set: true}", "bind_password"},
		{"another address, left out", "addresses: 'evil.test:636'", "scope: subtree", "bind_password"},
		{"one more address", "addresses: ['ldap.test:636', 'evil.test:636']", "bind_password: {set: true}", "bind_password"},
		{"another name", at + ", server_name: evil.test", "bind_password: {set: true}", "bind_password"},
		{"in the clear", at + ", tls: none, insecure_plaintext: true", "bind_password: {set: true}", "bind_password"},
		{"another address, and given again", "addresses: 'new.test:636'", "bind_password: other", ""},
	} {
		g := newGroup(t)
		const account = "bind_dn: 'cn=a,dc=x', "
		g.must(asking(at, account+"bind_password: hunter2"))
		_, vs := g.apply(asking(tt.server, account+tt.search), false)
		if tt.path == "" {
			if len(vs) > 0 || !strings.Contains(passwordOf(t, g), "hunter2") && !strings.Contains(tt.search, "other") {
				t.Errorf("%s: %v, %q", tt.name, vs, passwordOf(t, g))
			}
			continue
		}
		if len(vs) != 1 || !strings.HasSuffix(vs[0].Path, tt.path) {
			t.Errorf("%s: %v", tt.name, vs)
		}
	}
}

func passwordOf(t *testing.T, g *group) (password string) {
	t.Helper()
	r, ok := g.Get("routes", "d")
	if !ok {
		t.Fatal("there is no route")
	}
	if err := secret.Walk(r.Message, func(f secret.Field) { password += f.Get().GetPlaintext() }); err != nil {
		t.Fatal(err)
	}
	return password
}

func TestPlaintextToDirectoriesIsWarnedOf(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	out, vs := g.apply(asking("addresses: 'ldap.test:389', tls: none, insecure_plaintext: true", "bind_dn: 'cn=a,dc=x', bind_password: x"), false)
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	if len(out.Warnings) != 1 || !strings.HasSuffix(out.Warnings[0].Path, "insecure_plaintext") ||
		!slices.Contains(out.Audit, "passwords go to a directory in the clear for routes/d") {
		t.Errorf("warnings %v, audit %v", out.Warnings, out.Audit)
	}
}

func TestAccountsOfDirectoriesHavePasswords(t *testing.T) {
	t.Parallel()
	for search, ok := range map[string]bool{
		"bind_dn: 'cn=a,dc=x', bind_password: x": true, "scope: subtree": true,
		"bind_name: a, bind_password: x": true, "bind_name: a": false, "bind_dn: 'cn=a,dc=x', bind_name: a, bind_password: x": false,
		"bind_dn: 'cn=a,dc=x'": false, "bind_password: x": false, "bind_dn: 'cn=a,dc=x', bind_password: ''": false,
	} {
		doc := asking("addresses: 'ldap.test:636'", search)
		if _, vs := newGroup(t).apply(doc, false); (len(vs) == 0) != ok {
			t.Errorf("%s: %v", search, vs)
		}
	}
}
