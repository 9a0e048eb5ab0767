package authorize_test

import (
	"net/netip"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policies/authorize"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

func build(t testing.TB, rules ...*policyv1.AuthorizeRule) policy.Policy {
	t.Helper()
	p, err := authorize.Build(&policyv1.Authorize{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allow(when string) *policyv1.AuthorizeRule { return &policyv1.AuthorizeRule{When: when} }

func deny(when string) *policyv1.AuthorizeRule {
	return &policyv1.AuthorizeRule{Name: "no", When: when, Effect: policyv1.AuthorizeEffect_AUTHORIZE_EFFECT_DENY}
}

// request is one with something in everything that conditions see.
func request() *exchange.Exchange {
	x := &exchange.Exchange{}
	q := &x.Request
	q.Method, q.RawTarget, q.Path, q.Query = []byte("POST"), []byte("/a/%41?q=1&q=2&%6e=x"), []byte("/a/A"), []byte("q=1&q=2&%6e=x")
	q.Host, q.Scheme, q.TLS = []byte("api.test"), "https", true
	q.Header = exchange.Headers{exchange.Field("X-Tenant", "acme"), exchange.Field("Accept", "a"), exchange.Field("accept", "b")}
	q.RemoteAddr, q.ClientIP = netip.MustParseAddrPort("[::ffff:10.0.0.1]:77"), netip.MustParseAddr("192.0.2.1")
	x.Timings.Received = time.Date(2026, 1, 5, 9, 30, 0, 0, time.FixedZone("", 3600))
	x.Route = exchange.RouteInfo{Name: "orders", Service: "shop"}
	x.Principal = &exchange.Principal{
		Kind: exchange.KindMachine, Consumer: "alice", How: "jwt-auth", Groups: []string{"gold"}, Attributes: &exchange.Attributes{
			Subject: "sub|1", Scopes: []string{"read", "write"},
			Labels: map[string]string{"tier": "1"}, Claims: map[string]any{"level": 3.0, "roles": []any{"a"}, "org": map[string]any{"id": "x"}},
		},
	}
	return x
}

func TestVariables(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`request.method == "POST" && request.path == "/a/A" && request.raw_path == "/a/%41"`,
		`request.host == "api.test" && request.scheme == "https" && request.tls`,
		`request.remote_ip == "10.0.0.1" && cidr("192.0.2.0/24").containsIP(request.client_ip)`,
		`request.query.q == ["1", "2"] && request.query["n"][0] == "x" && !("a" in request.query) && size(request.query) == 2`,
		`request.headers["x-tenant"] == "acme" && request.headers["X-Tenant"] == "acme" && request.headers.accept == "a, b"`,
		`size(request.headers) == 2 && request.headers.all(k, k in ["x-tenant", "accept"]) && request.headers.exists(k, request.headers[k] == "a, b")`,
		`!("cookie" in request.headers) && !has(request.headers.cookie) && has(request.headers.accept)`,
		`request.headers == {"x-tenant": "acme", "accept": "a, b"} && request.query.exists(k, "2" in request.query[k])`,
		`principal.kind == "machine" && principal.consumer == "alice" && principal.subject == "sub|1" && principal.how == "jwt-auth"`,
		`"gold" in principal.groups && "write" in principal.scopes && principal.labels["tier"] == "1"`,
		`principal.claims.level == 3 && principal.claims.level > 2.5 && "a" in principal.claims.roles && principal.claims.org.id == "x"`,
		`route.name == "orders" && route.service == "shop"`,
		`now == timestamp("2026-01-05T08:30:00Z") && now.getHours() == 8`,
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			x := request()
			if build(t, allow(when)).Request(x) != policy.Next {
				t.Errorf("%s: refused because of %s", when, x.Refusal().Reason())
			}
		})
	}
}

func TestNobodyIsAnonymousAndHasNothing(t *testing.T) {
	t.Parallel()
	x := &exchange.Exchange{}
	const when = `principal.kind == "anonymous" && principal.consumer == "" && principal.groups == [] && principal.scopes == [] &&
		size(principal.claims) == 0 && !("a" in principal.labels) && request.client_ip == "" && size(request.headers) == 0`
	if build(t, allow(when)).Request(x) != policy.Next {
		t.Errorf("refused because of %s", x.Refusal().Reason())
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	const yes, no, fails = `request.method == "POST"`, `request.method == "GET"`, `principal.claims.admin == true`
	many := `principal.claims.roles.exists(a, principal.claims.roles.exists(b, principal.claims.roles.size() == 1 && a != b))`
	tests := []struct {
		name  string
		rules []*policyv1.AuthorizeRule
		want  string // the reason; empty: passes
	}{
		{"allowed", []*policyv1.AuthorizeRule{allow(yes)}, ""},
		{"not allowed", []*policyv1.AuthorizeRule{allow(no)}, "authorize_not_allowed"},
		{"one of several", []*policyv1.AuthorizeRule{allow(no), allow(yes)}, ""},
		{"a denial wins, wherever it stands", []*policyv1.AuthorizeRule{allow(yes), deny(yes)}, "authorize_denied:no"},
		{"only denials", []*policyv1.AuthorizeRule{deny(no)}, ""},
		{"no denial, and nothing allows", []*policyv1.AuthorizeRule{deny(no), allow(no)}, "authorize_not_allowed"},
		{"what allows cannot be evaluated", []*policyv1.AuthorizeRule{allow(fails)}, "authorize_failed"},
		{"what allows cannot be evaluated, but something else allows", []*policyv1.AuthorizeRule{allow(fails), allow(yes)}, ""},
		{"what denies cannot be evaluated", []*policyv1.AuthorizeRule{deny(fails), allow(yes)}, "authorize_failed:no"},
		{"what denies costs too much", []*policyv1.AuthorizeRule{deny(many)}, "authorize_over_cost:no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := request()
			if tt.name == "what denies costs too much" {
				roles := make([]any, 2000)
				for i := range roles {
					roles[i] = "a"
				}
				x.Principal.Claims()["roles"] = roles
			}
			v := build(t, tt.rules...).Request(x)
			if v == policy.Next != (tt.want == "") {
				t.Fatalf("Request() = %v, want reason %q", v, tt.want)
			}
			if r := x.Refusal(); tt.want != "" && (r.Reason() != tt.want || r.Status() != 403 || r.Code() != "forbidden") {
				t.Errorf("refused with %d %s because of %s, want 403 because of %s", r.Status(), r.Code(), r.Reason(), tt.want)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*policyv1.Authorize{
		"nothing":        {},
		"no condition":   {Rules: []*policyv1.AuthorizeRule{allow("")}},
		"no bool":        {Rules: []*policyv1.AuthorizeRule{allow("request.method")}},
		"unknown effect": {Rules: []*policyv1.AuthorizeRule{{When: "true", Effect: 9}}},
	} {
		if p, err := authorize.Build(cfg); err == nil || p != nil {
			t.Errorf("Build(%s) = nil error", name)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	for _, tt := range []struct{ name, when string }{
		{"method", `request.method == "POST"`},
		{"group", `"gold" in principal.groups`},
		{"header", `request.headers["x-tenant"] == "acme"`},
		{"claim", `principal.claims.level >= 3`},
		{"regex", `request.path.matches("^/a/[A-Z]$")`},
		{"hours", `now.getHours("+01:00") >= 9 && now.getHours("+01:00") < 17`},
		{"counted", `principal.claims.roles.exists(a, principal.scopes.exists(b, a == b)) || request.tls`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			p, x := build(b, allow(tt.when)), request()
			b.ReportAllocs()
			for b.Loop() {
				if p.Request(x) != policy.Next {
					b.Fatal(x.Refusal().Reason())
				}
			}
		})
	}
}
