package secret_test

import (
	"strings"
	"testing"

	"keyward.dev/shared/secret"
)

func TestReferencesAreReadAndWritten(t *testing.T) {
	t.Parallel()
	good := map[string]secret.Reference{
		"{vault://corp/kv/web/tls#pem}": {Scheme: "vault", Provider: "corp", Path: "kv/web/tls", Field: "pem"},
		"{file://mounted/web/tls.pem}":  {Scheme: "file", Provider: "mounted", Path: "web/tls.pem"},
		"{env://pod/WEB_TLS}":           {Scheme: "env", Provider: "pod", Path: "WEB_TLS"},
		"{file://mounted//etc/passwd}":  {Scheme: "file", Provider: "mounted", Path: "/etc/passwd"}, // its form is fine
	}
	for text, want := range good {
		got, ok := secret.ParseReference(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("ParseReference(%q) = %+v, %v; written again %q", text, got, ok, got)
		}
	}
	for _, text := range []string{
		"", "{}", "x", "{vault}", "{vault://corp}", "{vault://corp/}", "{vault:///kv/x}", "{Vault://corp/x}", "{vault://corp/x#}",
		"{vault://corp/x#a#b}", "{vault://corp/x y}", "{vault://corp/x}\n", " {vault://corp/x}", "{vault://corp/{x}}",
		"{vault://corp/x\x00}", "{vault://-corp/x}", "{vault://u:p@corp/x}", "{vault://corp/" + strings.Repeat("x", secret.MaxReference) + "}",
	} {
		if got, ok := secret.ParseReference(text); ok {
			t.Errorf("ParseReference(%q) = %+v, want it refused", text, got)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("{vault://corp/kv/web#pem}")
	f.Add("{file://a/../b}")
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := secret.ParseReference(text); ok && r.String() != text {
			t.Errorf("%q is read as %q", text, r)
		}
	})
}

func TestMayRefer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"{vault://a/b}": true, "x{env://a/b}": true, "http://a": false, "{": false, "": false, "{ http://a": false,
		"http://a {file://b/c}": true, "{a/b://": false,
	} {
		if got := secret.MayRefer([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
