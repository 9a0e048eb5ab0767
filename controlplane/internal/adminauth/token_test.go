package adminauth_test

import (
	"strings"
	"testing"

	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/adminauth"
)

func TestIssuedTokensParseAndMatch(t *testing.T) {
	t.Parallel()
	grants := []adminauth.Grant{{Group: "default", Role: optionsv1.Role_ROLE_VIEWER}}
	token, text, err := adminauth.Issue("ci", grants)
	if err != nil {
		t.Fatal(err)
	}
	id, secret, ok := adminauth.Parse(text)
	if !ok || id != token.ID {
		t.Fatalf("Parse(issued) = %q, %v, want id %q", id, ok, token.ID)
	}
	if !token.Matches(secret) || token.Matches(secret[1:]+"x") {
		t.Error("Matches does not tell the secret from another")
	}
	adopted, err := adminauth.Adopt("ci", text, grants)
	if err != nil || adopted.Hash != token.Hash || adopted.ID != token.ID {
		t.Errorf("Adopt(issued) = %v, %v, want the same id and hash", adopted.ID, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	id, secret := strings.Repeat("a", 12), strings.Repeat("b", 32)
	for name, text := range map[string]string{
		"empty":         "",
		"other prefix":  "kwj_" + id + "_" + secret,
		"short secret":  "kwa_" + id + "_" + secret[1:],
		"long secret":   "kwa_" + id + "_" + secret + "b",
		"separator":     "kwa_" + id + "-" + secret,
		"bad character": "kwa_" + id + "_" + secret[1:] + "_",
		"bad id":        "kwa_" + id[1:] + "é" + secret,
	} {
		if _, _, ok := adminauth.Parse(text); ok {
			t.Errorf("%s: Parse accepted it", name)
		}
	}
}

func TestRolesCover(t *testing.T) {
	t.Parallel()
	viewer, operator, admin := optionsv1.Role_ROLE_VIEWER, optionsv1.Role_ROLE_OPERATOR, optionsv1.Role_ROLE_ADMIN
	id := &adminauth.Identity{Grants: []adminauth.Grant{{Group: "*", Role: viewer}, {Group: "a", Role: admin}, {Group: "system", Role: admin}}}
	for _, tc := range []struct {
		grant adminauth.Grant
		want  bool
	}{
		{adminauth.Grant{Group: "a", Role: admin}, true},
		{adminauth.Grant{Group: "b", Role: viewer}, true},
		{adminauth.Grant{Group: "b", Role: operator}, false},
		{adminauth.Grant{Group: "*", Role: viewer}, true},
		{adminauth.Grant{Group: "*", Role: operator}, false},
		{adminauth.Grant{Group: adminauth.System, Role: operator}, false},
	} {
		if got := id.Covers(tc.grant); got != tc.want {
			t.Errorf("Covers(%v) = %v, want %v", tc.grant, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("kwa_" + strings.Repeat("a", 12) + "_" + strings.Repeat("b", 32))
	f.Add("kwa_")
	f.Fuzz(func(t *testing.T, text string) {
		id, secret, ok := adminauth.Parse(text)
		if ok && "kwa_"+id+"_"+secret != text {
			t.Errorf("Parse(%q) = %q, %q", text, id, secret)
		}
	})
}
