package match_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/match"
)

func prefix(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Prefix{Prefix: p}}
}

func exact(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Exact{Exact: p}}
}

func regex(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Regex{Regex: p}}
}

func off() *bool { return new(bool) }

func header(name, value string) *configv1.FieldMatch {
	return &configv1.FieldMatch{Name: name, Match: &configv1.FieldMatch_Exact{Exact: value}}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	type routes = []*configv1.Route
	one := func(p ...*configv1.PathMatch) []*configv1.PathMatch { return p }
	tests := []struct {
		name   string
		routes routes
		req    match.Request
		status int
		route  string
		allow  []string
	}{
		{name: "nothing", req: match.Request{Host: "a.test", Path: "/"}, status: 404},
		{
			name:   "exact host is final",
			routes: routes{{Name: "exact", Hosts: []string{"a.test"}, Paths: one(prefix("/x"))}, {Name: "wild", Hosts: []string{"*.test"}}, {Name: "none"}},
			req:    match.Request{Host: "a.test", Path: "/y"}, status: 404,
		},
		{
			name:   "one level below the parent",
			routes: routes{{Name: "wild", Hosts: []string{"*.test"}}, {Name: "none"}},
			req:    match.Request{Host: "b.test", Path: "/y"}, status: 200, route: "wild",
		},
		{
			name:   "two levels below the parent",
			routes: routes{{Name: "wild", Hosts: []string{"*.test"}}, {Name: "none"}},
			req:    match.Request{Host: "c.b.test", Path: "/y"}, status: 200, route: "none",
		},
		{
			name:   "exact before regex before prefix",
			routes: routes{{Name: "p", Paths: one(prefix("/a/b"))}, {Name: "r", Paths: one(regex("/a/.*"))}, {Name: "e", Paths: one(exact("/a/b"))}},
			req:    match.Request{Host: "h", Path: "/a/b"}, status: 200, route: "e",
		},
		{
			name:   "regex before a longer prefix",
			routes: routes{{Name: "p", Paths: one(prefix("/a/b/c"))}, {Name: "r", Paths: one(regex("/a/.*"))}},
			req:    match.Request{Host: "h", Path: "/a/b/c"}, status: 200, route: "r",
		},
		{
			name:   "regex by priority",
			routes: routes{{Name: "r1", Paths: one(regex("/a/b/.*"))}, {Name: "r2", Paths: one(regex("/a.*")), Priority: 1}},
			req:    match.Request{Host: "h", Path: "/a/b/c"}, status: 200, route: "r2",
		},
		{
			name:   "regex by literal prefix",
			routes: routes{{Name: "r1", Paths: one(regex("/a.*"))}, {Name: "r2", Paths: one(regex("^/a/b/.*"))}},
			req:    match.Request{Host: "h", Path: "/a/b/c"}, status: 200, route: "r2",
		},
		{
			name:   "regex is anchored",
			routes: routes{{Name: "r", Paths: one(regex("/a|/b"))}},
			req:    match.Request{Host: "h", Path: "/b/c"}, status: 404,
		},
		{
			name:   "longest prefix on segment boundaries",
			routes: routes{{Name: "root", Paths: one(prefix("/"))}, {Name: "a", Paths: one(prefix("/a"))}, {Name: "ab", Paths: one(prefix("/ab"))}},
			req:    match.Request{Host: "h", Path: "/abc"}, status: 200, route: "root",
		},
		{
			name:   "the winning path owns the request: method",
			routes: routes{{Name: "root"}, {Name: "a", Paths: one(prefix("/a")), Methods: []string{"PUT", "GET"}}},
			req:    match.Request{Host: "h", Path: "/a/x", Method: "POST"}, status: 405, allow: []string{"GET", "PUT"},
		},
		{
			name:   "the winning path owns the request: header",
			routes: routes{{Name: "root"}, {Name: "a", Paths: one(prefix("/a")), Headers: []*configv1.FieldMatch{header("X-V", "1")}}},
			req:    match.Request{Host: "h", Path: "/a/x", Headers: []match.Field{{Name: "x-v", Value: "2"}}}, status: 404,
		},
		{
			name:   "fall-through is opt-in",
			routes: routes{{Name: "root"}, {Name: "a", Paths: one(prefix("/a")), Methods: []string{"GET"}, Fallthrough: true}},
			req:    match.Request{Host: "h", Path: "/a/x", Method: "POST"}, status: 200, route: "root",
		},
		{
			name: "fall-through needs all routes of the path",
			routes: routes{
				{Name: "root"},
				{Name: "a", Paths: one(prefix("/a")), Methods: []string{"GET"}, Fallthrough: true},
				{Name: "b", Paths: one(prefix("/a")), Methods: []string{"PUT"}},
			},
			req: match.Request{Host: "h", Path: "/a/x", Method: "POST"}, status: 405, allow: []string{"GET", "PUT"},
		},
		{
			name: "more conditions first",
			routes: routes{
				{Name: "a", Priority: 9},
				{Name: "b", Headers: []*configv1.FieldMatch{header("X-V", "1")}},
			},
			req: match.Request{Host: "h", Path: "/", Headers: []match.Field{{Name: "x-v", Value: "0"}, {Name: "x-v", Value: "1"}}}, status: 200, route: "b",
		},
		{
			name:   "then priority, then name",
			routes: routes{{Name: "c"}, {Name: "b", Priority: 1}, {Name: "a", Priority: 1}},
			req:    match.Request{Host: "h", Path: "/"}, status: 200, route: "a",
		},
		{
			name:   "switched off keeps its place",
			routes: routes{{Name: "root"}, {Name: "a", Paths: one(prefix("/a")), Enabled: off()}},
			req:    match.Request{Host: "h", Path: "/a/x"}, status: 404,
		},
		{
			name:   "switched off is not in Allow",
			routes: routes{{Name: "a", Methods: []string{"GET"}, Enabled: off()}},
			req:    match.Request{Host: "h", Path: "/a/x", Method: "PUT"}, status: 404,
		},
		{
			name:   "a regex that does not compile closes its host",
			routes: routes{{Name: "root", Hosts: []string{"h"}}, {Name: "a", Hosts: []string{"h"}, Paths: one(regex("("))}},
			req:    match.Request{Host: "h", Path: "/"}, status: 503,
		},
		{
			name:   "and no other",
			routes: routes{{Name: "root"}, {Name: "a", Hosts: []string{"h"}, Paths: one(regex("("))}},
			req:    match.Request{Host: "i", Path: "/"}, status: 200, route: "root",
		},
		{
			name:   "query",
			routes: routes{{Name: "a", Query: []*configv1.FieldMatch{header("a b", "é")}}},
			req:    match.Request{Host: "i", Path: "/", Query: "x&a+b=1&a%20b=%c3%a9"}, status: 200, route: "a",
		},
		{
			name:   "absent",
			routes: routes{{Name: "a", Headers: []*configv1.FieldMatch{{Name: "x", Match: &configv1.FieldMatch_Present{}}}}},
			req:    match.Request{Host: "i", Path: "/"}, status: 200, route: "a",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := match.Routes(tt.routes, tt.req)
			if got.Status != tt.status || got.Route.GetName() != tt.route {
				t.Errorf("Routes() = %d %q, want %d %q\n%v", got.Status, got.Route.GetName(), tt.status, tt.route, got.Steps)
			}
			if diff := cmp.Diff(tt.allow, got.Allow); diff != "" {
				t.Errorf("Allow (-want +got):\n%s", diff)
			}
		})
	}
}
