package admission_test

import (
	"fmt"
	"strings"
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

const pairs = `credential-stores: [{name: pairs, provider: corp, path: apps}]`

// vaults are two providers of the operator: kv is a KV engine, and issuer a role of PKI.
type vaults struct{}

func (vaults) Has(name string) bool { return name == "kv" || name == "issuer" }

func (vaults) Check(r secret.Reference) string {
	if r.Provider == "issuer" {
		return "is not the role of the provider"
	}
	return ""
}

func TestStoresAreRelatedToTheProvidersOfTheGroup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, before, doc, want string
		code                    problem.Code
	}{
		{"both at once", "", corp + "\n" + pairs, "", ""},
		{"a provider of before", corp, pairs, "", ""},
		{"the operator's", "", strings.Replace(pairs, "corp", "kv", 1), "", ""},
		{"the operator's that issues", "", strings.Replace(pairs, "corp", "issuer", 1), "no KV engine", ""},
		{"no provider", "", pairs, "unknown provider", ""},
		{"a provider that is used becomes another", corp + "\n" + pairs, "secret-providers: [{name: corp, aws: {region: eu-central-1, access_key_id: A, secret_access_key: s}}]", "used any more by credential-stores/pairs", problem.Conflict},
		{"a provider that is used issues now", corp + "\n" + pairs, `secret-providers: [{name: corp, vault: {address: "https://v.test:8200", mount: pki, pki_role: web, token: t}}]`, "used any more by credential-stores/pairs", problem.Conflict},
		{"a provider that is used reads elsewhere", corp + "\n" + pairs, `secret-providers: [{name: corp, vault: {address: "https://v.test:8200", mount: other, token: t}}]`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			if tt.before != "" {
				g.must(tt.before)
			}
			_, req := g.changes(tt.doc)
			req.Secrets = vaults{}
			_, vs := g.admit(req)
			if tt.want == "" {
				if len(vs) > 0 {
					t.Error(vs)
				}
				return
			}
			if len(vs) != 1 || !strings.Contains(vs[0].Reason, tt.want) || vs[0].Code != tt.code {
				t.Errorf("%+v, want one with %q, code %q", vs, tt.want, tt.code)
			}
		})
	}
}

// TestWhatAStoreNeedsAndWhatNeedsItStays tries to remove the provider of a store, and the store of a policy.
func TestWhatAStoreNeedsAndWhatNeedsItStays(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(corp + "\n" + pairs + "\nsettings: {policies: [{type: vault-auth, config: {store: pairs}}]}")
	for kind, name := range map[string]string{"secret-providers": "corp", "credential-stores": "pairs"} {
		if _, vs := g.remove(kind, name); len(vs) != 1 || vs[0].Code != problem.Conflict {
			t.Errorf("%s/%s may go: %v", kind, name, vs)
		}
	}
	r, _ := g.Get("secret-providers", "corp")
	shown := &configv1.SecretProvider{}
	admission.Output(shown, g, r)
	if len(shown.GetUsedBy()) != 1 || shown.GetUsedBy()[0] != "credential-stores/pairs" {
		t.Errorf("used by %v", shown.GetUsedBy())
	}
}

func TestAGroupHasABoundedNumberOfStores(t *testing.T) {
	t.Parallel()
	doc := corp + "\ncredential-stores:\n"
	for n := range 16 {
		doc += fmt.Sprintf("  - {name: s%d, provider: corp}\n", n)
	}
	g := newGroup(t)
	g.must(doc)
	if _, vs := g.put("credential-stores", `{name: more, provider: corp}`, nil); len(vs) != 1 || !strings.Contains(vs[0].Reason, "it may have 16") {
		t.Errorf("one more: %v", vs)
	}
	if _, vs := g.put("credential-stores", `{name: s1, provider: corp, path: x}`, nil); len(vs) > 0 {
		t.Errorf("one of them: %v", vs)
	}
}
