package router_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/router"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// TestNeedsAreThoseOfTheHostsRoutes looks at what connections are asked for while routes come and go.
func TestNeedsAreThoseOfTheHostsRoutes(t *testing.T) {
	route := func(name, needs, path string, hosts ...string) *router.Route {
		r, err := router.Compile(name, &configv1.Route{
			Name: name, Hosts: hosts, Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: path}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.Needs = needs
		return r
	}
	alone, other := route("alone", "x", "/", "a.test", "b.test"), route("other", "x", "/other", "b.test")
	open, wild := route("open", "", "/open", "b.test"), route("wild", "y", "/", "*.w.test")
	edit := router.New().Edit()
	for _, r := range []*router.Route{alone, other, open, wild} {
		edit.Put(r)
	}
	full := edit.Table()
	edit = full.Edit()
	edit.Remove(open)
	edit.Remove(wild)
	part := edit.Table()
	type needs struct {
		keys   []string
		common bool
	}
	for _, tt := range []struct {
		name  string
		table *router.Table
		host  string
		want  needs
	}{
		{"its only route", full, "a.test", needs{[]string{"x"}, true}},
		{"a route without", full, "b.test", needs{[]string{"x"}, false}},
		{"a wildcard", full, "z.w.test", needs{[]string{"y"}, true}},
		{"a host of nobody", full, "c.test", needs{nil, false}},
		{"no name", full, "", needs{nil, false}},
		{"the route without is gone", part, "b.test", needs{[]string{"x"}, true}},
		{"the wildcard is gone", part, "z.w.test", needs{nil, false}},
	} {
		keys, common := tt.table.Needs([]byte(tt.host))
		if diff := cmp.Diff(tt.want, needs{keys, common}, cmp.AllowUnexported(needs{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a.test", "a.test", true},
		{"a.test", "b.test", false}, // there a route is open
		{"c.test", "d.test", true},
		{"c.test", "a.test", false},
		{"z.w.test", "y.w.test", true},
		{"z.w.test", "a.test", false},
	} {
		if got := full.SameNeeds([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("SameNeeds(%s, %s) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
		if n := testing.AllocsPerRun(10, func() { full.SameNeeds([]byte(tt.a), []byte(tt.b)) }); n > 0 {
			t.Errorf("SameNeeds(%s, %s) allocates %v times", tt.a, tt.b, n)
		}
	}
	if !part.SameNeeds([]byte("a.test"), []byte("b.test")) {
		t.Error("two hosts all of whose routes ask for the same differ")
	}
}
