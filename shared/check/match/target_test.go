package match_test

import (
	"errors"
	"strings"
	"testing"

	"keyward.dev/shared/check/match"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, raw          string
		strict, permissive string // normalised path; "" means refused
		query              string
	}{
		{name: "root", raw: "/", strict: "/", permissive: "/"},
		{name: "plain", raw: "/a/b", strict: "/a/b", permissive: "/a/b"},
		{name: "query stays as it is", raw: "/a?x=%2F;..//", strict: "/a", permissive: "/a", query: "x=%2F;..//"},
		{name: "second question mark", raw: "/a?b?c", strict: "/a", permissive: "/a", query: "b?c"},
		{name: "trailing slash", raw: "/a/", strict: "/a/", permissive: "/a/"},
		{name: "unreserved decoded", raw: "/%41%7eb%2d", strict: "/A~b-", permissive: "/A~b-"},
		{name: "reserved keeps its escape", raw: "/a%3ab%c3%a9", strict: "/a%3Ab%C3%A9", permissive: "/a%3Ab%C3%A9"},
		{name: "decoded once only", raw: "/%252e%252e/a", strict: "/%252e%252e/a", permissive: "/%252e%252e/a"},
		{name: "not a pchar", raw: `/a"<>|b`, strict: "/a%22%3C%3E%7Cb", permissive: "/a%22%3C%3E%7Cb"},
		{name: "dot", raw: "/a/./b", strict: "/a/b", permissive: "/a/b"},
		{name: "dot at the end", raw: "/a/.", strict: "/a/", permissive: "/a/"},
		{name: "dots", raw: "/a/b/../c", strict: "/a/c", permissive: "/a/c"},
		{name: "dots at the end", raw: "/a/..", strict: "/", permissive: "/"},
		{name: "dots to the root and on", raw: "/a/../b", strict: "/b", permissive: "/b"},
		{name: "three dots", raw: "/a/.../b", strict: "/a/.../b", permissive: "/a/.../b"},
		{name: "hidden file", raw: "/.well-known/x", strict: "/.well-known/x", permissive: "/.well-known/x"},
		{name: "above root", raw: "/.."},
		{name: "above root later", raw: "/a/../../b"},
		{name: "encoded dots", raw: "/a/%2e%2E/b", permissive: "/a/%2E%2E/b"},
		{name: "half encoded dots", raw: "/a/.%2e/b", permissive: "/a/%2E%2E/b"},
		{name: "encoded dot", raw: "/a/%2e", permissive: "/a/%2E"},
		{name: "encoded dot inside a name", raw: "/a%2eb", strict: "/a.b", permissive: "/a.b"},
		{name: "encoded slash", raw: "/a%2fb", permissive: "/a%2Fb"},
		{name: "encoded backslash", raw: "/a%5cb", permissive: "/a%5Cb"},
		{name: "encoded NUL", raw: "/a%00", permissive: "/a%00"},
		{name: "backslash", raw: `/a\b`, permissive: "/a%5Cb"},
		{name: "empty segment", raw: "/a//b", permissive: "/a//b"},
		{name: "empty first segment", raw: "//evil.test/a", permissive: "//evil.test/a"},
		{name: "empty segment at the end", raw: "/a//", permissive: "/a//"},
		{name: "parameter", raw: "/a;x=1/b", permissive: "/a;x=1/b"},
		{name: "encoded semicolon is data", raw: "/a%3bx", strict: "/a%3Bx", permissive: "/a%3Bx"},
		{name: "empty", raw: ""},
		{name: "only a query", raw: "?a"},
		{name: "no slash", raw: "a/b"},
		{name: "asterisk", raw: "*"},
		{name: "fragment", raw: "/a#b"},
		{name: "fragment in the query", raw: "/a?b#c"},
		{name: "space", raw: "/a b"},
		{name: "control", raw: "/a\x01"},
		{name: "DEL", raw: "/a\x7f"},
		{name: "non-ASCII", raw: "/é"},
		{name: "non-ASCII query", raw: "/a?é"},
		{name: "cut escape", raw: "/a%4"},
		{name: "broken escape", raw: "/a%zz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, strict := range []bool{true, false} {
				want := tt.permissive
				if strict {
					want = tt.strict
				}
				path, query, err := match.Target(nil, []byte(tt.raw), strict)
				if (err != nil) != (want == "") || string(path) != want {
					t.Errorf("Target(%q, strict=%v) = %q, %v, want %q", tt.raw, strict, path, err, want)
				}
				if err == nil && string(query) != tt.query {
					t.Errorf("Target(%q) query = %q, want %q", tt.raw, query, tt.query)
				}
			}
		})
	}
}

func TestTargetDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 256)
	for _, raw := range []string{"/v1/transfers/42?x=1", "/a/%41/../b"} {
		target := []byte(raw)
		if n := testing.AllocsPerRun(100, func() { _, _, _ = match.Target(buf, target, true) }); n != 0 {
			t.Errorf("Target(%q) makes %v allocations, want 0", raw, n)
		}
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	tests := []struct{ raw, want string }{
		{"api.test", "api.test"},
		{"API.Test", "api.test"},
		{"api.test:8080", "api.test"},
		{"api.test.", "api.test"},
		{"API.test.:443", "api.test"},
		{"api.test:", "api.test"},
		{"xn--bcher-kva.test", "xn--bcher-kva.test"},
		{"_dmarc.a_b.test", "_dmarc.a_b.test"},
		{"10.0.0.1:80", "10.0.0.1"},
		{"[::1]", "::1"},
		{"[2001:DB8:0::1]:8443", "2001:db8::1"},
		{"", ""},
		{".", ""},
		{"a..b", ""},
		{".a", ""},
		{"a b", ""},
		{"bücher.test", ""},
		{"api.test:0", ""},
		{"api.test:65536", ""},
		{"api.test:8x", ""},
		{"a:b:c", ""},
		{"[::1", ""},
		{"[::1]x", ""},
		{"[fe80::1%25eth0]", ""},
		{"[1.2.3.4]", ""},
		{"user@api.test", ""},
		{"*.test", ""},
		{strings.Repeat("a", 64) + ".test", ""},
		{strings.Repeat("a.", 127) + "b", ""},
	}
	for _, tt := range tests {
		got, err := match.Host(nil, []byte(tt.raw))
		if string(got) != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("Host(%q) = %q, %v, want %q", tt.raw, got, err, tt.want)
		}
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"API.test", "api.test"},
		{"*.Api.test", "*.api.test"},
		{"::1", "::1"},
		{"[2001:DB8::1]", "2001:db8::1"},
		{"api.test:80", ""},
		{"*.*.test", ""},
		{"a.*.test", ""},
		{"*", ""},
		{"*.[::1]", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := match.Pattern(tt.in)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("Pattern(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

// What is normal stays as it is, is what documents' paths become too, and strict refuses or agrees.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/a", "/a//b;c", `/\%5c%00`, "/a/%41?x=%zz", "/..//.."} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path, query, err := match.Target(nil, raw, false)
		if err != nil {
			if _, _, err := match.Target(nil, raw, true); err == nil {
				t.Fatalf("Target(%q) is refused when permissive, not when strict", raw)
			}
			return
		}
		again, _, err := match.Target(nil, append(append([]byte{}, path...), "?"+string(query)...), false)
		if err != nil || string(again) != string(path) {
			t.Fatalf("Target(%q) = %q, and again %q, %v", raw, path, again, err)
		}
		if doc, err := match.Path(string(path)); err != nil || doc != string(path) {
			t.Fatalf("Path(%q) = %q, %v", path, doc, err)
		}
		strict, _, err := match.Target(nil, raw, true)
		if err == nil && string(strict) != string(path) {
			t.Fatalf("Target(%q) = %q strict, %q permissive", raw, strict, path)
		}
		if err == nil && (strings.Contains(string(strict), "//") || strings.Contains(string(strict)+"/", "/../")) {
			t.Fatalf("Target(%q) = %q strict", raw, strict)
		}
	})
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"a.test:80", "A.", "[::1]:1", "10.0.0.1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		host, err := match.Host(nil, raw)
		if err != nil {
			if !errors.Is(err, match.ErrHost) {
				t.Fatalf("Host(%q): %v", raw, err)
			}
			return
		}
		if p, err := match.Pattern(string(host)); err != nil || p != string(host) {
			t.Fatalf("Pattern(%q) = %q, %v, for Host(%q)", host, p, err, raw)
		}
	})
}
