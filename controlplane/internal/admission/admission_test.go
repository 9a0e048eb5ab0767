package admission_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"

	"keyward.dev/controlplane/internal/admission"
	"keyward.dev/controlplane/internal/snapshot"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

const key = "Zq7xV2mN9pL4tR8wB1cD5fG6"

// stored returns the hash that is kept of a credential.
func (g *group) stored(name string) *configv1.KeyedHash {
	g.t.Helper()
	r, ok := g.Get("credentials", name)
	if !ok {
		g.t.Fatalf("no credential %s", name)
	}
	var h *configv1.KeyedHash
	if err := secret.Walk(r.Message, func(f secret.Field) { h = f.Get().GetKeyedHash() }); err != nil {
		g.t.Fatal(err)
	}
	return h
}

func TestWhatIsStoredIsNormalAndHashed(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	r, _ := g.Get("routes", "r")
	route, _ := r.Message.(*configv1.Route)
	if !route.GetEnabled() || route.Enabled == nil || route.GetUid() != "" {
		t.Errorf("stored %v", route)
	}
	if h := g.stored("alice/a1"); h.GetTerm() != 1 || len(h.GetHash()) != 32 {
		t.Errorf("stored hash %v", h)
	}
	for _, m := range g.members {
		raw, _ := proto.Marshal(m.Message)
		if strings.Contains(string(raw), key) {
			t.Errorf("%s holds the key", m.Name)
		}
	}
}

func TestWritingTheSameAgainChangesNothing(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	first := g.must(base)
	if again := g.must(base); len(again.Upserts) != 0 || again.Unchanged != len(first.Upserts) {
		t.Errorf("again: %q", summary(again))
	}
	// Also when a newer term of the pepper would hash the key differently.
	g.terms = []uint32{2, 1}
	if again := g.must(base); len(again.Upserts) != 0 {
		t.Errorf("after a new term: %q", summary(again))
	}
	if h := g.stored("alice/a1"); h.GetTerm() != 1 {
		t.Errorf("term = %d, want the old one kept", h.GetTerm())
	}
	// And other forms of the same.
	same := "routes: [{name: r, service: s, hosts: R.TEST, enabled: true, priority: 0}]"
	if again := g.must(same); len(again.Upserts) != 0 {
		t.Errorf("the same in other words: %q", summary(again))
	}
}

func TestNewKeysUseTheNewestTermAndAreComparedUnderAll(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	g.terms = []uint32{2, 1}
	_, vs := g.apply("consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: "+key+"}}]}]", false)
	if got := pathsOf(vs); !slices.Equal(got, []string{"consumers[0].credentials[0].config.key"}) {
		t.Errorf("a key that is stored under an older term is taken twice: %v", vs)
	}
	g.must("consumers: [{name: alice, groups: gold, credentials: [{name: a1, type: key-auth, config: {key: another-Key-0123456789-abc}}]}]")
	if h := g.stored("alice/a1"); h.GetTerm() != 2 {
		t.Errorf("term = %d, want the newest", h.GetTerm())
	}
}

func TestKeysMayBeExchangedInOneRequest(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	doc := "consumers: [{name: a, credentials: [{name: k, type: key-auth, config: {key: %s1}}, {name: l, type: key-auth, config: {key: %s2}}]}]"
	g.must(fmt.Sprintf(doc, key, key))
	g.must(strings.NewReplacer("1}", "2}", "2}", "1}").Replace(fmt.Sprintf(doc, key, key)))
}

func TestSecretsAreKept(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"left out": "{}", "set": "{key: {set: true}}", "with another field": "{allow_weak: true}",
	} {
		g := newGroup(t)
		g.must(base)
		before := g.stored("alice/a1")
		_, vs := g.apply("consumers: [{name: alice, groups: gold, credentials: [{name: a1, type: key-auth, config: "+config+"}]}]", false)
		if len(vs) > 0 || !proto.Equal(before, g.stored("alice/a1")) {
			t.Errorf("%s: %v", name, vs)
		}
	}
}

func TestSecretsOfBinaryRequests(t *testing.T) {
	t.Parallel()
	pack := func(k *credentialv1.KeyAuth) *anypb.Any {
		a, err := anypb.New(k)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	hash := &configv1.Secret{Value: &configv1.Secret_KeyedHash{KeyedHash: &configv1.KeyedHash{Term: 1, Hash: make([]byte, 32)}}}
	ref := &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://a/b}"}}
	plain := &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key}}
	empty := &configv1.Secret{Value: &configv1.Secret_Plaintext{}}
	for _, tt := range []struct {
		name   string
		key    *configv1.Secret
		clears []string
		paths  []string
	}{
		{"plaintext", plain, nil, nil},
		{"nothing keeps", nil, nil, nil},
		{"a ready hash", hash, nil, []string{"config.key"}},
		{"a reference", ref, nil, []string{"config.key"}},
		{"empty plaintext", empty, nil, []string{"config.key"}},
		{"cleared", nil, []string{"config.key"}, []string{"config.key"}},
		{"given and cleared", plain, []string{"config.key"}, []string{"config.key"}},
		{"cleared elsewhere", plain, []string{"config.secret"}, []string{"config.secret"}},
	} {
		g := newGroup(t)
		g.must(base)
		_, vs := g.admit(admission.Request{Changes: []admission.Change{{
			Kind: "credentials", Clears: tt.clears,
			Message: &configv1.Credential{Name: "a1", Consumer: "alice", Type: "key-auth", Config: pack(&credentialv1.KeyAuth{Key: tt.key})},
		}}})
		if !slices.Equal(pathsOf(vs), append([]string{}, tt.paths...)) {
			t.Errorf("%s: %v, want %q", tt.name, vs, tt.paths)
		}
	}
}

func TestBinaryRequestsMeetEveryRule(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	acl, err := anypb.New(&policyv1.Acl{Allow: []string{"-"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		msg   *configv1.Route
		paths []string
	}{
		{&configv1.Route{Name: "-", Service: "s", Hosts: []string{"a.test", "A.TEST"}}, []string{"hosts[1]", "name"}},
		{&configv1.Route{Name: "x", Service: "s", Policies: []*configv1.Binding{{Type: "acl", Config: acl}}}, []string{"policies[0].config.allow[0]"}},
		{&configv1.Route{Name: "x", Service: "s", Policies: []*configv1.Binding{{Type: "cors", Config: acl}}}, []string{"policies[0].config"}},
		{&configv1.Route{Name: "x", Service: "s", Policies: []*configv1.Binding{{Type: "acl", Mode: 7, Config: acl}}}, []string{"policies[0].config.allow[0]", "policies[0].mode"}},
		{&configv1.Route{Name: "x", Service: "s", Policies: []*configv1.Binding{{Type: "nope"}}}, []string{"policies[0].type"}},
		{&configv1.Route{Name: "x", Service: "s", Paths: []*configv1.PathMatch{{}}}, []string{"paths[0]"}},
	} {
		_, vs := g.admit(admission.Request{Changes: []admission.Change{{Kind: "routes", Message: tt.msg}}})
		got := pathsOf(vs)
		for i, p := range got {
			got[i] = strings.TrimSuffix(p, ".match")
		}
		if !slices.Equal(got, tt.paths) {
			t.Errorf("%v: %v, want %q", tt.msg, vs, tt.paths)
		}
	}
	unknown := &configv1.Route{Name: "x", Service: "s"}
	unknown.ProtoReflect().SetUnknown([]byte{0xf8, 0x7f, 1})
	for _, m := range []proto.Message{unknown, &configv1.Service{Name: "x", Url: "http://a.test"}, nil} {
		if _, vs := g.admit(admission.Request{Changes: []admission.Change{{Kind: "routes", Message: m}}}); len(vs) != 1 {
			t.Errorf("%v: %v", m, vs)
		}
	}
	if _, vs := g.admit(admission.Request{Changes: []admission.Change{{Kind: "gadgets"}}}); len(vs) != 1 || vs[0].Code != problem.NotFound {
		t.Errorf("unknown kind: %v", vs)
	}
}

func TestDeletingWhatIsUsedIsAConflictThatNamesTheUsers(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	g.must("settings: {policies: [{type: acl, config: {allow_consumers: alice}}]}")
	for _, tt := range []struct {
		kind, name string
		code       problem.Code
		users      []string
	}{
		{"services", "s", problem.Conflict, []string{"routes/r"}},
		{"consumers", "alice", problem.Conflict, []string{"credentials/alice/a1", "settings"}},
		{"settings", "settings", problem.Conflict, nil},
		{"services", "nope", problem.NotFound, nil},
		{"consumer-groups", "gold", "", nil}, // a label without one is fine
		{"routes", "r", "", nil},
		{"credentials", "alice/a1", "", nil},
	} {
		a, vs := g.remove(tt.kind, tt.name)
		if tt.code == "" {
			if len(vs) > 0 || len(a.Deletes) != 1 {
				t.Errorf("%s %s: %v", tt.kind, tt.name, vs)
			}
			continue
		}
		if len(vs) != 1 || vs[0].Code != tt.code {
			t.Errorf("%s %s: %v, want one %s", tt.kind, tt.name, vs, tt.code)
			continue
		}
		for _, u := range tt.users {
			if !strings.Contains(vs[0].Reason, u) {
				t.Errorf("%s %s: %q does not name %s", tt.kind, tt.name, vs[0].Reason, u)
			}
		}
	}
}

func TestPruneRemovesWhatTheDocumentDoesNotHave(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	a, vs := g.apply("services: [{name: s, url: http://a.test}]\nconsumers: [{name: alice, groups: gold}]", true)
	if len(vs) > 0 {
		t.Fatal(vs)
	}
	want := []string{"delete consumer-groups/gold", "delete credentials/alice/a1", "delete routes/r", "unchanged 2"}
	if got := summary(a); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	g.must(base)
	d, req := g.changes("services: []")
	req.Prune, req.PruneKinds = true, d.Kinds
	if _, vs := g.admit(req); len(vs) != 1 || vs[0].Code != problem.Conflict {
		t.Errorf("pruning a used service: %v", vs)
	}
	d, req = g.changes("routes: []")
	req.Prune, req.PruneKinds = true, d.Kinds
	if a, vs := g.admit(req); len(vs) > 0 || !slices.Equal(summary(a), []string{"delete routes/r"}) {
		t.Errorf("pruning routes: %q, %v", summary(a), vs)
	}
}

func TestPreconditions(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	g.must("routes: [{name: r, service: s, hosts: [r.test], priority: 5}]") // revision 2
	for _, tt := range []struct {
		name, match, none string
		ok                bool
	}{
		{"r", "2", "", true},
		{"r", `"2"`, "", true},
		{"r", "*", "", true},
		{"r", "1", "", false},
		{"r", "", "*", false},
		{"x", "2", "", false},
		{"x", "*", "", false},
		{"x", "", "*", true},
	} {
		_, vs := g.put("routes", "{name: "+tt.name+", service: s}", func(c *admission.Change) { c.IfMatch, c.IfNoneMatch = tt.match, tt.none })
		failed := slices.ContainsFunc(vs, func(v problem.Violation) bool { return v.Code == problem.PreconditionFailed })
		if failed == tt.ok {
			t.Errorf("%+v: %v", tt, vs)
		}
	}
	a, vs := g.admit(admission.Request{Changes: []admission.Change{{Op: admission.OpDelete, Kind: "routes", Name: "r", IfMatch: "1"}}})
	if len(vs) != 1 || vs[0].Code != problem.PreconditionFailed {
		t.Errorf("delete: %q, %v", summary(a), vs)
	}
	if _, vs := g.put("routes", "{name: r, service: s}", func(c *admission.Change) { c.Name = "other" }); len(vs) != 1 {
		t.Errorf("another name: %v", vs)
	}
}

// TestChangesAreJudgedByWhatTheyDoToOthers: what the request leaves alone must stay valid, too.
func TestChangesAreJudgedByWhatTheyDoToOthers(t *testing.T) {
	t.Parallel()
	const limit = "config: {windows: [{limit: 1, window: 1s}]}}"
	const before = base + `
credentials: []
`
	for _, tt := range []struct {
		name, also, change string
		paths              []string
		reason             string
	}{
		{
			"settings lose a binding that any_of names", "settings: {policies: [{type: key-auth, name: a}]}\nroutes: [{name: x, service: s, authn: {any_of: [[a]]}}]",
			"settings: {}",
			[]string{"settings.policies"},
			"routes/x",
		},
		{
			"a service loses a binding that any_of names", "services: [{name: t, url: http://a.test, policies: [{type: key-auth, name: a}]}]\nroutes: [{name: x, service: t, authn: {any_of: [[a]]}}]",
			"services: [{name: t, url: http://a.test}]",
			[]string{"services[0].policies"},
			"routes/x",
		},
		{
			"settings lock what a route has", "routes: [{name: x, service: s, policies: [{type: rate-limit, " + limit + "]}]",
			"settings: {policies: [{type: rate-limit, locked: true, " + limit + "]}",
			[]string{"settings.policies"},
			"routes/x",
		},
		{
			"settings lock what a consumer has", "consumers: [{name: bob, policies: [{type: rate-limit, " + limit + "]}]",
			"settings: {policies: [{type: rate-limit, locked: true, " + limit + "]}",
			[]string{"settings.policies"},
			"consumers/bob",
		},
		{
			"a service locks what a route has", "services: [{name: t, url: http://a.test}]\nroutes: [{name: x, service: t, policies: [{type: rate-limit, " + limit + "]}]",
			"services: [{name: t, url: http://a.test, policies: [{type: rate-limit, locked: true, " + limit + "]}]",
			[]string{"services[0].policies"},
			"routes/x",
		},
		{
			"a group locks what a consumer has", "consumers: [{name: bob, groups: gold, policies: [{type: rate-limit, " + limit + "]}]",
			"consumer-groups: [{name: gold, policies: [{type: rate-limit, locked: true, " + limit + "]}]",
			[]string{"consumer-groups[0].policies"},
			"consumers/bob",
		},
		{"a service moves away from its route's lock", "routes: [{name: x, service: s}]", "routes: [{name: x, service: s, paths: /x}]", nil, ""},
	} {
		g := newGroup(t)
		g.must(strings.TrimSuffix(before, "credentials: []\n"))
		g.must(tt.also)
		_, vs := g.apply(tt.change, false)
		if !slices.Equal(pathsOf(vs), append([]string{}, tt.paths...)) {
			t.Errorf("%s: %v, want %q", tt.name, vs, tt.paths)
			continue
		}
		if len(vs) > 0 && !strings.Contains(vs[0].Reason, tt.reason) {
			t.Errorf("%s: %v does not name %s", tt.name, vs[0], tt.reason)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	limits := admission.Limits{ResourceBytes: 300, Resources: 3, HostRegexes: 1}
	g := newGroupWith(t, limits)
	g.must("services: [{name: s, url: http://a.test}]")
	if _, vs := g.put("services", "{name: t, url: http://a.test, description: "+strings.Repeat("x", 300)+"}", nil); len(vs) != 1 || vs[0].Code != problem.TooLarge {
		t.Errorf("size: %v", vs)
	}
	_, vs := g.apply("routes: [{name: a, service: s, paths: [{regex: /a}, {regex: /b}]}]", false)
	if !slices.Equal(pathsOf(vs), []string{"routes[0].paths[1]"}) {
		t.Errorf("expressions: %v", vs)
	}
	_, vs = g.apply("services: [{name: b, url: http://a.test}, {name: c, url: http://a.test}, {name: d, url: http://a.test}]", false)
	if !slices.Equal(pathsOf(vs), []string{""}) {
		t.Errorf("resources: %v", vs)
	}
	g.must("services: [{name: b, url: http://a.test}, {name: c, url: http://a.test}]")
	g.must("services: [{name: b, url: http://b.test}]")
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	a := g.must("routes: [{name: x, service: s, policies: [{type: acl, config: {allow: [gold, platinum], rules: [{allow: lead}]}}]}]\n" +
		"consumers: [{name: w, credentials: [{name: k, type: key-auth, config: {key: weak, allow_weak: true}}]}]")
	var paths []string
	for _, w := range a.Warnings {
		paths = append(paths, w.Path)
	}
	want := []string{"consumers[0].credentials[0].config.key", "routes[0].policies[0].config.allow[1]", "routes[0].policies[0].config.rules[0].allow[0]"}
	if !slices.Equal(paths, want) {
		t.Errorf("warnings %v, want at %q", a.Warnings, want)
	}
	if len(a.Audit) != 1 || !strings.Contains(a.Audit[0], "credentials/w/k") || strings.Contains(a.Audit[0], "weak,") {
		t.Errorf("audit %q", a.Audit)
	}
}

func TestWeakSecretsAreToldOf(t *testing.T) {
	t.Parallel()
	strong, weak := strings.Repeat("s", 32), strings.Repeat("w", 20)
	for _, tt := range []struct {
		name, config, then string
		want               int
	}{
		{"strong", "{key_id: k, secret: " + strong + "}", "", 0},
		{"strong all the same", "{key_id: k, secret: " + strong + ", allow_weak: true}", "", 0},
		{"weak", "{key_id: k, secret: " + weak + ", allow_weak: true}", "", 1},
		{"weak, in Base64", "{key_id: k, base64: true, allow_weak: true, secret: " + base64.StdEncoding.EncodeToString([]byte(weak)) + "}", "", 1},
		{"weak, and kept", "{key_id: k, secret: " + weak + ", allow_weak: true}", "{key_id: l, secret: {set: true}, allow_weak: true}", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must(base)
			var a admission.Admitted
			for _, config := range []string{tt.config, tt.then} {
				if config != "" {
					a = g.must("consumers: [{name: w, credentials: [{name: k, type: hmac-auth, config: " + config + "}]}]")
				}
			}
			if len(a.Warnings) != tt.want || len(a.Audit) != tt.want {
				t.Fatalf("warnings %v, audit %q, want %d", a.Warnings, a.Audit, tt.want)
			}
			if tt.want == 1 && (a.Warnings[0].Path != "consumers[0].credentials[0].config.secret" || a.Audit[0] != "weak secret allowed for credentials/w/k") {
				t.Errorf("warnings %v, audit %q", a.Warnings, a.Audit)
			}
		})
	}
}

func TestUnreadableResourcesCanBeReplacedAndRemoved(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	for key, r := range g.members {
		g.members[key] = &snapshot.Resource{Kind: r.Kind, UID: r.UID, Name: r.Name, Revision: r.Revision, Unreadable: "damaged"}
	}
	if _, vs := g.apply("consumers: [{name: alice, credentials: [{name: a1, type: key-auth}]}]", false); len(vs) != 1 || !strings.Contains(vs[0].Reason, "cannot be read") {
		t.Errorf("keeping what cannot be read: %v", vs)
	}
	a := g.must(base)
	if len(a.Upserts) != 6 || a.Upserts[0].UID == "" {
		t.Errorf("replaced: %q", summary(a))
	}
}

func TestEqualRequestsGetEqualAnswers(t *testing.T) {
	t.Parallel()
	const doc = "routes: [{name: x, service: q, hosts: [r.test, q.test]}, {name: y, service: p, hosts: [r.test]}]\nconsumers: [{labels: {\"=\": a, \",\": b, c: \"x,y\"}}]"
	var first []problem.Violation
	for i := range 5 {
		g := newGroup(t)
		g.must(base)
		_, vs := g.apply(doc, true)
		if first == nil {
			first = vs
		}
		if fmt.Sprint(vs) != fmt.Sprint(first) || len(vs) < 5 {
			t.Fatalf("run %d: %v\nwant %v", i, vs, first)
		}
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	s := &configv1.Settings{}
	if err := g.adm.Normalize(s); err != nil || !s.GetRequireHttps() || s.GetLimits().GetHeaders() != 200 {
		t.Errorf("%v, %v", s, err)
	}
	if err := g.adm.Normalize(&configv1.Route{}); err == nil {
		t.Error("a route without name and service is normal")
	}
}
