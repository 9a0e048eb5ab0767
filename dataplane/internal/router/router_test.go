package router_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/router"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/match"
)

// world makes routes and requests from few words, so that they meet often.
type world struct{ *rand.Rand }

func pick[T any](w world, list ...T) T { return list[w.IntN(len(list))] }

func (w world) path() string {
	p := ""
	for range w.IntN(4) {
		p += pick(w, "/a", "/b", "/ab", "/a.b", "/", "/%2F")
	}
	if p == "" {
		return "/"
	}
	return p
}

func (w world) pathMatch() *configv1.PathMatch {
	switch w.IntN(6) {
	case 0, 1:
		return &configv1.PathMatch{Match: &configv1.PathMatch_Exact{Exact: w.path()}}
	case 2:
		return &configv1.PathMatch{Match: &configv1.PathMatch_Regex{Regex: pick(w, "/a.*", "^/a/b.*$", "/(a|b)/.*", "/b", "(?i)/A.*", ".*", "[")}}
	default:
		return &configv1.PathMatch{Match: &configv1.PathMatch_Prefix{Prefix: w.path()}}
	}
}

func (w world) condition() *configv1.FieldMatch {
	f := &configv1.FieldMatch{Name: pick(w, "x", "Y", "z z")}
	switch w.IntN(4) {
	case 0:
		f.Match = &configv1.FieldMatch_Exact{Exact: pick(w, "1", "2", "a b")}
	case 1:
		f.Match = &configv1.FieldMatch_Prefix{Prefix: pick(w, "1", "a")}
	case 2:
		f.Match = &configv1.FieldMatch_Regex{Regex: pick(w, "1|2", "a.*")}
	default:
		f.Match = &configv1.FieldMatch_Present{Present: w.IntN(2) == 0}
	}
	return f
}

func (w world) route(name string) *configv1.Route {
	r := &configv1.Route{Name: name, Priority: int32(w.IntN(3)), Fallthrough: w.IntN(3) == 0}
	for range w.IntN(3) {
		r.Hosts = append(r.Hosts, pick(w, "a.test", "B.test", "*.test", "*.a.test", "::1"))
	}
	for range w.IntN(3) {
		r.Paths = append(r.Paths, w.pathMatch())
	}
	for range w.IntN(6) - 3 {
		r.Methods = append(r.Methods, pick(w, "GET", "POST", "PUT"))
	}
	for range w.IntN(6) - 4 {
		r.Headers = append(r.Headers, w.condition())
	}
	for range w.IntN(6) - 4 {
		r.Query = append(r.Query, w.condition())
	}
	if w.IntN(6) == 0 {
		r.Enabled = new(bool)
	}
	return r
}

func (w world) request() match.Request {
	path, err := match.Path(w.path())
	if err != nil {
		path = "/"
	}
	r := match.Request{
		Host: pick(w, "a.test", "b.test", "c.test", "x.a.test", "::1", "other"), Path: path,
		Method: pick(w, "GET", "POST", "DELETE"),
		Query:  pick(w, "", "x=1", "x=2&Y=a+b", "z%20z=a%20b&x", "&&x=%"),
	}
	for range w.IntN(3) {
		r.Headers = append(r.Headers, match.Field{Name: pick(w, "X", "y", "z z"), Value: pick(w, "1", "2", "a b")})
	}
	return r
}

func convert(r match.Request) router.Request {
	out := router.Request{Host: []byte(r.Host), Path: []byte(r.Path), Method: []byte(r.Method), Query: []byte(r.Query)}
	for _, h := range r.Headers {
		out.Header.Add(exchange.Field(h.Name, h.Value))
	}
	return out
}

func put(e *router.Editor, uid string, r *configv1.Route) *router.Route {
	c, err := router.Compile(uid, r)
	if err != nil {
		e.Close(c, err.Error())
		return c
	}
	e.Put(c)
	return c
}

func remove(e *router.Editor, c *router.Route, r *configv1.Route) {
	if _, err := router.Compile(c.UID, r); err != nil {
		e.Reopen(c)
		return
	}
	e.Remove(c)
}

func same(t *testing.T, table *router.Table, routes []*configv1.Route, r match.Request) {
	t.Helper()
	want := match.Routes(routes, r)
	req := convert(r)
	got := table.Match(&req)
	name := ""
	if got.Route != nil {
		name = got.Route.Name
	}
	if got.Status != want.Status || name != want.Route.GetName() || got.Prefix != len(want.Prefix) || !slices.Equal(got.Allow(), want.Allow) {
		t.Fatalf("Match(%+v) = %d %q %d %v, want %d %q %d %v\nroutes %v\nsteps %v",
			r, got.Status, name, got.Prefix, got.Allow(), want.Status, want.Route.GetName(), len(want.Prefix), want.Allow, routes, want.Steps)
	}
}

// The router agrees with the naive matcher after every change of a random history.
func FuzzMatch(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, uint8(12))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		w := world{rand.New(rand.NewPCG(seed, 0))}
		table := router.New()
		var routes []*configv1.Route
		var compiled []*router.Route
		for step := range int(steps) {
			e := table.Edit()
			for range 1 + w.IntN(3) {
				if len(routes) > 0 && w.IntN(3) == 0 {
					i := w.IntN(len(routes))
					remove(e, compiled[i], routes[i])
					routes, compiled = slices.Delete(routes, i, i+1), slices.Delete(compiled, i, i+1)
					continue
				}
				r := w.route(fmt.Sprintf("r%d-%d", step, w.IntN(1000000)))
				routes, compiled = append(routes, r), append(compiled, put(e, "uid-"+r.GetName(), r))
			}
			table = e.Table()
			for range 10 {
				same(t, table, routes, w.request())
			}
		}
	})
}

// A table does not change when others are made from it.
func TestTablesAreIndependent(t *testing.T) {
	t.Parallel()
	w := world{rand.New(rand.NewPCG(7, 7))}
	type version struct {
		table  *router.Table
		routes []*configv1.Route
	}
	var versions []version
	v := version{table: router.New()}
	compiled := map[string]*router.Route{}
	for i := range 60 {
		e := v.table.Edit()
		v.routes = slices.Clone(v.routes)
		if len(v.routes) > 5 && i%2 == 0 {
			r := v.routes[0]
			remove(e, compiled[r.GetName()], r)
			v.routes = v.routes[1:]
		}
		r := w.route(fmt.Sprintf("r%d", i))
		compiled[r.GetName()] = put(e, "uid-"+r.GetName(), r)
		v.routes = append(v.routes, r)
		v.table = e.Table()
		versions = append(versions, v)
	}
	for _, v := range versions {
		for range 100 {
			same(t, v.table, v.routes, w.request())
		}
	}
}

func TestCloseAll(t *testing.T) {
	t.Parallel()
	e := router.New().Edit()
	put(e, "u1", &configv1.Route{Name: "r"})
	e.CloseAll(&router.Closing{UID: "u2", Name: "lost", Reason: "unreadable"})
	closed := e.Table()
	req := router.Request{Host: []byte("a"), Path: []byte("/"), Method: []byte("GET")}
	if got := closed.Match(&req); got.Status != router.Closed || got.By.Name != "lost" {
		t.Errorf("Match() = %+v, want closed by lost", got)
	}
	e = closed.Edit()
	e.ReopenAll("u2")
	if got := e.Table().Match(&req); got.Status != router.Found {
		t.Errorf("Match() after ReopenAll = %+v, want found", got)
	}
	if got := closed.Match(&req); got.Status != router.Closed {
		t.Errorf("the old table opened: %+v", got)
	}
}

func TestUnknownHostIsAHostError(t *testing.T) {
	t.Parallel()
	_, err := router.Compile("u", &configv1.Route{Hosts: []string{"a b"}})
	if _, ok := errors.AsType[*router.HostError](err); !ok {
		t.Errorf("Compile() = %v, want a HostError", err)
	}
	want := "host \"a b\": " + match.ErrHost.Error()
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// big makes n routes in the mix of a large installation: hosts with a few paths each, and one host with very many.
func big(n int) (*router.Table, []router.Request) {
	e := router.New().Edit()
	var requests []router.Request
	for i := range n {
		r := &configv1.Route{Name: fmt.Sprintf("r%d", i)}
		host, path := fmt.Sprintf("h%d.test", i/8), fmt.Sprintf("/v1/orders%d", i%8)
		if i%2 == 0 {
			host, path = "api.test", fmt.Sprintf("/v1/customers/c%d", i)
		}
		r.Hosts = []string{host}
		r.Paths = []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: path}}}
		c, err := router.Compile(r.GetName(), r)
		if err != nil {
			panic(err)
		}
		e.Put(c)
		requests = append(requests, router.Request{Host: []byte(host), Path: []byte(path + "/items/42"), Method: []byte("GET")})
	}
	return e.Table(), requests
}

func TestHitDoesNotAllocate(t *testing.T) {
	table, requests := big(1000)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		if res := table.Match(&requests[i%len(requests)]); res.Status != router.Found {
			t.Errorf("Match(%s%s) = %d", requests[i].Host, requests[i].Path, res.Status)
		}
		i++
	}); n != 0 {
		t.Errorf("Match makes %v allocations, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, requests := big(n)
			rng := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				if table.Match(&requests[rng.IntN(n)]).Status != router.Found {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkEdit(b *testing.B) {
	for _, n := range []int{1000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, _ := big(n)
			doc := &configv1.Route{Name: "new", Hosts: []string{"api.test"}, Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/v1/new"}}}}
			b.ReportAllocs()
			for b.Loop() {
				c, _ := router.Compile("new", doc)
				e := table.Edit()
				e.Put(c)
				_ = e.Table()
			}
		})
	}
}
