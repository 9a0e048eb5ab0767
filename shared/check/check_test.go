package check_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check"
)

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func binding(t testing.TB, typ string, cfg proto.Message) *configv1.Binding {
	return &configv1.Binding{Type: typ, Name: typ, Config: pack(t, cfg)}
}

func prefix(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Prefix{Prefix: p}}
}

func exact(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Exact{Exact: p}}
}

func regex(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Regex{Regex: p}}
}

func windows(ds ...time.Duration) *policyv1.RateLimit {
	c := &policyv1.RateLimit{}
	for _, d := range ds {
		c.Windows = append(c.Windows, &policyv1.RateLimitWindow{Limit: 1, Window: durationpb.New(d)})
	}
	return c
}

// rule is something that resources must keep, with one that does and one that does not, and where that is told.
type rule struct {
	rule           string
	accept, reject proto.Message
	path           string
}

func holds(t *testing.T, rules []rule) {
	for _, tt := range rules {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			if vs := check.Resource(tt.accept); len(vs) > 0 {
				t.Errorf("refused: %v", vs)
			}
			vs := check.Resource(tt.reject)
			var paths []string
			for _, v := range vs {
				paths = append(paths, v.Path)
			}
			if !slices.Equal(paths, []string{tt.path}) {
				t.Errorf("violations %v, want one at %q", vs, tt.path)
			}
		})
	}
}

// TestRules has, for each rule, a resource that keeps it and one that breaks it.
func TestRules(t *testing.T) {
	t.Parallel()
	key := func(text string, weak bool) proto.Message {
		return &configv1.Credential{Type: "key-auth", Config: pack(t, &credentialv1.KeyAuth{
			Key: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: text}}, AllowWeak: weak,
		})}
	}
	route := func(r *configv1.Route) proto.Message { return r }
	policy := func(typ string, cfg proto.Message) proto.Message {
		return &configv1.Route{Policies: []*configv1.Binding{binding(t, typ, cfg)}}
	}
	good := "Zq7xV2mN9pL4tR8wB1cD5f"
	holds(t, []rule{
		{
			"binding site", policy("key-auth", &policyv1.KeyAuth{}),
			&configv1.Consumer{Policies: []*configv1.Binding{binding(t, "key-auth", &policyv1.KeyAuth{})}}, "policies[0].type",
		},
		{
			"binding site of groups", &configv1.ConsumerGroup{Policies: []*configv1.Binding{binding(t, "acl", &policyv1.Acl{})}},
			&configv1.ConsumerGroup{Policies: []*configv1.Binding{binding(t, "cors", &policyv1.Cors{})}}, "policies[0].type",
		},
		{"type of config", policy("acl", &policyv1.Acl{}), policy("acl", &policyv1.Cors{}), "policies[0].config"},
		{"larger shares later", &configv1.Settings{Rollout: &configv1.Rollout{Stages: []*configv1.RolloutStage{
			{Percent: 10}, {Labels: map[string]string{"a": "b"}}, {Percent: 20},
		}}}, &configv1.Settings{Rollout: &configv1.Rollout{Stages: []*configv1.RolloutStage{
			{Percent: 20}, {Labels: map[string]string{"a": "b"}}, {Percent: 20},
		}}}, "rollout.stages[2].percent"},
		{
			"labels of stages", &configv1.Settings{Rollout: &configv1.Rollout{Stages: []*configv1.RolloutStage{{Labels: map[string]string{"a": "b"}}}}},
			&configv1.Settings{Rollout: &configv1.Rollout{Stages: []*configv1.RolloutStage{{Labels: map[string]string{"": "b"}}}}}, `rollout.stages[0].labels[""]`,
		},
		{"config there", policy("acl", &policyv1.Acl{}), &configv1.Settings{Policies: []*configv1.Binding{{Type: "acl"}}}, "policies[0].config"},
		{
			"config readable", policy("acl", &policyv1.Acl{}),
			&configv1.Settings{Policies: []*configv1.Binding{{Type: "acl", Config: &anypb.Any{TypeUrl: "x/y"}}}}, "policies[0].config",
		},
		{
			"report", route(&configv1.Route{Policies: []*configv1.Binding{{Type: "acl", Config: pack(t, &policyv1.Acl{}), Mode: configv1.Mode_MODE_REPORT}}}),
			&configv1.Route{Policies: []*configv1.Binding{{Type: "key-auth", Config: pack(t, &policyv1.KeyAuth{}), Mode: configv1.Mode_MODE_REPORT}}}, "policies[0].mode",
		},
		{"key length", key(good, false), key(good[:19], false), "config.key"},
		{"key bits", key(strings.Repeat("0123456789abcdef", 2), false), key("01234567890123456789012345678901", false), "config.key"},
		{"key variety", key(good, false), key(strings.Repeat("ab", 40), false), "config.key"},
		{"weak keys", key("abc", true), key("abc", false), "config.key"},
		{"key characters", key("a~!", true), key("a b", true), "config.key"},
		{"key is ASCII", key("a", true), key("ä"+good, false), "config.key"},
		{"longest key", key(strings.Repeat("a", 512), true), key(strings.Repeat("a", 513), true), "config.key"},
		{"credential type", key(good, false), &configv1.Credential{Type: "other", Config: pack(t, &credentialv1.KeyAuth{})}, "config"},
		{"label keys", &configv1.Consumer{Labels: map[string]string{"a.b/c": "x y"}}, &configv1.Consumer{Labels: map[string]string{"a=b": ""}}, `labels["a=b"]`},
		{"label values", &configv1.Service{Labels: map[string]string{"a": "x"}}, &configv1.Service{Labels: map[string]string{"a": "x,y"}}, "labels.a"},
		{"hosts", route(&configv1.Route{Hosts: []string{"a.test", "*.b.test"}}), &configv1.Route{Hosts: []string{"*"}}, "hosts[0]"},
		{
			"paths above the root", route(&configv1.Route{Paths: []*configv1.PathMatch{prefix("/a/../b")}}),
			&configv1.Route{Paths: []*configv1.PathMatch{prefix("/../b")}}, "paths[0].prefix",
		},
		{
			"repeated paths", route(&configv1.Route{Paths: []*configv1.PathMatch{prefix("/a"), exact("/a")}}),
			&configv1.Route{Paths: []*configv1.PathMatch{prefix("/a"), prefix("/%61")}}, "paths[1]",
		},
		{
			"regexes that match a path", route(&configv1.Route{Paths: []*configv1.PathMatch{regex("^(/|x)p$"), regex(`\b?/x`), regex(".*")}}),
			&configv1.Route{Paths: []*configv1.PathMatch{regex("p/.*")}}, "paths[0].regex",
		},
		{
			"empty regexes", route(&configv1.Route{Paths: []*configv1.PathMatch{regex("/?x?/")}}),
			&configv1.Route{Paths: []*configv1.PathMatch{regex("^$")}}, "paths[0].regex",
		},
		{"no tunnels", route(&configv1.Route{Methods: []string{"GET"}}), &configv1.Route{Methods: []string{"GET", "CONNECT"}}, "methods[1]"},
		{
			"strip_prefix", route(&configv1.Route{Paths: []*configv1.PathMatch{prefix("/a")}, Rewrite: &configv1.Rewrite{StripPrefix: true}}),
			&configv1.Route{Paths: []*configv1.PathMatch{prefix("/a"), exact("/b")}, Rewrite: &configv1.Rewrite{StripPrefix: true}}, "rewrite.strip_prefix",
		},
		{
			"condition names", route(&configv1.Route{Headers: []*configv1.FieldMatch{{Name: "X-A"}}, Query: []*configv1.FieldMatch{{Name: "a b"}}}),
			&configv1.Route{Headers: []*configv1.FieldMatch{{Name: "X A"}}}, "headers[0].name",
		},
		{
			"repeated conditions", route(&configv1.Route{Query: []*configv1.FieldMatch{{Name: "a"}, {Name: "b"}}}),
			&configv1.Route{Query: []*configv1.FieldMatch{{Name: "a"}, {Name: "a"}}}, "query[1]",
		},
		{
			"condition regexes", route(&configv1.Route{Query: []*configv1.FieldMatch{{Name: "a", Match: &configv1.FieldMatch_Regex{Regex: "x"}}}}),
			&configv1.Route{Query: []*configv1.FieldMatch{{Name: "a", Match: &configv1.FieldMatch_Regex{Regex: "("}}}}, "query[0].regex",
		},
		{
			"repeated alternatives", route(&configv1.Route{Authn: &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{"a"}}, {Bindings: []string{"b"}}}}}),
			&configv1.Route{Authn: &configv1.Authn{AnyOf: []*configv1.AuthnBranch{{Bindings: []string{"a"}}, {Bindings: []string{"a"}}}}}, "authn.any_of[1]",
		},
		{"windows", policy("rate-limit", windows(time.Second, time.Minute)), policy("rate-limit", windows(time.Minute, time.Second, time.Minute)), "policies[0].config.windows[2].window"},
		{"key in framing", policy("key-auth", &policyv1.KeyAuth{Header: []string{"Authorization"}}), policy("key-auth", &policyv1.KeyAuth{Header: []string{"content-length"}}), "policies[0].config.header[0]"},
		{"key in cookies", policy("key-auth", &policyv1.KeyAuth{Cookie: []string{"a"}}), policy("key-auth", &policyv1.KeyAuth{Header: []string{"cookie"}}), "policies[0].config.header[0]"},
		{"key in the body", policy("key-auth", &policyv1.KeyAuth{Body: []string{"key"}, MaxBody: proto.Uint64(1)}), policy("key-auth", &policyv1.KeyAuth{MaxBody: proto.Uint64(1)}), "policies[0].config.max_body"},
		{"same header", policy("key-auth", &policyv1.KeyAuth{Header: []string{"A", "B"}}), policy("key-auth", &policyv1.KeyAuth{Header: []string{"X-Key", "x-key"}}), "policies[0].config.header[1]"},
		{
			"origins", policy("cors", &policyv1.Cors{AllowOrigins: []string{"https://*.a.test:8443", "http://[::1]"}}),
			policy("cors", &policyv1.Cors{AllowOrigins: []string{"https://a.test:70000"}}), "policies[0].config.allow_origins[0]",
		},
		{
			"same origin", policy("cors", &policyv1.Cors{AllowOrigins: []string{"https://a.test", "http://a.test"}}),
			policy("cors", &policyv1.Cors{AllowOrigins: []string{"https://a.test", "https://A.test:443"}}), "policies[0].config.allow_origins[1]",
		},
		{
			"any origin", policy("cors", &policyv1.Cors{AllowOrigins: []string{"*"}}),
			policy("cors", &policyv1.Cors{AllowOrigins: []string{"https://a.test", "*"}}), "policies[0].config.allow_origins[1]",
		},
		{
			"star with credentials", policy("cors", &policyv1.Cors{AllowHeaders: []string{"*"}}),
			policy("cors", &policyv1.Cors{AllowHeaders: []string{"*"}, AllowCredentials: true}), "policies[0].config.allow_headers[0]",
		},
	})
}

func TestKeyBitsCountTheClassesThatOccur(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key  string
		bits float64
	}{
		{"", 0},
		{"aaaaaaaaaaaa", 0},
		{"abababab", 8},
		{"0123456789abcdef", 64},
		{"0123456789ABCDEF", 64},
		{"abcdefgh", 37.6},
		{"abcdefgH", 45.6},
		{"abcdefg7", 41.4},
		{"abcdefg-", 39.3},
		{"abcdefg!", 45.8},
	} {
		if got := check.KeyBits(tt.key); got < tt.bits-0.1 || got > tt.bits+0.1 {
			t.Errorf("KeyBits(%q) = %.1f, want %.1f", tt.key, got, tt.bits)
		}
	}
}

func TestNoViolationRepeatsAKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"canary", "canary with space", strings.Repeat("canary", 100)} {
		c := &configv1.Credential{Type: "key-auth", Config: pack(t, &credentialv1.KeyAuth{Key: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: key}}})}
		for _, v := range check.Credential(c) {
			if strings.Contains(v.String(), "canary") {
				t.Errorf("%v", v)
			}
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("Zq7xV2mN9pL4tR8wB1cD5f", false)
	f.Fuzz(func(t *testing.T, key string, weak bool) {
		if check.Key(key, false) == "" && check.Key(key, true) != "" {
			t.Errorf("allow_weak refuses %q, which is strong", key)
		}
		if check.Key(key, weak) == "" && (len(key) == 0 || len(key) > 512) {
			t.Errorf("%q is taken", key)
		}
	})
}
