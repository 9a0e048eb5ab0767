package expression_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"keyward.dev/shared/check/expression"
)

// vars are variables as a test gives them; those that it leaves out are not there.
type vars map[string]any

func (v vars) ResolveName(name string) (any, bool) {
	value, ok := v[name]
	return value, ok
}

func (v vars) Parent() expression.Variables { return nil }

func TestConditionsHold(t *testing.T) {
	t.Parallel()
	request := vars{
		expression.Method: "GET", expression.Path: "/a/7", expression.TLS: true, expression.ClientIP: "10.1.2.3",
		expression.Headers: map[string]string{"x-tenant": "acme"}, expression.Query: map[string][]string{"q": {"1", "2"}},
		expression.Kind: "user", expression.Groups: []string{"staff", "gold"}, expression.Labels: map[string]string{"tier": "1"},
		expression.Claims: map[string]any{"level": 3.0, "roles": []any{"a", "b"}, "org": map[string]any{"id": "x"}},
		expression.Now:    time.Date(2026, 1, 5, 9, 30, 0, 0, time.UTC),
	}
	tests := []struct {
		text    string
		want    bool
		wantErr bool
	}{
		{text: `true`, want: true},
		{text: `request.method == "GET" && request.path.startsWith("/a/")`, want: true},
		{text: `request.path.matches("^/a/[0-9]+$")`, want: true},
		{text: `request.path.matches("^/b/")`},
		{text: `request.tls && request.headers["x-tenant"] == "acme"`, want: true},
		{text: `"x-other" in request.headers`},
		{text: `request.headers["x-other"] == "a"`, wantErr: true},
		{text: `"2" in request.query.q`, want: true},
		{text: `cidr("10.0.0.0/8").containsIP(request.client_ip)`, want: true},
		{text: `"gold" in principal.groups`, want: true},
		{text: `principal.groups.exists(g, g in ["silver", "bronze"])`},
		{text: `principal.labels.tier == "1"`, want: true},
		{text: `principal.claims.level >= 3`, want: true},
		{text: `"a" in principal.claims.roles && principal.claims.org.id == "x"`, want: true},
		{text: `has(principal.claims.admin) && principal.claims.admin == true`},
		{text: `principal.claims.admin == true`, wantErr: true},
		{text: `principal.claims.admin == true || principal.kind == "user"`, want: true},
		{text: `principal.claims.level.startsWith("3")`, wantErr: true},
		{text: `now.getHours() >= 9 && now.getHours("+09:00") == 18 && now.getDayOfWeek("UTC") == 1`, want: true},
		{text: `now < timestamp("2026-02-01T00:00:00Z") + duration("1h")`, want: true},
		{text: `principal.subject == ""`, wantErr: true}, // nobody says what it is
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			c, err := expression.Compile(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Holds(request)
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("Holds() = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	loop := `principal.groups.exists(a, principal.scopes.exists(b, principal.groups.exists(c, a == b && b == c)))`
	tests := []struct{ name, text, want string }{
		{"nothing", ``, "Syntax error"},
		{"syntax", `request.method == `, "line 1, column"},
		{"no such variable", "true &&\n  request.body == \"\"", "line 2, column 3: undeclared reference to 'request'; there are request.client_ip, "},
		{"the whole of something", `request == principal`, "undeclared reference"},
		{"no such function", `request.path.reverse() == ""`, "undeclared reference to 'reverse'"},
		{"types that differ", `principal.groups == "gold"`, "no matching overload"},
		{"no bool", `request.method`, "is of type string, not bool"},
		{"unknown type", `principal.claims.admin`, "compare it"},
		{"regex that is none", `request.path.matches("(")`, "invalid"},
		{"regex of the caller's", `request.path.matches(request.headers.x)`, "has to be a text"},
		{"regex made from texts", `matches(request.path, "a" + "b")`, "has to be a text"},
		{"regex that is long", `request.path.matches("` + strings.Repeat("a", 1025) + `")`, "longer than 1024 bytes"},
		{"time zone by name", `now.getHours("Europe/Berlin") == 9`, "as an offset"},
		{"time zone of the caller's", `now.getHours(request.headers.zone) == 9`, "as an offset"},
		{"long", `"` + strings.Repeat("a", expression.MaxBytes) + `" == ""`, "longer than 4096 bytes"},
		{"deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion limit"},
		{"loops in loops in loops", loop, "nesting"},
		{"loops over what is large", `request.headers.exists(a, request.headers.exists(b, (request.headers[a] + request.headers[b]).matches("^(a|b)+c$")))`, "may cost too much"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := expression.Compile(tt.text)
			if err == nil {
				t.Fatalf("Compile(%q) = nil error", tt.text)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Compile(%q) = %q, want one line with %q", tt.text, err, tt.want)
			}
		})
	}
}

// TestCostIsBounded: whoever sends a long list does not keep the gateway busy.
func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	c, err := expression.Compile(`principal.claims.roles.exists(a, principal.claims.teams.exists(b, a == b))`)
	if err != nil {
		t.Fatal(err)
	}
	list := func(n int, of string) (l []any) {
		for range n {
			l = append(l, of)
		}
		return l
	}
	for _, tt := range []struct {
		n    int
		want error
	}{{10, nil}, {5000, expression.ErrCost}} {
		_, err := c.Holds(vars{expression.Claims: map[string]any{"roles": list(tt.n, "a"), "teams": list(tt.n, "b")}})
		if !errors.Is(err, tt.want) {
			t.Errorf("Holds(%d × %d) = %v, want %v", tt.n, tt.n, err, tt.want)
		}
	}
}

// FuzzCompile holds what admission relies on: whatever people write is refused or compiles, and what compiles can be
// evaluated without a panic, in bounded time.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		`true`, `request.method == "GET"`, `principal.claims.a.b[0] == 1.5`, `request.headers.all(k, k.size() < 10)`, `now.getHours("+01:00") > 1`,
		`request.path.matches("a*")`, `[1, 2].map(x, x * 2).exists(x, x > 3)`, `cidr("10.0.0.0/8").containsIP(request.client_ip)`, `{"a": 1}["a"] == 1`,
		`duration("1h") > duration("1m")`, `b"a" == bytes("a")`, `has(principal.claims.x)`, "\x00", `((((`,
	} {
		f.Add(text)
	}
	request := vars{
		expression.Method: "GET", expression.Path: "/", expression.ClientIP: "10.0.0.1", expression.Headers: map[string]string{"a": "b"},
		expression.Claims: map[string]any{"a": 1.0}, expression.Groups: []string{"a"}, expression.Now: time.Unix(0, 0).UTC(),
	}
	f.Fuzz(func(_ *testing.T, text string) {
		c, err := expression.Compile(text)
		if err != nil {
			return
		}
		_, _ = c.Holds(request)
	})
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := expression.Compile(`request.method == "GET" && "gold" in principal.groups`); err != nil {
			b.Fatal(err)
		}
	}
}
