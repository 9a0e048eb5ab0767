package scenario_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

const policiesDocument = `group: default
settings: {require_https: false, trusted_proxies: [127.0.0.0/8]}
services: [{name: s, url: "http://UPSTREAM/base"}]
routes:
  - {name: ip, service: s, hosts: [ip.test], policies: [{type: ip-restriction, config: {allow: [203.0.113.0/24, "2001:db8::/32"], deny: [203.0.113.66]}}]}
  - {name: limited, service: s, hosts: [limited.test], policies: [{type: rate-limit, config: {windows: [{limit: 3, window: 60s}, {limit: 100, window: 3600s}], by: ip}}]}
  - {name: tenants, service: s, hosts: [tenants.test], policies: [{type: rate-limit, config: {windows: [{limit: 1, window: 60s}], by: header, header: X-Tenant}}]}
  - {name: small, service: s, hosts: [small.test], policies: [{type: request-size-limit, config: {max: 10B}}]}
  - {name: declared, service: s, hosts: [declared.test], policies: [{type: request-size-limit, config: {max: 10B, require_content_length: true}}]}
  - name: browsers
    service: s
    hosts: [cors.test]
    policies:
      - {type: cors, config: {allow_origins: ["https://app.test", "https://*.partner.test"], allow_methods: [GET, PUT], allow_headers: [X-Token], expose_headers: [X-Total], allow_credentials: true, max_age: 10m}}
      - {type: key-auth}
  - {name: places, service: s, hosts: [places.test], policies: [{type: key-auth, config: {header: [X-API-Key, Authorization], query: api_key, cookie: session}}]}
  - {name: shown, service: s, hosts: [shown.test], policies: [{type: key-auth, config: {hide_credentials: false}}]}
  - {name: either, service: s, hosts: [either.test], policies: [{type: key-auth, name: a, config: {header: X-A}}, {type: key-auth, name: b, config: {header: X-B}}], authn: {any_of: [[a], [b]]}}
  - {name: both, service: s, hosts: [both.test], policies: [{type: key-auth, name: a, config: {header: X-A}}, {type: key-auth, name: b, config: {header: X-B}}]}
consumers:
  - {name: gold, credentials: [{name: k, type: key-auth, config: {key: gold-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}, {name: k2, type: key-auth, config: {key: gold2-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}]}
  - {name: silver, credentials: [{name: k, type: key-auth, config: {key: silver-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}]}
`

// TestPoliciesOnLiveTraffic goes through what each policy promises, with two real gateways.
func TestPoliciesOnLiveTraffic(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	revision := c.Apply(strings.ReplaceAll(policiesDocument, "UPSTREAM", harness.Echo(t)))
	g, second := c.StartGateway("default"), c.StartGateway("default")
	g.AwaitRevision(revision)
	second.AwaitRevision(revision)

	t.Run("ip-restriction with trusted proxies", func(t *testing.T) {
		for forwarded, want := range map[string]int{
			"":                            http.StatusForbidden, // the test itself is 127.0.0.1, trusted but not allowed
			"203.0.113.7":                 http.StatusOK,
			"203.0.113.66":                http.StatusForbidden,
			"198.51.100.1":                http.StatusForbidden,
			"203.0.113.7, 198.51.100.1":   http.StatusForbidden, // the right-most that is not ours counts
			"198.51.100.1, 203.0.113.7":   http.StatusOK,
			"203.0.113.7, 127.0.0.5":      http.StatusOK,
			"2001:db8::1":                 http.StatusOK,
			"2001:db9::1":                 http.StatusForbidden,
			"::ffff:203.0.113.7":          http.StatusOK,
			"203.0.113.7, nonsense":       http.StatusForbidden,
			"nonsense":                    http.StatusForbidden,
			"203.0.113.7, , 127.0.0.1":    http.StatusForbidden,
			"198.51.100.1,203.0.113.7:80": http.StatusOK,
		} {
			var headers []string
			if forwarded != "" {
				headers = []string{"X-Forwarded-For", forwarded}
			}
			if code, body := g.Get(t, "ip.test", "/", headers...); code != want {
				t.Errorf("X-Forwarded-For %q: %d %s, want %d", forwarded, code, body, want)
			}
		}
	})
	t.Run("rate-limit is each gateway's own and tells where it stands", func(t *testing.T) {
		for _, gateway := range []*harness.Gateway{g, second} {
			for i := range 5 {
				resp := gateway.Call(t, http.MethodGet, "limited.test", "/", nil)
				want := http.StatusOK
				if i >= 3 {
					want = http.StatusTooManyRequests
				}
				if resp.StatusCode != want || resp.Header.Get("RateLimit") == "" || resp.Header.Get("RateLimit-Policy") == "" {
					t.Errorf("request %d: %d %v, want %d with RateLimit fields", i+1, resp.StatusCode, resp.Header, want)
				}
				if i >= 3 && resp.Header.Get("Retry-After") == "" {
					t.Errorf("request %d: no Retry-After in %v", i+1, resp.Header)
				}
			}
		}
		for _, tenant := range []string{"a", "b", "c"} {
			for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
				if code, _ := g.Get(t, "tenants.test", "/", "X-Tenant", tenant); code != want {
					t.Errorf("tenant %s, request %d: %d, want %d", tenant, i+1, code, want)
				}
			}
		}
	})
	t.Run("request-size-limit", func(t *testing.T) {
		body := func(n int) io.Reader { return strings.NewReader(strings.Repeat("x", n)) }
		chunked := func(n int) io.Reader { return io.MultiReader(body(n)) }
		for _, tt := range []struct {
			name, host string
			body       io.Reader
			want       int
		}{
			{"at the limit", "small.test", body(10), 200},
			{"above it", "small.test", body(11), 413},
			{"chunked at the limit", "small.test", chunked(10), 200},
			{"chunked above it", "small.test", chunked(11), 413},
			{"chunked far above it", "small.test", chunked(1 << 20), 413},
			{"chunked where a length is asked for", "declared.test", chunked(5), 411},
			{"with the length asked for", "declared.test", body(5), 200},
			{"no body where a length is asked for", "declared.test", nil, 200},
		} {
			if code, answer := g.Send(t, http.MethodPost, tt.host, "/", tt.body); code != tt.want {
				t.Errorf("%s: %d %s, want %d", tt.name, code, answer, tt.want)
			}
		}
	})
	t.Run("cors", func(t *testing.T) { corsCases(t, g) })
	t.Run("keys in every place, hidden from the upstream", func(t *testing.T) { keyPlaces(t, g) })
	t.Run("several ways to say who one is", func(t *testing.T) {
		for _, tt := range []struct {
			host    string
			headers []string
			want    int
		}{
			{"either.test", []string{"X-A", goldKey}, 200},
			{"either.test", []string{"X-B", goldKey}, 200},
			{"either.test", []string{"X-A", "wrong", "X-B", goldKey}, 200},
			{"either.test", []string{"X-A", "wrong"}, 401},
			{"either.test", nil, 401},
			{"both.test", []string{"X-A", goldKey, "X-B", goldKey}, 200},
			{"both.test", []string{"X-A", goldKey}, 401},
			{"both.test", []string{"X-A", goldKey, "X-B", silverKey}, 401},
		} {
			if code, body := g.Get(t, tt.host, "/", tt.headers...); code != tt.want {
				t.Errorf("%s %v: %d %s, want %d", tt.host, tt.headers, code, body, tt.want)
			}
		}
	})
}

func corsCases(t *testing.T, g *harness.Gateway) {
	t.Helper()
	preflight := func(headers ...string) http.Header {
		resp := g.Call(t, http.MethodOptions, "cors.test", "/x", nil, headers...)
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("preflight %v: %d", headers, resp.StatusCode)
		}
		return resp.Header
	}
	h := preflight("Origin", "https://app.test", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-token")
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://app.test", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "600",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") || !strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "x-token") ||
		!strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
		t.Errorf("preflight: %v", h)
	}
	for _, origin := range []string{"https://evil.test", "http://app.test", "https://app.test.evil.test", "null", "https://a.b.partner.test", "https://partner.test"} {
		resp := g.Call(t, http.MethodOptions, "cors.test", "/x", nil, "Origin", origin, "Access-Control-Request-Method", "GET")
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("origin %s is allowed as %q", origin, got)
		}
	}
	resp := g.Call(t, http.MethodGet, "cors.test", "/x", nil, "Origin", "https://eu.partner.test", "X-API-Key", goldKey)
	if got := resp.Header.Values("Access-Control-Allow-Origin"); resp.StatusCode != http.StatusOK || len(got) != 1 || got[0] != "https://eu.partner.test" {
		t.Errorf("an answer for a partner: %d %v (the upstream's own must be replaced)", resp.StatusCode, got)
	}
	if got := resp.Header.Get("Access-Control-Expose-Headers"); !strings.EqualFold(got, "X-Total") {
		t.Errorf("exposed: %q", got)
	}
	refused := g.Call(t, http.MethodGet, "cors.test", "/x", nil, "Origin", "https://app.test")
	if refused.StatusCode != http.StatusUnauthorized || refused.Header.Get("Access-Control-Allow-Origin") != "https://app.test" {
		t.Errorf("a script cannot read its refusal: %d %v", refused.StatusCode, refused.Header)
	}
	if resp := g.Call(t, http.MethodGet, "cors.test", "/x", nil, "Origin", "https://evil.test", "X-API-Key", goldKey); resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the upstream's own Access-Control-Allow-Origin came through")
	}
}

func keyPlaces(t *testing.T, g *harness.Gateway) {
	t.Helper()
	for _, tt := range []struct {
		name, host, target string
		headers            []string
		want               int
		upstream           string // target the upstream has to see
	}{
		{"header", "places.test", "/x?a=1", []string{"X-API-Key", goldKey}, 200, "/base/x?a=1"},
		{"another header", "places.test", "/x", []string{"Authorization", goldKey}, 200, "/base/x"},
		{"query alone", "places.test", "/x?api_key=" + goldKey, nil, 200, "/base/x"},
		{"query first", "places.test", "/x?api_key=" + goldKey + "&a=1", nil, 200, "/base/x?a=1"},
		{"query last", "places.test", "/x?a=1&api_key=" + goldKey, nil, 200, "/base/x?a=1"},
		{"query in the middle", "places.test", "/x?a=1&api_key=" + goldKey + "&b=%20&c", nil, 200, "/base/x?a=1&b=%20&c"},
		{"query with an encoded name", "places.test", "/x?api%5Fkey=" + goldKey, nil, 200, "/base/x"},
		{"cookie alone", "places.test", "/x", []string{"Cookie", "session=" + goldKey}, 200, "/base/x"},
		{"cookie among others", "places.test", "/x", []string{"Cookie", "a=1; session=" + goldKey + "; b=2"}, 200, "/base/x"},
		{"the same key twice, in two places", "places.test", "/x?api_key=" + goldKey, []string{"X-API-Key", goldKey}, 200, "/base/x"},
		{"different keys in two places", "places.test", "/x?api_key=" + goldKey, []string{"X-API-Key", silverKey}, 401, ""},
		{"the key twice in one place", "places.test", "/x?api_key=" + goldKey + "&api_key=" + silverKey, nil, 401, ""},
		{"a place that is not asked", "shown.test", "/x?api_key=" + goldKey, nil, 401, ""},
	} {
		code, body := g.Get(t, tt.host, tt.target, tt.headers...)
		if code != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, code, body, tt.want)
			continue
		}
		if tt.want != http.StatusOK {
			continue
		}
		if strings.Contains(body, goldKey) {
			t.Errorf("%s: the upstream sees the key: %s", tt.name, body)
		}
		echo := harness.ReadEcho(t, body)
		if echo.Target != tt.upstream {
			t.Errorf("%s: the upstream sees %s, want %s", tt.name, echo.Target, tt.upstream)
		}
		if strings.HasPrefix(tt.name, "cookie among") && echo.Header.Get("Cookie") != "a=1; b=2" {
			t.Errorf("%s: the upstream sees the cookies %q", tt.name, echo.Header.Get("Cookie"))
		}
		if tt.name == "cookie alone" && echo.Header.Get("Cookie") != "" {
			t.Errorf("%s: the upstream sees the cookies %q", tt.name, echo.Header.Get("Cookie"))
		}
	}
	if _, body := g.Get(t, "shown.test", "/", "X-API-Key", goldKey); harness.ReadEcho(t, body).Header.Get("X-Api-Key") != goldKey {
		t.Errorf("hide_credentials: false hides: %s", body)
	}
	challenge := g.Call(t, http.MethodGet, "places.test", "/", nil)
	if challenge.StatusCode != http.StatusUnauthorized || challenge.Header.Get("WWW-Authenticate") == "" ||
		!strings.HasPrefix(challenge.Header.Get("Content-Type"), "application/problem+json") {
		t.Errorf("a refusal: %d %v", challenge.StatusCode, challenge.Header)
	}
}
