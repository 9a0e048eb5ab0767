package conformance_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// pathRule is what becomes of a target: what the upstream gets under each path policy, or nothing where it is refused.
type pathRule struct {
	rule, target       string
	strict, permissive string
	unlike             []string // peers that refuse it whoever sends it
}

func pathRules() []pathRule {
	nginx := []string{"nginx"}
	return []pathRule{
		{"what is normal stays as it is", "/a/b-c._~", "/a/b-c._~", "/a/b-c._~", nil},
		{"a slash at the end stays", "/a/", "/a/", "/a/", nil},
		{"signs stay", "/a!$&'()*+,=:@", "/a!$&'()*+,=:@", "/a!$&'()*+,=:@", nil},
		{"unreserved is decoded", "/%61%2D%62%5F%7E%7a%39", "/a-b_~z9", "/a-b_~z9", nil},
		{"a dot within a name is decoded", "/a%2Eb", "/a.b", "/a.b", nil},
		{"other escapes stay, in capitals", "/%c3%a9%20%21%3a%40", "/%C3%A9%20%21%3A%40", "/%C3%A9%20%21%3A%40", nil},
		{"an escaped escape is not looked into", "/%252e%252e/%252F", "/%252e%252e/%252F", "/%252e%252e/%252F", nil},
		{"escaped delimiters of a target stay", "/a%3Fb%23c", "/a%3Fb%23c", "/a%3Fb%23c", nil},
		{"what may not stand in a path is escaped", "/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db", "/a%22%3C%3E%5E%60%7B%7C%7Db", nil},
		{"dot segments are resolved", "/a/./b/../c", "/a/c", "/a/c", nil},
		{"dot segments at the end are resolved", "/a/b/..", "/a/", "/a/", nil},
		{"a dot at the end is resolved", "/a/.", "/a/", "/a/", nil},
		{"up to the root and no further", "/a/../", "/", "/", nil},
		{"above the root", "/..", "", "", nil},
		{"above the root and down again", "/a/../../b", "", "", nil},
		{"three dots are a name", "/a/.../b", "/a/.../b", "/a/.../b", nil},
		{"dots around a name are a name", "/..a/b..", "/..a/b..", "/..a/b..", nil},
		{"three escaped dots are a name", "/a/%2e%2e%2e/b", "/a/.../b", "/a/.../b", nil},
		{"escaped dots that change segments", "/a/%2e%2e/b", "", "/a/%2E%2E/b", nil},
		{"half escaped dots that change segments", "/a/.%2E/b", "", "/a/%2E%2E/b", nil},
		{"an escaped dot that changes segments", "/a/%2e/b", "", "/a/%2E/b", nil},
		{"escaped dots at the end", "/a/b/%2e%2e", "", "/a/b/%2E%2E", nil},
		{"an empty segment", "/a//b", "", "/a//b", nil},
		{"an empty segment first", "//a", "", "//a", nil},
		{"an empty segment last", "/a//", "", "/a//", nil},
		{"an empty segment behind dots", "/a/..//b", "", "//b", nil},
		{"an escaped slash", "/a%2Fb", "", "/a%2Fb", nil},
		{"an escaped slash in small letters", "/a%2fb", "", "/a%2Fb", nil},
		{"an escaped backslash", "/a%5Cb", "", "/a%5Cb", nil},
		{"a backslash", `/a\b`, "", "/a%5Cb", nil},
		{"an escaped NUL", "/a%00b", "", "/a%00b", nginx},
		{"a parameter", "/a;x=1/b", "", "/a;x=1/b", nil},
		{"a parameter behind dots", "/a/..;/b", "", "/a/..;/b", nil},
		{"a lone semicolon", "/a/;", "", "/a/;", nil},
		{"an escaped semicolon is a letter", "/a%3Bb", "/a%3Bb", "/a%3Bb", nil},
		{"a broken escape", "/a%4", "", "", nil},
		{"an escape that is none", "/a%zzb", "", "", nil},
		{"a query is not looked into", "/a?x=/../%2e;y//%2F\\", "/a?x=/../%2e;y//%2F\\", "/a?x=/../%2e;y//%2F\\", nil},
		{"a query behind dots", "/a/../b?x=/../y", "/b?x=/../y", "/b?x=/../y", nil},
	}
}

// hostRules is which hosts reach the route of d.test.
func hostRules() []struct {
	rule, host string
	status     int
} {
	return []struct {
		rule, host string
		status     int
	}{
		{"a host", "d.test", 200},
		{"case does not matter", "D.Test", 200},
		{"a port does not matter", "d.test:8080", 200},
		{"a dot at the end does not matter", "d.test.", 200},
		{"all of them", "D.TEST.:443", 200},
		{"two dots at the end", "d.test..", 400},
		{"an empty label", "d..test", 400},
		{"another host", "dd.test", 404},
		{"an A-label", "xn--d-xga.test", 404},
		{"a U-label", "d\xc3\xbc.test", 400},
	}
}

// strictPaths and permissivePaths are the rules for targets, with upstreams of different make.
func strictPaths(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	return paths(t, s, func(r pathRule) string { return r.strict }, sameReading)
}

func permissivePaths(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	return paths(t, s, func(r pathRule) string { return r.permissive }, func(harness.Seen) error { return nil })
}

func paths(t *testing.T, s *site, want func(pathRule) string, also func(harness.Seen) error) func(t *testing.T) {
	t.Helper()
	peers := present(harness.GoPeer(t), harness.NginxPeer(t), harness.HAProxyPeer(t))
	names := []string{"d", "e", "f"}
	for i, p := range peers {
		s.serve(names[i], p.Addr, "", "")
	}
	return func(t *testing.T) {
		for i, p := range peers {
			t.Run(p.Name, func(t *testing.T) {
				t.Parallel()
				b := &bench{addr: s.HTTP, host: names[i] + ".test", take: p.Take}
				for _, r := range pathRules() {
					if err := b.path(r, want(r), slices.Contains(r.unlike, p.Name), also); err != nil {
						t.Errorf("%s: GET %s: %v", r.rule, r.target, err)
					}
				}
				if p.Name == "go" {
					hosts(t, b)
				}
			})
		}
	}
}

// hosts holds which hosts are the one of the bench.
func hosts(t *testing.T, b *bench) {
	t.Helper()
	for _, r := range hostRules() {
		o, err := b.run(trial{send: "GET /a HTTP/1.1\r\nHost: " + r.host + "\r\n\r\n"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(answered(r.status)(o), o.after); err != nil {
			t.Errorf("%s: Host: %s: %v", r.rule, r.host, err)
		}
	}
}

// path holds what becomes of a target.
func (b *bench) path(r pathRule, want string, unlike bool, also func(harness.Seen) error) error {
	o, err := b.run(trial{send: head("GET "+r.target+" HTTP/1.1", "")})
	switch {
	case err != nil:
		return err
	case want == "":
		return errors.Join(answered(400)(o), times(0)(o), o.after)
	case unlike:
		return errors.Join(times(0)(o), o.after)
	}
	if err := errors.Join(passes(fmt.Sprintf("GET %s %q", want, ""))(o), o.after); err != nil {
		return err
	}
	return also(o.seen[0])
}

// sameReading is that the upstream reads in the path what was matched: decoding it changes no segment.
func sameReading(s harness.Seen) error {
	matched, _, _ := strings.Cut(s.Target(), "?")
	decoded, err := url.PathUnescape(matched)
	if err != nil {
		return err
	}
	if got := s.Get("Path"); got != decoded || strings.Count(got, "/") != strings.Count(matched, "/") {
		return fmt.Errorf("the upstream reads %q in %q", got, matched)
	}
	return nil
}
