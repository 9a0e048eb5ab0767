package secret_test

import (
	"strings"
	"testing"

	"keyward.dev/shared/secret"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]secret.Path{
		"/a": {Name: "/a"}, "/etc/tls/web.pem": {Name: "/etc/tls/web.pem"}, "gateway:/etc/a b": {Name: "/etc/a b", Gateway: true},
		"": {}, "/": {}, "a": {}, "gateway:": {}, "gateway:a": {}, "gateway:/": {}, "gateway://a": {}, "//a": {}, "/a/": {}, "/a/../b": {},
		"/..": {}, "/a/./b": {}, "/a//b": {}, "/a\x00b": {}, "/a\nb": {}, `/a\..\b`: {}, "GATEWAY:/a": {}, "gateway:gateway:/a": {},
		"/" + strings.Repeat("a", secret.MaxReference): {}, "{file://x/a}": {},
	} {
		got, ok := secret.ParsePath(text)
		if ok != (want != secret.Path{}) || ok && got != want {
			t.Errorf("ParsePath(%q) = %v, %v, want %v", text, got, ok, want)
		}
		if ok && !secret.LooksLikePath(text) {
			t.Errorf("%q does not look like a path", text)
		}
	}
	for text, want := range map[string]bool{"/../a": true, "gateway:a": true, "-----BEGIN": false, "/a\n-----BEGIN": false, "{file://x/a}": false, "": false} {
		if got := secret.LooksLikePath(text); got != want {
			t.Errorf("LooksLikePath(%q) = %v", text, got)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("gateway:/etc/tls/../x")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := secret.ParsePath(text)
		if !ok {
			return
		}
		if again := p.Name; strings.Contains(again+"/", "/../") || strings.Contains(again, "//") || !strings.HasPrefix(again, "/") {
			t.Errorf("%q is taken as %q", text, again)
		}
		if r, isReference := secret.ParseReference(text); isReference {
			t.Errorf("%q is a reference too: %v", text, r)
		}
	})
}
