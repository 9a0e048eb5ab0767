package secretplace_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"

	"keyward.dev/controlplane/internal/secretplace"
	"keyward.dev/shared/secret"
)

var (
	kv     = &configv1.SecretProvider{Vault: &configv1.VaultProvider{Mount: "kv", Prefix: "team"}}
	pki    = &configv1.SecretProvider{Vault: &configv1.VaultProvider{Mount: "pki", PkiRole: "web"}}
	amazon = &configv1.SecretProvider{Aws: &configv1.AwsProvider{Prefix: "team/"}}
)

func TestReferencesNameWhatTheProviderGives(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		provider  *configv1.SecretProvider
		reference string
		want      string // of the reason; empty: taken
	}{
		{kv, "{vault://p/a/b#pem}", ""},
		{kv, "{vault://p/a}", "needs a #field"},
		{kv, "{vault://p/../a#pem}", "leads out"},
		{kv, "{vault://p/a/../../b#pem}", "leads out"},
		{kv, "{vault://p//a#pem}", "leads out"},
		{kv, "{vault://p/a%2f..%2fb#pem}", "characters"},
		{kv, "{vault://p/a?version=1#pem}", "characters"},
		{kv, "{aws://p/a#pem}", "unknown provider"},
		{pki, "{vault://p/web}", ""},
		{pki, "{vault://p/admin}", "not the role"},
		{pki, "{vault://p/web#pem}", "issued whole"},
		{amazon, "{aws://p/team/web#pem}", ""},
		{amazon, "{aws://p/team/web}", ""},
		{amazon, "{aws://p/web}", "begin with team/"},
		{amazon, "{aws://p/arn:aws:secretsmanager:eu-central-1:123456789012:secret:team/web-AbCdEf}", "begin with team/"},
		{amazon, "{aws://p/team/a,b}", "is not the name"},
		{amazon, "{vault://p/team/web#pem}", "unknown provider"},
		{&configv1.SecretProvider{}, "{vault://p/a#pem}", "unknown provider"},
	} {
		r, ok := secret.ParseReference(tt.reference)
		if !ok {
			t.Fatalf("%s is no reference", tt.reference)
		}
		if got := secretplace.Check(tt.provider, r); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.reference, got, tt.want)
		}
	}
}

// FuzzPathsStayBelowTheMount holds that what is taken is asked for below the mount and the prefix, however a server reads URLs.
func FuzzPathsStayBelowTheMount(f *testing.F) {
	for _, seed := range []string{"{vault://p/a#b}", "{vault://p/a/../b#c}", "{vault://p/a%2e%2e/b#c}", `{vault://p/a\..\b#c}`, "{aws://p/team/../x}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := secret.ParseReference(text)
		if !ok {
			return
		}
		if secretplace.Check(kv, r) == "" {
			whole := "/v1/kv/data/team/" + r.Path
			u, err := url.Parse("https://vault.test" + whole)
			if err != nil || u.Path != whole || u.RawQuery != "" || u.Fragment != "" || path.Clean(u.Path) != whole {
				t.Errorf("%q leads to %q", text, whole)
			}
		}
		if secretplace.Check(amazon, r) == "" && !strings.HasPrefix(r.Path, "team/") {
			t.Errorf("%q leads to %q", text, r.Path)
		}
	})
}
