package acl_test

import (
	"testing"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/policies/acl"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestCallersOfTokens is about callers whom a token describes, who may be no consumers.
func TestCallersOfTokens(t *testing.T) {
	t.Parallel()
	team := func(values ...string) map[string]*policyv1.AclLabelValues {
		return map[string]*policyv1.AclLabelValues{"team": {Values: values}}
	}
	claims := map[string]any{}
	token := &exchange.Principal{
		Kind: exchange.KindUser, Dynamic: true, Groups: []string{"staff", "Domain Users"}, How: "jwt-auth", Attributes: &exchange.Attributes{Scopes: []string{"read", "orders:write"}, Claims: claims},
	}
	bare := &exchange.Principal{Kind: exchange.KindUser, How: "jwt-auth", Attributes: &exchange.Attributes{Claims: claims}}
	alice := &exchange.Principal{Kind: exchange.KindUser, Consumer: "alice", ConsumerUID: "u", How: "key-auth", Attributes: &exchange.Attributes{Labels: map[string]string{"team": "support"}}}
	post := []*policyv1.AclRule{
		{AllowScopes: []string{"read"}, Methods: []string{"GET"}},
		{Allow: []string{"staff"}, RequireScopes: []string{"orders:write"}, Methods: []string{"POST"}},
		{AllowConsumers: []string{"alice"}, Methods: []string{"PUT"}},
		{AllowLabels: team("sales", "support"), Methods: []string{"PATCH"}},
		{RequireScopes: []string{"read", "admin"}, Methods: []string{"DELETE"}},
	}
	tests := []struct {
		name   string
		cfg    *policyv1.Acl
		who    *exchange.Principal
		method string
		want   int
		code   string
	}{
		{"by a group of the token", &policyv1.Acl{Allow: []string{"staff"}}, token, "GET", 0, ""},
		{"no such group", &policyv1.Acl{Allow: []string{"gold"}}, token, "GET", 403, "forbidden"},
		{"known, but not allowed", &policyv1.Acl{Allow: []string{"staff"}}, bare, "GET", 403, "forbidden"},
		{"nobody", &policyv1.Acl{Allow: []string{"staff"}}, nil, "GET", 401, "unauthenticated"},
		{"nobody, with denials only", &policyv1.Acl{DenyScopes: []string{"x"}}, nil, "GET", 401, "unauthenticated"},
		{"by a scope", &policyv1.Acl{AllowScopes: []string{"write", "read"}}, token, "GET", 0, ""},
		{"no such scope", &policyv1.Acl{AllowScopes: []string{"write", "rea"}}, token, "GET", 403, "forbidden"},
		{"denied by a scope", &policyv1.Acl{Allow: []string{"staff"}, DenyScopes: []string{"read"}}, token, "GET", 403, "forbidden"},
		{"not denied", &policyv1.Acl{DenyScopes: []string{"admin"}}, token, "GET", 0, ""},
		{"all scopes", &policyv1.Acl{RequireScopes: []string{"orders:write", "read"}}, token, "GET", 0, ""},
		{"all scopes but one", &policyv1.Acl{RequireScopes: []string{"admin", "read"}}, token, "GET", 403, "insufficient_scope"},
		{"all scopes, and nothing else allows", &policyv1.Acl{RequireScopes: []string{"read"}, Allow: []string{"gold"}}, token, "GET", 403, "forbidden"},
		{"scopes of somebody without a token", &policyv1.Acl{RequireScopes: []string{"read"}}, alice, "GET", 403, "forbidden"},
		{"a denial wins over missing scopes", &policyv1.Acl{RequireScopes: []string{"admin"}, Deny: []string{"staff"}}, token, "GET", 403, "forbidden"},
		{"by a label", &policyv1.Acl{AllowLabels: team("support")}, alice, "GET", 0, ""},
		{"another value", &policyv1.Acl{AllowLabels: team("sales")}, alice, "GET", 403, "forbidden"},
		{"no labels", &policyv1.Acl{AllowLabels: team("")}, token, "GET", 403, "forbidden"},
		{"denied by a label", &policyv1.Acl{DenyLabels: team("sales", "support")}, alice, "GET", 403, "forbidden"},
		{"rule by scope", &policyv1.Acl{Rules: post}, token, "GET", 0, ""},
		{"rule by group and scope", &policyv1.Acl{Rules: post}, token, "POST", 0, ""},
		{"rule by group without the scope", &policyv1.Acl{Rules: post}, &exchange.Principal{Groups: []string{"staff"}, Attributes: &exchange.Attributes{Claims: claims}}, "POST", 403, "forbidden"},
		{"rule by consumer", &policyv1.Acl{Rules: post}, alice, "PUT", 0, ""},
		{"rule by consumer, who is none", &policyv1.Acl{Rules: post}, token, "PUT", 403, "forbidden"},
		{"rule by label", &policyv1.Acl{Rules: post}, alice, "PATCH", 0, ""},
		{"rule by all scopes", &policyv1.Acl{Rules: post}, token, "DELETE", 403, "forbidden"},
		{"no rule for the method", &policyv1.Acl{Rules: post}, token, "OPTIONS", 403, "forbidden"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := acl.Build(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			x := &exchange.Exchange{Principal: tt.who}
			x.Request.Method = []byte(tt.method)
			v := p.Request(x)
			if (v == policy.Next) != (tt.want == 0) {
				t.Fatalf("Request() = %v, want status %d", v, tt.want)
			}
			if r := x.Refusal(); tt.want != 0 && (r.Status() != tt.want || r.Code() != tt.code) {
				t.Errorf("refused with %d %s, want %d %s", r.Status(), r.Code(), tt.want, tt.code)
			}
		})
	}
}

func TestMissingScopesAreNamed(t *testing.T) {
	t.Parallel()
	p, err := acl.Build(&policyv1.Acl{RequireScopes: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange.Exchange{Principal: &exchange.Principal{Attributes: &exchange.Attributes{Claims: map[string]any{}, Scopes: []string{"a"}}}}
	p.Request(x)
	if got, want := string(x.Refusal().Header().Get("WWW-Authenticate")), `Bearer error="insufficient_scope", scope="a b"`; got != want {
		t.Errorf("WWW-Authenticate is %q, want %q", got, want)
	}
}
