package scenario_test

import (
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

const authzDocument = `group: default
settings: {require_https: false, identity_headers: {consumer: X-Consumer-Name, groups: X-Consumer-Groups, anonymous: X-Anonymous-Consumer}}
services: [{name: s, url: "http://UPSTREAM"}]
routes:
  - name: conditions
    service: s
    hosts: [conditions.test]
    policies:
      - {type: key-auth}
      - type: authorize
        config:
          rules:
            - request.method == "GET" && "staff" in principal.groups
            - principal.labels["team"] == "support" && request.path.startsWith("/tickets/")
            - {effect: deny, when: '"debug" in request.query'}
  - name: open
    service: s
    hosts: [open.test]
    authn: {anonymous: guest}
    policies:
      - {type: key-auth}
      - {type: authorize, config: {rules: principal.kind != "anonymous" || request.method == "GET"}}
  - name: listed
    service: s
    hosts: [listed.test]
    policies: [{type: key-auth}, {type: acl, config: {rules: [{allow: staff}, {allow_labels: {team: [support, sales]}, methods: GET}]}}]
  - {name: scoped, service: s, hosts: [scoped.test], policies: [{type: key-auth}, {type: acl, config: {require_scopes: admin}}]}
  - {name: plain, service: s, hosts: [plain.test]}
consumers:
  - {name: guest, policies: [{type: rate-limit, config: {windows: [{limit: 3, window: 3600s}]}}]}
  - {name: alice, groups: [staff], credentials: [{name: k, type: key-auth, config: {key: alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}]}
  - {name: bob, labels: {team: support}, credentials: [{name: k, type: key-auth, config: {key: bob-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY}}]}
`

// TestWhoMayDoWhat goes through what decides whether a known caller may: with a real gateway.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	revision := c.Apply(strings.ReplaceAll(authzDocument, "UPSTREAM", harness.Echo(t)))
	g := c.StartGateway("default")
	g.AwaitRevision(revision)
	key := func(who string) []string { return []string{"X-API-Key", who + "-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"} }

	t.Run("conditions", func(t *testing.T) {
		for _, tt := range []struct {
			method, path, who string
			want              int
		}{
			{http.MethodGet, "/", "alice", 200},
			{http.MethodPost, "/", "alice", 403},
			{http.MethodGet, "/?debug=1", "alice", 403},
			{http.MethodGet, "/", "bob", 403},
			{http.MethodPost, "/tickets/1", "bob", 200},
			{http.MethodPost, "/x/../tickets/1", "bob", 200},
			{http.MethodPost, "/tickets/../x", "bob", 403},
			{http.MethodGet, "/", "mallory", 401},
		} {
			if code, body := g.Send(t, tt.method, "conditions.test", tt.path, nil, key(tt.who)...); code != tt.want {
				t.Errorf("%s %s as %s: %d %s, want %d", tt.method, tt.path, tt.who, code, body, tt.want)
			}
		}
	})
	t.Run("lists", func(t *testing.T) {
		for _, tt := range []struct {
			method, host, who string
			want              int
		}{
			{http.MethodPost, "listed.test", "alice", 200},
			{http.MethodGet, "listed.test", "bob", 200},
			{http.MethodPost, "listed.test", "bob", 403},
			{http.MethodGet, "scoped.test", "alice", 403},
		} {
			if code, body := g.Send(t, tt.method, tt.host, "/", nil, key(tt.who)...); code != tt.want {
				t.Errorf("%s %s as %s: %d %s, want %d", tt.method, tt.host, tt.who, code, body, tt.want)
			}
		}
	})
	t.Run("anonymous", func(t *testing.T) {
		for i, tt := range []struct {
			method  string
			headers []string
			want    int
		}{
			{http.MethodGet, nil, 200},
			{http.MethodPost, nil, 403},
			{http.MethodPost, key("alice"), 200},
			{http.MethodGet, key("mallory"), 401},
			{http.MethodGet, nil, 200},
			{http.MethodGet, nil, 200},
			{http.MethodGet, nil, 429}, // the policies of the consumer apply
			{http.MethodGet, key("alice"), 200},
		} {
			if code, body := g.Send(t, tt.method, "open.test", "/", nil, tt.headers...); code != tt.want {
				t.Errorf("%d: %s with %q: %d %s, want %d", i, tt.method, tt.headers, code, body, tt.want)
			}
		}
		if answer := c.REST(http.MethodDelete, "/v1/groups/default/consumers/guest", ""); answer.Status != http.StatusConflict {
			t.Errorf("the anonymous consumer was deleted: %+v", answer)
		}
	})
	t.Run("services are told who calls", func(t *testing.T) {
		for _, tt := range []struct {
			host          string
			headers       []string
			want, without []string
		}{
			{"conditions.test", key("alice"), []string{`"X-Consumer-Name":["alice"]`, `"X-Consumer-Groups":["staff"]`}, []string{"root", "X-Anonymous"}},
			{"open.test", key("alice"), []string{`"X-Consumer-Name":["alice"]`}, []string{"root", "X-Anonymous"}},
			{"plain.test", nil, nil, []string{"root", "X-Consumer", "X_Consumer", "X-Anonymous"}},
		} {
			forged := append([]string{"X-Consumer-Name", "root", "X_Consumer_Groups", "root", "x-anonymous-consumer", "root"}, tt.headers...)
			code, body := g.Get(t, tt.host, "/", forged...)
			for _, s := range tt.want {
				if code != http.StatusOK || !strings.Contains(body, s) {
					t.Errorf("%s: %d %s, want it with %s", tt.host, code, body, s)
				}
			}
			for _, s := range tt.without {
				if code != http.StatusOK || strings.Contains(body, s) {
					t.Errorf("%s: %d %s, want it without %s", tt.host, code, body, s)
				}
			}
		}
	})
}
