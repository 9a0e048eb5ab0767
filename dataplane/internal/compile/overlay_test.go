package compile_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func principal(rt *runtime.Runtime, name string) *exchange.Principal {
	return rt.Directory.Consumer(exchange.ConsumerByName, []byte(name))
}

func routeNamed(rt *runtime.Runtime, name string) *runtime.Route {
	for _, r := range rt.Routes.All() {
		if r.Info.Name == name {
			return r
		}
	}
	return nil
}

// Consumers to whom the same applies share an overlay, and those to whom nothing applies that of everybody.
func TestOverlaysAreShared(t *testing.T) {
	t.Parallel()
	m := base()
	for i := range 200 {
		name := fmt.Sprintf("gold%d", i)
		m[name] = record("consumers", name, name, &configv1.Consumer{Name: name, Groups: []string{"nobody", "gold"}})
		own := fmt.Sprintf("own%d", i)
		m[own] = record("consumers", own, own, &configv1.Consumer{Name: own, Policies: []*configv1.Binding{ips("10.0.0.0/8")}})
	}
	rt, _ := build(t, list(m)...)
	r := routeNamed(rt, "guarded")
	gold := rt.Overlay(r, principal(rt, "alice"))
	if rt.Overlay(r, principal(rt, "gold7")) != gold {
		t.Error("two consumers of one group have two overlays")
	}
	if rt.Overlay(r, principal(rt, "bob")) != rt.Overlay(r, nil) {
		t.Error("a consumer without anything of its own has an overlay of its own")
	}
	if rt.Overlay(r, &exchange.Principal{ConsumerUID: "gone"}).Closed == "" || rt.Overlay(r, &exchange.Principal{Groups: []string{"gold"}}).Closed == "" {
		t.Error("a caller of whom nothing is known passes")
	}
	for i := range 200 {
		name := fmt.Sprintf("own%d", i)
		o := rt.Overlay(r, principal(rt, name))
		if o.Closed != "" || o == gold || o == rt.Overlay(r, principal(rt, fmt.Sprintf("own%d", (i+1)%200))) {
			t.Fatalf("overlay of %s is wrong", name)
		}
	}
}

// TestWhatConsumersHaveInCommonFollowsTheirGroups asks for overlays by what is remembered of consumers in the same groups and by
// looking the consumer up: always the same comes out, whatever happens to the groups and to the consumers.
func TestWhatConsumersHaveInCommonFollowsTheirGroups(t *testing.T) {
	t.Parallel()
	source, folder, c := statetest.NewSource(1), state.NewFolder(state.Empty(), state.Limits{}), newCompiler()
	statetest.Fold(t, folder, source.Reset())
	gold := func(policies ...*configv1.Binding) statetest.Record {
		return record("consumer-groups", "g1", "gold", &configv1.ConsumerGroup{Name: "gold", Policies: policies})
	}
	unreadable := gold()
	unreadable.Resource = nil
	var rt *runtime.Runtime
	for _, step := range []struct {
		name    string
		changes []statetest.Record
		want    int // of alice from outside
	}{
		{"at first", list(base()), 403},
		{"nothing", []statetest.Record{record("consumers", "c9", "carol", &configv1.Consumer{Name: "carol", Groups: []string{"gold"}})}, 403},
		{"the group's policies change", []statetest.Record{gold(ips("192.0.2.0/24"))}, 200},
		{"they go", []statetest.Record{gold()}, 200},
		{"the group cannot be read", []statetest.Record{unreadable}, 503},
		{"it can", []statetest.Record{gold(ips("10.0.0.0/8"))}, 403},
		{"alice has policies of her own", []statetest.Record{record("consumers", "c1", "alice", &configv1.Consumer{
			Name: "alice", Groups: []string{"gold"}, Policies: []*configv1.Binding{ips("172.16.0.0/12")},
		})}, 403},
		{"the group lets pass, she does not", []statetest.Record{gold()}, 403},
		{"she has none any more", []statetest.Record{record("consumers", "c1", "alice", &configv1.Consumer{Name: "alice", Groups: []string{"gold"}})}, 200},
	} {
		rt, _ = c.Build(statetest.Fold(t, folder, source.Change(step.changes, nil)), rt)
		for range 2 {
			if got := decide(rt, outside); got.status != step.want {
				t.Errorf("%s: %d, want %d", step.name, got.status, step.want)
			}
			r, known := routeNamed(rt, "guarded"), rt.Directory.Principal("k1")
			if rt.Overlay(r, known) != rt.Overlay(r, principal(rt, "alice")) {
				t.Errorf("%s: what is remembered is not what is found", step.name)
			}
		}
	}
}

// Callers whose groups a token or a directory says have the policies of those, as if they were configured with them.
func TestGrantedGroupsSelectPolicies(t *testing.T) {
	t.Parallel()
	m := base()
	m["own"] = record("consumers", "own", "own", &configv1.Consumer{Name: "own", Policies: []*configv1.Binding{ips("10.0.0.0/8")}})
	rt, _ := build(t, list(m)...)
	r := routeNamed(rt, "guarded")
	gold, anybody, own := rt.Overlay(r, principal(rt, "alice")), rt.Overlay(r, nil), rt.Overlay(r, principal(rt, "own"))
	granted := func(consumer string, groups ...string) *exchange.Principal {
		p := &exchange.Principal{}
		if consumer != "" {
			p = principal(rt, consumer)
		}
		p.Dynamic, p.Groups = true, groups
		return p
	}
	same := map[string]struct {
		p    *exchange.Principal
		want *runtime.Overlay
	}{
		"nobody in the group":               {granted("", "gold"), gold},
		"nobody in the group, said twice":   {granted("", "gold", "x", "gold"), gold},
		"nobody in groups without policies": {granted("", "x", "y"), anybody},
		"nobody in no group":                {granted(""), anybody},
		"a consumer in the group":           {granted("bob", "gold"), gold},
		"one who is not in its group here":  {granted("alice"), anybody},
	}
	for name, tt := range same {
		if rt.Overlay(r, tt.p) != tt.want {
			t.Errorf("%s: another overlay than that of who is configured so", name)
		}
	}
	both := granted("own", "gold")
	o := rt.Overlay(r, both)
	if o.Closed != "" || o == gold || o == own || o == anybody || o != rt.Overlay(r, granted("own", "gold")) {
		t.Error("a consumer with policies of its own does not have one overlay of those and its group's")
	}
	if gone := (&exchange.Principal{Dynamic: true, ConsumerUID: "gone"}); rt.Overlay(r, gone).Closed == "" {
		t.Error("a consumer of whom nothing is known passes")
	}

	m["g1"] = record("consumer-groups", "g1", "gold", &configv1.ConsumerGroup{Name: "gold", Policies: []*configv1.Binding{ips("192.0.2.0/24")}})
	next, _ := newCompiler().Build(statetest.Set(t, list(m)...), rt)
	if changed := next.Overlay(routeNamed(next, "guarded"), both); changed == o {
		t.Error("the group's policies changed, the overlay did not")
	}
}

func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, decideOnce := busy(b, n)
			b.ReportAllocs()
			for b.Loop() {
				decideOnce()
			}
		})
	}
}

// busy makes n routes with key-auth, acl, ip-restriction and rate limit, and a function that decides about one request
// after the other.
func busy(t testing.TB, n int) (*runtime.Runtime, func()) {
	limit := binding("rate-limit", &policyv1.RateLimit{
		By:      policyv1.RateLimitBy_RATE_LIMIT_BY_CONSUMER,
		Windows: []*policyv1.RateLimitWindow{{Limit: 1e9, Window: durationpb.New(time.Second)}},
	})
	records := many(n)
	for i, r := range records {
		if route, ok := r.Resource.(*configv1.Route); ok {
			route.Policies = append(route.Policies, ips("10.0.0.0/8"), limit)
			records[i].Resource = route
		}
	}
	records = append(records, record("settings", "set", "settings", &configv1.Settings{RequireHttps: new(false)}),
		record("consumer-groups", "g", "gold", &configv1.ConsumerGroup{Name: "gold", Policies: []*configv1.Binding{ips("0.0.0.0/0")}}))
	rt, faults := newCompiler().Build(statetest.Set(t, records...), nil)
	if len(faults) > 0 {
		t.Fatal(faultText(faults))
	}
	x := &exchange.Exchange{}
	type input struct{ host, path, key []byte }
	inputs := make([]input, n)
	for i := range inputs {
		inputs[i] = input{fmt.Appendf(nil, "h%d.test", i/10), fmt.Appendf(nil, "/r%d/x", i), fmt.Appendf(nil, "key-of-c%d", i)}
	}
	i, ip, now, header, method := 0, netip.MustParseAddr("10.0.0.1"), time.Now(), []byte("X-API-Key"), []byte("GET")
	decideOnce := func() {
		in := inputs[i%n]
		i++
		x.Reset()
		x.Directory, x.Timings.Received = rt.Directory, now
		x.Request.Method, x.Request.Host, x.Request.Path, x.Request.ClientIP = method, in.host, in.path, ip
		x.Request.Header.Add(exchange.Header{Name: header, Value: in.key})
		req := router.Request{Host: in.host, Path: in.path, Method: method, Header: x.Request.Header}
		res := rt.Table.Match(&req)
		route, ok := res.Route.Target.(*runtime.Route)
		if !ok || route.Chain.Request(x) != policy.Next || rt.Overlay(route, x.Principal).Chain.Request(x) != policy.Next {
			t.Fatalf("request %d is refused: %d %s", i, res.Status, x.Response.Body)
		}
	}
	for range n { // overlays are made on first use
		decideOnce()
	}
	return rt, decideOnce
}

// Many requests ask for overlays while routes forget and new ones are made.
func TestOverlaysUnderConcurrency(t *testing.T) {
	t.Parallel()
	m := base()
	for i := range 100 {
		own := fmt.Sprintf("own%d", i)
		m[own] = record("consumers", own, own, &configv1.Consumer{Name: own, Policies: []*configv1.Binding{ips("10.0.0.0/8")}})
	}
	rt, _ := build(t, list(m)...)
	r := routeNamed(rt, "guarded")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				p := principal(rt, fmt.Sprintf("own%d", (i*7+w)%100))
				if o := rt.Overlay(r, p); o == nil || o.Closed != "" || o.Chain.Len() != 2 {
					t.Errorf("overlay is %+v", o)
					return
				}
				if i%100 == 0 {
					r.Overlays.Forget()
				}
			}
		})
	}
	wg.Wait()
}
