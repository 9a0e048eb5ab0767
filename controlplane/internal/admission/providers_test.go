package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
	"keyward.dev/shared/testkit/certtest"
)

const corp = `secret-providers: [{name: corp, vault: {address: "https://v.test:8200", mount: kv, prefix: web, token: first}}]`

func kept(t *testing.T, g *group, name string) *configv1.SecretProvider {
	t.Helper()
	r, ok := g.Get("secret-providers", name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return r.Message.(*configv1.SecretProvider)
}

// TestCredentialsAreNotSentElsewhereThanTheyWereGivenFor lets somebody who cannot read them change the rest of a provider.
func TestCredentialsAreNotSentElsewhereThanTheyWereGivenFor(t *testing.T) {
	t.Parallel()
	ca := certtest.CA(t, "ca")
	base := "ca-certificates: [{name: own, certificates: " + quoted(ca.PEM()) + "}]\n" + corp + `
  - {name: role, vault: {address: "https://v.test", mount: kv, approle: {role_id: r, secret_id: first}}}
  - {name: amazon, aws: {region: eu-central-1, access_key_id: A, secret_access_key: first, session_token: second}}`
	base = strings.Replace(base, "[{name: corp", "\n  - {name: corp", 1)
	base = strings.Replace(base, "token: first}}]", "token: first}}", 1)
	for _, tt := range []struct {
		name, doc string
		ok        bool
	}{
		{"nothing", `{name: corp, vault: {address: "https://v.test:8200", mount: kv, prefix: web}}`, true},
		{"kept", `{name: corp, vault: {address: "https://v.test:8200", mount: kv, prefix: web, token: {set: true}}}`, true},
		{"what is read", `{name: corp, vault: {address: "https://v.test:8200", mount: other, prefix: x, kv_version: 1}, refresh: 5m}`, true},
		{"the address", `{name: corp, vault: {address: "https://evil.test:8200", mount: kv}}`, false},
		{"the address, and keep", `{name: corp, vault: {address: "https://evil.test:8200", mount: kv, token: {set: true}}}`, false},
		{"the port", `{name: corp, vault: {address: "https://v.test:8201", mount: kv}}`, false},
		{"the address with the secret", `{name: corp, vault: {address: "https://evil.test:8200", mount: kv, token: mine}}`, true},
		{"who is believed", `{name: corp, vault: {address: "https://v.test:8200", mount: kv, ca: own}}`, false},
		{"the name in its certificate", `{name: corp, vault: {address: "https://v.test:8200", mount: kv, server_name: evil.test}}`, false},
		{"the kind of place", `{name: corp, aws: {region: eu-central-1, access_key_id: A}}`, false},
		{"the role's address", `{name: role, vault: {address: "https://evil.test", mount: kv, approle: {role_id: r}}}`, false},
		{"the role", `{name: role, vault: {address: "https://v.test", mount: kv, approle: {role_id: other}}}`, true},
		{"the region", `{name: amazon, aws: {region: us-east-1, access_key_id: A}}`, false},
		{"an endpoint", `{name: amazon, aws: {region: eu-central-1, access_key_id: A, endpoint: "https://evil.test"}}`, false},
		{"an endpoint, and half of the secrets", `{name: amazon, aws: {region: eu-central-1, access_key_id: A, secret_access_key: x, session_token: {set: true}, endpoint: "https://evil.test"}}`, false},
		{"the prefix", `{name: amazon, aws: {region: eu-central-1, access_key_id: A, prefix: x}}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must(base)
			a, vs := g.put("secret-providers", tt.doc, nil)
			if (len(vs) == 0) != tt.ok {
				t.Fatalf("%v, want it taken: %v", vs, tt.ok)
			}
			for _, u := range a.Upserts {
				none := true
				_ = secret.Walk(u.Message, func(f secret.Field) { none = none && !secret.Stored(f.Get()) })
				if none {
					t.Error("it has no credentials any more")
				}
			}
		})
	}
}

func quoted(text string) string { return `"` + strings.ReplaceAll(text, "\n", `\n`) + `"` }

// operator gives a group one provider of files, named mounted.
type operator struct{}

func (operator) Has(name string) bool { return name == "mounted" }

func (operator) Check(r secret.Reference) string {
	if r.Scheme != "file" {
		return "no such provider"
	}
	return ""
}

const web = `certificates: [{name: web, snis: [web.test], current: {private_key: "{vault://corp/tls#pem}"}}]`

func TestReferencesAreRelatedToTheProvidersOfTheGroup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, before, doc string
		want              string // of the violation; empty: taken
		code              problem.Code
	}{
		{"both at once", "", corp + "\n" + web, "", ""},
		{"a provider of before", corp, web, "", ""},
		{"no provider", "", web, "unknown provider", ""},
		{"of another scheme", corp, strings.Replace(web, "vault:", "aws:", 1), "unknown provider", ""},
		{"a path that leads out", corp, strings.Replace(web, "corp/tls", "corp/../tls", 1), "leads out", ""},
		{"no field", corp, strings.Replace(web, "#pem", "", 1), "needs a #field", ""},
		{"the operator's name", "", strings.ReplaceAll(corp, "corp", "mounted"), "take another name", problem.Conflict},
		{"the operator's provider", "", strings.Replace(web, "vault://corp/tls#pem", "file://mounted/tls", 1), "", ""},
		{"a provider that is used becomes another", corp + "\n" + web, "secret-providers: [{name: corp, aws: {region: eu-central-1, access_key_id: A, secret_access_key: s}}]", "used any more by certificates/web", problem.Conflict},
		{"a provider that is used issues now", corp + "\n" + web, `secret-providers: [{name: corp, vault: {address: "https://v.test:8200", mount: pki, pki_role: web, token: t}}]`, "used any more by certificates/web", problem.Conflict},
		{"the same with what uses it", corp + "\n" + web, `secret-providers: [{name: corp, vault: {address: "https://v.test:8200", mount: pki, pki_role: tls, token: t}}]` + "\n" + strings.Replace(web, "#pem", "", 1), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			if tt.before != "" {
				g.must(tt.before)
			}
			_, req := g.changes(tt.doc)
			req.Secrets = operator{}
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

func TestAProviderThatIsUsedStays(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(corp + "\n" + web)
	if _, vs := g.remove("secret-providers", "corp"); len(vs) != 1 || vs[0].Code != problem.Conflict || !strings.Contains(vs[0].Reason, "certificates/web") {
		t.Errorf("it may go: %v", vs)
	}
	r, _ := g.Get("secret-providers", "corp")
	shown := &configv1.SecretProvider{}
	admission.Output(shown, g, r)
	if len(shown.GetUsedBy()) != 1 || shown.GetUsedBy()[0] != "certificates/web" {
		t.Errorf("used by %v", shown.GetUsedBy())
	}
	a, vs := g.admit(admission.Request{Changes: []admission.Change{
		{Op: admission.OpDelete, Kind: "secret-providers", Name: "corp"}, {Op: admission.OpDelete, Kind: "certificates", Name: "web"},
	}})
	if len(vs) > 0 || len(a.Deletes) != 2 {
		t.Errorf("with what uses it: %v", vs)
	}
}

func TestAGroupHasABoundedNumberOfProviders(t *testing.T) {
	t.Parallel()
	doc := "secret-providers:\n"
	for n := range 64 {
		doc += fmt.Sprintf("  - {name: p%d, vault: {address: \"https://v.test\", mount: kv, token: t}}\n", n)
	}
	g := newGroup(t)
	g.must(doc)
	if _, vs := g.put("secret-providers", `{name: more, vault: {address: "https://v.test", mount: kv, token: t}}`, nil); len(vs) != 1 || !strings.Contains(vs[0].Reason, "it may have 64") {
		t.Errorf("one more: %v", vs)
	}
	if _, vs := g.put("secret-providers", `{name: p1, vault: {address: "https://w.test", mount: kv, token: t}}`, nil); len(vs) > 0 {
		t.Errorf("one of them: %v", vs)
	}
}

// TestProvidersComeBackAsTheyWere by a rollback, address and credentials together.
func TestProvidersComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(corp)
	then := proto.CloneOf(kept(t, g, "corp"))
	g.must(`secret-providers: [{name: corp, vault: {address: "https://w.test", mount: kv, token: second}}]`)
	a, vs := g.admit(admission.Request{Changes: []admission.Change{{Kind: "secret-providers", Name: "corp", Message: then, Restored: true}}})
	if len(vs) > 0 || len(a.Upserts) != 1 || !proto.Equal(a.Upserts[0].Message, then) {
		t.Errorf("%v %v", vs, a.Upserts)
	}
}

// TestItIsDecidedOfEachSecretWhetherItCanBeAReference fails when a field comes that nobody has thought of: what can be one has to
// be read by package secretsource, and what cannot has to be refused.
func TestItIsDecidedOfEachSecretWhetherItCanBeAReference(t *testing.T) {
	t.Parallel()
	const (
		resolved = "read by secretsource"
		refused  = "refused"
	)
	decided := map[protoreflect.FullName]string{
		"keyward.config.v1.CertificateVersion.private_key": resolved,
		"keyward.policy.v1.LdapSearch.bind_password":       resolved,
		"keyward.policy.v1.LdapSearch.bind_name":           resolved,
		"keyward.config.v1.RedisStore.password":            resolved,
		"keyward.config.v1.RedisSentinel.password":         resolved,
		"keyward.config.v1.CertificateVersion.passphrase":  refused, // used once
		"keyward.config.v1.VaultProvider.token":            refused, // what reads references is none
		"keyward.config.v1.AcmeExternalAccount.key":        refused,
		"keyward.credential.v1.HmacAuth.secret":            resolved,
		"keyward.config.v1.VaultAppRole.secret_id":         refused,
		"keyward.config.v1.AwsProvider.secret_access_key":  refused,
		"keyward.config.v1.AwsProvider.session_token":      refused,
		"keyward.credential.v1.JwtAuth.key":                resolved,
	}
	found := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		pkg := mt.Descriptor().FullName().Parent()
		if pkg != "keyward.config.v1" && pkg != "keyward.policy.v1" && pkg != "keyward.credential.v1" {
			return true
		}
		fields := mt.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if f.Message() == nil || f.Message().FullName() != "keyward.config.v1.Secret" || secret.StorageOf(f) != optionsv1.Storage_STORAGE_SEALED {
				continue
			}
			if found++; decided[f.FullName()] == "" {
				t.Errorf("%s: it is not decided whether it can be a reference", f.FullName())
			}
		}
		return true
	})
	if found < len(decided) {
		t.Errorf("%d fields of %d are there", found, len(decided))
	}
	g := newGroup(t)
	for name, doc := range map[string]string{
		"a token":             `{name: p, vault: {address: "https://v.test", mount: kv, token: "{vault://corp/x#y}"}}`,
		"a secret id":         `{name: p, vault: {address: "https://v.test", mount: kv, approle: {role_id: r, secret_id: "{vault://corp/x#y}"}}}`,
		"a secret access key": `{name: p, aws: {region: eu-central-1, access_key_id: A, secret_access_key: "{vault://corp/x#y}"}}`,
		"a session token":     `{name: p, aws: {region: eu-central-1, access_key_id: A, secret_access_key: x, session_token: "{vault://corp/x#y}"}}`,
	} {
		if _, vs := g.put("secret-providers", doc, nil); len(vs) != 1 || !strings.Contains(vs[0].Reason, "cannot be a reference") {
			t.Errorf("%s: %v", name, vs)
		}
	}
}
