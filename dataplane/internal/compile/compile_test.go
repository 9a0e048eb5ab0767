package compile_test

import (
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/runtime"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// base is a small group that works: a route that needs a key and the group gold, and a broader one that needs nothing.
func base() map[string]statetest.Record {
	p, term := pepper(1)
	records := []statetest.Record{
		p,
		record("settings", "set", "settings", &configv1.Settings{RequireHttps: new(false)}),
		record("services", "svc", "hello", &configv1.Service{Name: "hello", Url: "http://127.0.0.1:9"}),
		record("services", "svc2", "other", &configv1.Service{Name: "other", Url: "http://127.0.0.1:9"}),
		record("routes", "r1", "guarded", &configv1.Route{
			Name: "guarded", Service: "hello", Hosts: []string{"a.test"}, Paths: []*configv1.PathMatch{prefix("/secret")},
			Policies: []*configv1.Binding{keyAuth(), acl("gold")},
		}),
		record("routes", "r2", "open", &configv1.Route{Name: "open", Service: "other", Hosts: []string{"a.test"}}),
		record("routes", "r3", "elsewhere", &configv1.Route{Name: "elsewhere", Service: "other", Hosts: []string{"b.test"}}),
		record("consumers", "c1", "alice", &configv1.Consumer{Name: "alice", Groups: []string{"gold"}}),
		record("consumers", "c2", "bob", &configv1.Consumer{Name: "bob"}),
		credential(term, "k1", "alice", "alice-key"),
		credential(term, "k2", "bob", "bob-key"),
		record("consumer-groups", "g1", "gold", &configv1.ConsumerGroup{Name: "gold", Policies: []*configv1.Binding{ips("10.0.0.0/8")}}),
	}
	out := map[string]statetest.Record{}
	for _, r := range records {
		out[r.UID] = r
	}
	return out
}

func list(m map[string]statetest.Record) []statetest.Record { return slices.Collect(maps.Values(m)) }

var (
	alice   = call{host: "a.test", path: "/secret/x", key: "alice-key", ip: "10.0.0.1"}
	outside = call{host: "a.test", path: "/secret/x", key: "alice-key", ip: "192.0.2.1"}
	bob     = call{host: "a.test", path: "/secret/x", key: "bob-key", ip: "10.0.0.1"}
	nobody  = call{host: "a.test", path: "/secret/x", ip: "10.0.0.1"}
	broad   = call{host: "a.test", path: "/", ip: "10.0.0.1"}
	other   = call{host: "b.test", path: "/", ip: "10.0.0.1"}
)

// One resource at a time is lost or does not compile; what it guards is closed, and nothing else.
func TestFailClosed(t *testing.T) {
	t.Parallel()
	ok := func(route string) verdict { return verdict{status: 200, route: route} }
	no := func(status int) verdict { return verdict{status: status} }
	type want struct{ alice, outside, bob, nobody, broad, other verdict }
	healthy := want{ok("guarded"), no(403), no(403), no(401), ok("open"), ok("elsewhere")}
	all503 := want{no(503), no(503), no(503), no(503), no(503), no(503)}
	guarded503 := want{no(503), no(503), no(503), no(503), ok("open"), ok("elsewhere")}
	host503 := want{no(503), no(503), no(503), no(503), no(503), ok("elsewhere")}
	lose := func(uid string) func(map[string]statetest.Record) {
		return func(m map[string]statetest.Record) { r := m[uid]; r.Resource = nil; m[uid] = r }
	}
	route := func(change func(*configv1.Route)) func(map[string]statetest.Record) {
		return func(m map[string]statetest.Record) { change(m["r1"].Resource.(*configv1.Route)) }
	}
	unknownField := func(m proto.Message) { m.ProtoReflect().SetUnknown([]byte{0xf8, 0x7f, 1}) }
	tests := []struct {
		name   string
		change func(map[string]statetest.Record)
		want   want
		faults []string
	}{
		{name: "healthy", change: func(map[string]statetest.Record) {}, want: healthy},
		{name: "unreadable settings", change: lose("set"), want: all503, faults: []string{"settings/settings: the control plane could not open it"}},
		{name: "unreadable route", change: lose("r1"), want: all503, faults: []string{"routes/guarded: the control plane could not open it"}},
		{name: "unreadable service", change: lose("svc"), want: guarded503, faults: []string{"services/hello: the control plane could not open it"}},
		{
			// Whose the keys are cannot be said, nor whether one that is not found is a key; that is no refusal.
			name: "unreadable consumer", change: lose("c1"),
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"consumers/alice: the control plane could not open it"},
		},
		{
			name: "unreadable credential", change: lose("k1"),
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"credentials/alice/k1: the control plane could not open it"},
		},
		{
			// Whether a key is known cannot be said; that is no refusal.
			name: "unreadable pepper", change: lose("pepper-1"),
			want:   want{no(503), no(503), no(503), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"pepper-terms/1: the control plane could not open it"},
		},
		{
			name: "unreadable consumer group", change: lose("g1"),
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"consumer-groups/gold: the control plane could not open it"},
		},
		{
			name: "unreadable consumer group without a name",
			change: func(m map[string]statetest.Record) {
				m["g1"] = statetest.Record{Kind: "consumer-groups", UID: "g1"}
			},
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"consumer-groups/: the control plane could not open it"},
		},
		{
			name:   "regex that does not compile",
			change: route(func(r *configv1.Route) { r.Paths[0].Match = &configv1.PathMatch_Regex{Regex: "("} }),
			want:   host503,
			faults: []string{"routes/guarded: path: parse expression: error parsing regexp: missing closing ): `(`"},
		},
		{
			name:   "host that is none",
			change: route(func(r *configv1.Route) { r.Hosts = []string{"a b"} }),
			want:   all503,
			faults: []string{"routes/guarded: host \"a b\": host is not a host name or address with an optional port"},
		},
		{
			name:   "policy type of a newer control plane",
			change: route(func(r *configv1.Route) { r.Policies[1].Type = "waf" }),
			want:   guarded503,
			faults: []string{"routes/guarded: policy waf: this gateway does not know the policy type"},
		},
		{
			name: "policy field of a newer control plane",
			change: route(func(r *configv1.Route) {
				cfg := &policyv1.Acl{Allow: []string{"gold"}}
				unknownField(cfg)
				r.Policies[1] = binding("acl", cfg)
			}),
			want:   guarded503,
			faults: []string{"routes/guarded: policy acl: its config has fields or values that this gateway does not know"},
		},
		{
			name:   "policy mode of a newer control plane",
			change: route(func(r *configv1.Route) { r.Policies[1].Mode = 9 }),
			want:   all503,
			faults: []string{"routes/guarded: it has fields or values that this gateway does not know"},
		},
		{
			name:   "config of another policy",
			change: route(func(r *configv1.Route) { r.Policies[1].Config = r.Policies[0].GetConfig() }),
			want:   guarded503,
			faults: []string{"routes/guarded: policy acl: its config is of another type"},
		},
		{
			name:   "no config",
			change: route(func(r *configv1.Route) { r.Policies[0].Config = nil }),
			want:   guarded503,
			faults: []string{"routes/guarded: policy key-auth: it has no config"},
		},
		{
			name:   "authentication that is only reported",
			change: route(func(r *configv1.Route) { r.Policies[0].Mode = configv1.Mode_MODE_REPORT }),
			want:   guarded503,
			faults: []string{"routes/guarded: policy key-auth: authentication cannot be reported only"},
		},
		{
			name: "any_of that names nothing",
			change: route(func(r *configv1.Route) {
				r.Authn = &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{"jwt"}}}}
			}),
			want:   guarded503,
			faults: []string{"routes/guarded: authn.any_of[0] names jwt, which is no active authentication binding here"},
		},
		{
			name:   "service that is not there",
			change: func(m map[string]statetest.Record) { delete(m, "svc") },
			want:   guarded503, faults: []string{"routes/guarded: its service does not exist"},
		},
		{
			name: "policy of the settings that is not known",
			change: func(m map[string]statetest.Record) {
				s := m["set"].Resource.(*configv1.Settings)
				s.Policies = []*configv1.Binding{{Type: "waf"}}
			},
			want:   all503,
			faults: []string{"settings/settings: policy waf: this gateway does not know the policy type"},
		},
		{
			name: "policy of a consumer that is not known",
			change: func(m map[string]statetest.Record) {
				m["c1"].Resource.(*configv1.Consumer).Policies = []*configv1.Binding{{Type: "waf"}}
			},
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"consumers/alice: policy waf: this gateway does not know the policy type"},
		},
		{
			name: "authentication on a consumer",
			change: func(m map[string]statetest.Record) {
				m["c1"].Resource.(*configv1.Consumer).Policies = []*configv1.Binding{keyAuth()}
			},
			want:   want{no(503), no(503), no(403), no(401), ok("open"), ok("elsewhere")},
			faults: []string{"consumers/alice: policy key-auth: policy type does not bind here"},
		},
		{
			name: "service of a newer control plane",
			change: func(m map[string]statetest.Record) {
				m["svc"].Resource.(*configv1.Service).Protocol = 9
			},
			want: guarded503, faults: []string{"services/hello: it has fields or values that this gateway does not know"},
		},
		{
			name: "kind of a newer control plane",
			change: func(m map[string]statetest.Record) {
				m["x"] = statetest.Record{Kind: "modules", UID: "x", Name: "x"}
			},
			want: healthy, faults: []string{"modules/x: this gateway does not know resources of this kind"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := base()
			tt.change(m)
			rt, faults := build(t, list(m)...)
			got := want{decide(rt, alice), decide(rt, outside), decide(rt, bob), decide(rt, nobody), decide(rt, broad), decide(rt, other)}
			if got != tt.want {
				t.Errorf("verdicts are %v, want %v", got, tt.want)
			}
			if diff := cmp.Diff(tt.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptySetIsARuntime(t *testing.T) {
	t.Parallel()
	rt, faults := newCompiler().Build(state.Empty(), nil)
	if got := decide(rt, broad); got.status != 404 || len(faults) > 0 {
		t.Errorf("an empty group answers %v with faults %v, want 404", got, faults)
	}
	if !rt.Settings.RequireHTTPS || !rt.Settings.StrictPaths || rt.Settings.MaxBody != 10<<20 {
		t.Errorf("defaults are %+v", rt.Settings)
	}
}

// A runtime that was reached by many changes decides as one that is compiled from the same set at once, faults included.
func TestEqualSetsEnforceEqually(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		w := newWorld(t, seed, 1)
		c := newCompiler()
		source := statetest.NewSource(1)
		folder := state.NewFolder(state.Empty(), state.Limits{})
		statetest.Fold(t, folder, source.Reset())
		var rt *runtime.Runtime
		for range 25 {
			set := statetest.Fold(t, folder, source.Change(randomChange(w, source)))
			var faults []runtime.Fault
			rt, faults = c.Build(set, rt)
			fresh, freshFaults := c.Build(set, nil)
			if diff := cmp.Diff(faultText(freshFaults), faultText(faults)); diff != "" {
				t.Fatalf("seed %d: faults (-fresh +incremental):\n%s", seed, diff)
			}
			for _, host := range []string{"a.test", "b.test", "c.test", "other"} {
				got, common := rt.Table.Needs([]byte(host))
				want, wantCommon := fresh.Table.Needs([]byte(host))
				if !slices.Equal(got, want) || common != wantCommon {
					t.Fatalf("seed %d: %s needs %v %v after its history, %v %v compiled at once", seed, host, got, common, want, wantCommon)
				}
			}
			if got, want := rt.Clients.Len(), fresh.Clients.Len(); got != want {
				t.Fatalf("seed %d: there are %d demands after its history, %d compiled at once", seed, got, want)
			}
			everyCall(w, func(call call) {
				if got, want := decide(rt, call), decide(fresh, call); got != want {
					t.Fatalf("seed %d: %+v is %v after its history, %v compiled at once", seed, call, got, want)
				}
			})
		}
	}
}

func randomChange(w world, source *statetest.Source) (upserts, removes []statetest.Record) {
	seen := map[string]bool{}
	for range 1 + w.IntN(4) {
		r := w.record()
		if w.IntN(6) == 0 {
			r.Resource = nil
		}
		if seen[key(r)] {
			continue
		}
		seen[key(r)] = true
		upserts = append(upserts, r)
	}
	all := source.Records()
	for range w.IntN(3) {
		if len(all) == 0 {
			break
		}
		if r := all[w.IntN(len(all))]; !seen[key(r)] {
			seen[key(r)] = true
			removes = append(removes, r)
		}
	}
	return upserts, removes
}

// Whatever cannot be read, no request reaches a route that it would not have reached had everything been read.
func TestQuarantineOpensNothing(t *testing.T) {
	t.Parallel()
	reached := 0
	for seed := range uint64(300) {
		w := newWorld(t, seed, 2)
		records := map[string]statetest.Record{}
		for range 30 {
			r := w.record()
			records[key(r)] = r
		}
		full, _ := build(t, list(records)...)
		for _, k := range slices.Sorted(maps.Keys(records)) {
			if r := records[k]; w.IntN(8) == 0 && (r.Kind != "routes" || w.IntN(4) == 0) && r.Kind != "settings" {
				r.Resource = nil
				if w.IntN(3) == 0 {
					r.Name = ""
				}
				records[k] = r
			}
		}
		part, _ := build(t, list(records)...)
		everyCall(w, func(c call) {
			got, want := decide(part, c), decide(full, c)
			if got.status == 200 {
				reached++
				if got != want {
					t.Fatalf("seed %d: %+v reaches %s, in the full set it is %v", seed, c, got.route, want)
				}
			}
		})
	}
	if reached < 200 {
		t.Errorf("only %d calls reached a route: the test tests nothing", reached)
	}
}

// An older runtime stays as it was when newer ones are made from it.
func TestRuntimesAreIndependent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 9, 9)
	c := newCompiler()
	source := statetest.NewSource(1)
	folder := state.NewFolder(state.Empty(), state.Limits{})
	statetest.Fold(t, folder, source.Reset())
	var rt *runtime.Runtime
	type version struct {
		rt       *runtime.Runtime
		calls    []call
		verdicts []verdict
	}
	var versions []version
	for range 40 {
		rt, _ = c.Build(statetest.Fold(t, folder, source.Change(randomChange(w, source))), rt)
		v := version{rt: rt}
		everyCall(w, func(call call) { v.calls, v.verdicts = append(v.calls, call), append(v.verdicts, decide(rt, call)) })
		versions = append(versions, v)
	}
	for i, v := range versions {
		for j, call := range v.calls {
			if got := decide(v.rt, call); got != v.verdicts[j] {
				t.Fatalf("version %d: %+v is now %v, was %v", i, call, got, v.verdicts[j])
			}
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 1000, 10000, 100000} {
		set := statetest.Set(b, many(n)...)
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newCompiler().Build(set, nil)
			}
		})
	}
	for _, n := range []int{1000, 100000} {
		b.Run(fmt.Sprintf("one change/%d", n), func(b *testing.B) {
			source := statetest.NewSource(1)
			source.Change(many(n), nil)
			folder := state.NewFolder(state.Empty(), state.Limits{})
			c := newCompiler()
			set := statetest.Fold(b, folder, source.Reset())
			rt, _ := c.Build(set, nil)
			next := statetest.Fold(b, folder, source.Change([]statetest.Record{record("routes", "r5", "r5", &configv1.Route{Name: "r5", Service: "s"})}, nil))
			goruntime.GC() // of what setting up left
			b.ReportAllocs()
			for b.Loop() {
				c.Build(next, rt)
			}
		})
	}
}

// many makes n routes and n consumers with a key each.
func many(n int) []statetest.Record {
	p, term := pepper(1)
	out := []statetest.Record{p, record("services", "svc", "s", &configv1.Service{Name: "s", Url: "http://127.0.0.1:9"})}
	for i := range n {
		name := fmt.Sprintf("r%d", i)
		out = append(out, record("routes", name, name, &configv1.Route{
			Name: name, Service: "s", Hosts: []string{fmt.Sprintf("h%d.test", i/10)}, Paths: []*configv1.PathMatch{prefix("/" + name)},
			Policies: []*configv1.Binding{keyAuth(), acl("gold")},
		}))
		consumer := fmt.Sprintf("c%d", i)
		out = append(out, record("consumers", consumer, consumer, &configv1.Consumer{Name: consumer, Groups: []string{"gold"}}),
			credential(term, "k"+consumer, consumer, "key-of-"+consumer))
	}
	return out
}
