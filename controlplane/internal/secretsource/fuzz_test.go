package secretsource_test

import (
	"path/filepath"
	"strings"
	"testing"

	"keyward.dev/controlplane/internal/secretsource"
	"keyward.dev/shared/secret"
)

// FuzzReferencesStayBelowTheirRoots holds that no path that is taken names anything outside.
func FuzzReferencesStayBelowTheirRoots(f *testing.F) {
	providers, err := secretsource.Open([]string{"files=file:/srv/tls?groups=g", "pod=env:WEB_?groups=g"}, func(string) (string, bool) { return "", false })
	if err != nil {
		f.Fatal(err)
	}
	check := providers.For("g")
	for _, seed := range []string{"{file://files/a/b.pem}", "{file://files/../b}", "{env://pod/WEB_TLS}", "{env://pod/KEYWARD_KEK}", "{file://files/a/..}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := secret.ParseReference(text)
		if !ok || check.Check(r) != "" {
			return
		}
		if path := filepath.Join("/srv/tls", r.Path); r.Scheme == "file" && !strings.HasPrefix(path, "/srv/tls/") {
			t.Errorf("%q leads to %s", text, path)
		}
		if r.Scheme == "env" && !strings.HasPrefix(r.Path, "WEB_") {
			t.Errorf("%q is the variable %s", text, r.Path)
		}
	})
}

// FuzzSettings holds that whatever is taken is for somebody, and that nothing panics.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{
		"a=file:/srv/tls?groups=g", "a=env:WEB_?groups=g&refresh=5s", "a=vault:https://v.test/kv?groups=g&token-env=T&kv=1&prefix=x", "a=file:/?groups=g",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := secretsource.Parse(text, func(string) (string, bool) { return "x", true }); err == nil && !strings.Contains(text, "groups=") {
			t.Errorf("%q is for nobody, and taken", text)
		}
	})
}
