package scenario_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/e2e/harness"
)

// badDocuments have several faults each; paths are all of them and nothing else.
var badDocuments = []struct {
	name, document string
	status         int
	paths          []string
}{
	{
		name: "fields nobody knows, on every level", status: http.StatusUnprocessableEntity,
		document: `
unknown: 1
services:
  - {name: s, url: "http://127.0.0.1:1", retry: {}}
routes:
  - {name: r, service: s, host: [a.test], rewrite: {strip: true}, policies: [{type: key-auth, config: {headers: X}}]}`,
		paths: []string{"unknown", "services[0].retry", "routes[0].host", "routes[0].rewrite.strip", "routes[0].policies[0].config.headers"},
	},
	{
		name: "values of the wrong type", status: http.StatusUnprocessableEntity,
		document: `
services:
  - {name: s, targets: [{address: "127.0.0.1:1", weight: heavy}], timeouts: {connect: soon, idle: [1]}}
routes:
  - {name: r, service: s, priority: high, enabled: 1, methods: {GET: true}}`,
		paths: []string{
			"services[0].targets[0].weight", "services[0].timeouts.connect", "services[0].timeouts.idle",
			"routes[0].priority", "routes[0].enabled", "routes[0].methods",
		},
	},
	{
		name: "values out of their range", status: http.StatusUnprocessableEntity,
		document: `
settings: {limits: {headers: 0, head: 1B, uri: 1MiB}}
services:
  - {name: s, targets: [{address: "127.0.0.1:1", weight: 70000}], timeouts: {connect: 11m}, pool: {idle_timeout: 2h}}
routes:
  - {name: r, service: s, priority: 1001, policies: [{type: rate-limit, config: {windows: [{limit: 0, window: 0s}]}}]}`,
		paths: []string{
			"settings.limits.headers", "settings.limits.head", "settings.limits.uri",
			"services[0].targets[0].weight", "services[0].timeouts.connect", "services[0].pool.idle_timeout",
			"routes[0].priority", "routes[0].policies[0].config.windows[0].limit", "routes[0].policies[0].config.windows[0].window",
		},
	},
	{
		name: "calls that contradict themselves", status: http.StatusUnprocessableEntity,
		document: `
settings: {listeners: {http: {proxy_protocol: true}, inner: {}}, access_log: {sample: 50, headers: [Cookie], redact: [status]}}
services:
  - {name: a, url: "http://127.0.0.1:1", protocol: grpcs}
  - {name: b, url: "http://127.0.0.1:1", tls: {ca: partners, min_version: 1.3, max_version: 1.2, pins: [00]}}
  - {name: c, url: "http://127.0.0.1:1", balancer: {algorithm: consistent-hash, hash_on: header}, health: {}}
  - {name: d, url: "http://127.0.0.1:1", retries: {attempts: 11, on: [never]}, circuit_breaker: {failure_ratio: 0.5%}}
  - {name: e, url: "https://127.0.0.1:1", protocol: h2, health: {active: {path: up, statuses: 600}}}
routes:
  - {name: r, service: e, hosts: [a.test], upgrade: [websocket, h2c], limits: {body: lots}, retries: {attempts: 0}}`,
		paths: []string{
			"settings.listeners.http.proxy_protocol", "settings.listeners.inner",
			"settings.access_log.sample", "settings.access_log.headers[0]", "settings.access_log.redact[0]",
			"services[0].protocol", "services[1].tls", "services[1].tls.ca", "services[1].tls.max_version", "services[1].tls.pins[0]",
			"services[2].balancer.hash_on", "services[2].health",
			"services[3].retries.attempts", "services[3].retries.on[0]", "services[3].circuit_breaker.failure_ratio",
			"services[4].health.active.path", "services[4].health.active.statuses",
			"routes[0].upgrade", "routes[0].upgrade[1]", "routes[0].limits.body", "routes[0].retries.attempts",
		},
	},
	{
		name: "references to nothing", status: http.StatusUnprocessableEntity,
		document: `
services: [{name: s, url: "http://127.0.0.1:1"}]
routes:
  - {name: r1, service: gone, hosts: [a.test]}
  - {name: r2, service: s, hosts: [b.test], policies: [{type: key-auth}, {type: acl, config: {allow_consumers: [s, nobody]}}]}
consumers: [{name: s}]`,
		paths: []string{"routes[0].service", "routes[1].policies[1].config.allow_consumers[1]"},
	},
	{
		name: "names that are none, and the same twice", status: http.StatusUnprocessableEntity,
		document: `
services:
  - {name: "a b", url: "http://127.0.0.1:1"}
  - {name: -x, url: "http://127.0.0.1:1"}
  - {url: "http://127.0.0.1:1"}
  - {name: s, url: "http://127.0.0.1:1"}
  - {name: s, url: "http://127.0.0.1:2"}`,
		paths: []string{"services[0].name", "services[1].name", "services[2].name", "services[4].name"},
	},
	{
		name: "addresses that are none", status: http.StatusUnprocessableEntity,
		document: `
settings: {trusted_proxies: [10.0.0.0/33, nonsense], upstream_networks: {allow: [300.0.0.1]}}
services:
  - {name: s1, url: "ftp://x"}
  - {name: s2, targets: ["no-port", "[::1:1"]}
  - {name: s3}
routes:
  - {name: r, service: s1, hosts: ["*.*.test", "a b"], policies: [{type: ip-restriction, config: {deny: [1.2.3]}}]}`,
		paths: []string{
			"settings.trusted_proxies[0]", "settings.trusted_proxies[1]", "settings.upstream_networks.allow[0]",
			"services[0].url", "services[1].targets[0]", "services[1].targets[1]", "services[2]",
			"routes[0].hosts[0]", "routes[0].hosts[1]", "routes[0].policies[0].config.deny[0]",
		},
	},
	{
		name: "keys that are weak, and one key twice", status: http.StatusUnprocessableEntity,
		document: `
consumers:
  - name: a
    credentials:
      - {name: c1, type: key-auth, config: {key: short}}
      - {name: c2, type: key-auth, config: {key: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
      - {name: c3, type: key-auth, config: {}}
      - {name: c4, type: none, config: {key: x}}
      - {name: c5, type: key-auth, config: {key: "Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"}}
      - {name: c6, type: key-auth, config: {key: "Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"}}`,
		paths: []string{
			"consumers[0].credentials[0].config.key", "consumers[0].credentials[1].config.key",
			"consumers[0].credentials[2].config.key", "consumers[0].credentials[3].type", "consumers[0].credentials[5].config.key",
		},
	},
	{
		name: "policies in places where they may not be, or twice", status: http.StatusUnprocessableEntity,
		document: `
consumers:
  - {name: a, policies: [{type: key-auth}, {type: cors, config: {allow_origins: ["*"]}}, {type: unknown}]}
consumer-groups:
  - {name: g, policies: [{type: request-size-limit}]}
services:
  - {name: s, url: "http://127.0.0.1:1", policies: [{type: acl, config: {allow: [g]}}, {type: acl, config: {allow: [h]}}]}`,
		paths: []string{
			"consumers[0].policies[0].type", "consumers[0].policies[1].type", "consumers[0].policies[2].type",
			"consumer-groups[0].policies[0].type", "services[0].policies[1].name",
		},
	},
	{
		name: "policies without what they need", status: http.StatusUnprocessableEntity,
		document: `
services:
  - name: s
    url: "http://127.0.0.1:1"
    policies:
      - {type: acl}
      - {type: rate-limit, config: {by: header, windows: [{limit: 1, window: 1s}]}}
      - {type: cors, config: {allow_origins: ["*"], allow_credentials: true}}
      - {type: ip-restriction, config: {}}
      - {config: {}}
      - {type: key-auth, mode: report}`,
		paths: []string{
			"services[0].policies[0].config", "services[0].policies[1].config", "services[0].policies[2].config",
			"services[0].policies[3].config", "services[0].policies[4].type", "services[0].policies[5].mode",
		},
	},
	{
		name: "paths and expressions that cannot be", status: http.StatusUnprocessableEntity,
		document: `
services: [{name: s, url: "http://127.0.0.1:1"}]
routes:
  - name: r
    service: s
    hosts: [a.test]
    paths: [relative, {regex: "^/a("}, {exact: "/a", prefix: "/b"}, {}]
    headers: [{exact: x}, {name: X-A}]
    authn: {any_of: [[nothing]]}`,
		paths: []string{
			"routes[0].paths[0]", "routes[0].paths[1].regex", "routes[0].paths[2].prefix", "routes[0].paths[3]",
			"routes[0].headers[0].name", "routes[0].headers[1]", "routes[0].authn.any_of[0][0]",
		},
	},
	{
		name: "two routes for the same requests, and a key set twice", status: http.StatusUnprocessableEntity,
		document: `
services: [{name: s, url: "http://127.0.0.1:1"}]
routes:
  - {name: r1, service: s, hosts: [a.test], paths: [/x]}
  - {name: r2, service: s, hosts: [a.test], paths: [/x]}
  - {name: r3, service: s, service: s, hosts: [c.test]}`,
		paths: []string{"routes[1].paths[0]", "routes[2].service"},
	},
	{
		name: "a locked policy, overridden and switched off below", status: http.StatusUnprocessableEntity,
		document: `
settings: {policies: [{type: rate-limit, locked: true, config: {windows: [{limit: 1, window: 1s}]}}]}
services: [{name: s, url: "http://127.0.0.1:1", policies: [{type: rate-limit, name: other, config: {windows: [{limit: 9, window: 1s}]}}]}]
routes: [{name: r, service: s, hosts: [a.test], policies: [{type: rate-limit, config: {windows: [{limit: 9, window: 1s}]}}]}]
consumer-groups: [{name: g, policies: [{type: rate-limit, enabled: false, config: {windows: [{limit: 9, window: 1s}]}}]}]
consumers: [{name: c, policies: [{type: rate-limit, config: {windows: [{limit: 9, window: 1s}]}}]}]`,
		// settings.policies: the route that is stored already overrides it, too.
		paths: []string{"settings.policies", "routes[0].policies[0]", "consumer-groups[0].policies[0]", "consumers[0].policies[0]"},
	},
	{
		name: "references to secrets of other products and of no provider", status: http.StatusUnprocessableEntity,
		document: `
consumers:
  - name: a
    credentials:
      - {name: c1, type: key-auth, config: {key: "{vault://corp/keys/a#key}"}}
      - {name: c2, type: key-auth, config: {key: "$secret://vault/1/a"}}
      - {name: c3, type: key-auth, config: {key: {set: true}}}`,
		paths: []string{
			"consumers[0].credentials[0].config.key", "consumers[0].credentials[1].config.key", "consumers[0].credentials[2].config.key",
		},
	},
}

// TestBadDocumentsAreAnsweredWithEveryFault applies them, over REST and by the command line, and holds that nothing at all
// is written.
func TestBadDocumentsAreAnsweredWithEveryFault(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(withUpstream("127.0.0.1:9"))
	var tables []string // all but those in which replicas note from time to time that they live, and what jobs they do
	for _, row := range c.Rows(`select tablename from pg_tables where schemaname = 'public' and tablename not like 'river%' and tablename <> 'replicas' order by 1`) {
		tables = append(tables, row[0])
	}
	before := dump(c, tables...)
	for _, tt := range badDocuments {
		t.Run(tt.name, func(t *testing.T) {
			document := "group: default" + tt.document + "\n"
			a := c.REST(http.MethodPost, "/v1/groups/default:apply", document)
			var problem struct {
				Violations []struct{ Path, Reason string }
			}
			if err := a.JSON(&problem); err != nil || a.Status != tt.status {
				t.Fatalf("answered %d, want %d: %s", a.Status, tt.status, a.Body)
			}
			var got []string
			for _, v := range problem.Violations {
				got = append(got, v.Path)
				if v.Reason == "" {
					t.Errorf("%s is refused without a reason", v.Path)
				}
			}
			want := slices.Sorted(slices.Values(tt.paths))
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("paths (-want +got):\n%s\n%s", diff, a.Body)
			}
			out := c.CLI(document, "apply", "-f", "-")
			if out.Code != 1 || out.Stdout != "" {
				t.Errorf("keyward apply: exit %d, stdout %q", out.Code, out.Stdout)
			}
			for _, path := range tt.paths {
				if !strings.Contains(out.Stderr, path) {
					t.Errorf("keyward apply does not name %s:\n%s", path, out.Stderr)
				}
			}
		})
	}
	if after := dump(c, tables...); after != before {
		t.Errorf("refused documents changed the database:\n%s", cmp.Diff(before, after))
	}
}

// TestRequestsThatAreNotWellFormedAreRefused is about everything before a document's meaning.
func TestRequestsThatAreNotWellFormedAreRefused(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(withUpstream("127.0.0.1:9"))
	const route = "/v1/groups/default/routes/hello"
	etag := c.REST(http.MethodGet, route, "").Header.Get("ETag")
	if etag == "" {
		t.Error("a resource has no ETag")
	}
	before := dump(c, "resources", "heads", "changes", "audit")
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		want                     int
	}{
		{"YAML that is none", "POST", "/v1/groups/default:apply", "a: [", nil, 400},
		{"JSON that is none", "PUT", route, `{"service": `, []string{"Content-Type", "application/json"}, 400},
		{"an alias", "POST", "/v1/groups/default:apply", "services: &a []\nroutes: *a\n", nil, 400},
		{"a media type nobody reads", "PUT", route, "<x/>", []string{"Content-Type", "application/xml"}, 415},
		{"an etag that is gone", "PUT", route, `{service: hello}`, []string{"If-Match", `"0"`}, 412},
		{"create of what is there", "PUT", route, `{service: hello}`, []string{"If-None-Match", "*"}, 412},
		{"a name that is not the path's", "PUT", route, `{name: other, service: hello}`, nil, 422},
		{"a service in use", "DELETE", "/v1/groups/default/services/hello", "", nil, 409},
		{"nothing there", "GET", "/v1/groups/default/routes/none", "", nil, 404},
		{"a group that is not there", "GET", "/v1/groups/none/routes", "", nil, 404},
		{"apply to a group that is not there", "POST", "/v1/groups/none:apply", "group: none\n", nil, 404},
		{"another group than the path's", "POST", "/v1/groups/default:apply", "group: none\n", nil, 422},
		{"a document beyond 64 MiB", "POST", "/v1/groups/default:apply", strings.Repeat("# filling a document with nothing at all\n", 1_700_000), nil, 413},
		{"a body beyond 2 MiB", "PUT", "/v1/groups/default/consumers/big", `{description: "` + strings.Repeat("x", 2100<<10) + `"}`, nil, 413},
		{"a resource beyond 1 MiB", "PUT", "/v1/groups/default/consumers/big", `{description: "` + strings.Repeat("x", 1100<<10) + `"}`, nil, 422},
		{"a page token that is none", "GET", "/v1/groups/default/routes?page_token=x", "", nil, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := c.REST(tt.method, tt.path, tt.body, tt.headers...)
			if a.Status != tt.want {
				t.Errorf("answered %d %.300s, want %d", a.Status, a.Body, tt.want)
			}
			if got := a.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/problem+json") {
				t.Errorf("the answer is %q", got)
			}
		})
	}
	if after := dump(c, "resources", "heads", "changes", "audit"); after != before {
		t.Errorf("refused requests changed the database:\n%s", cmp.Diff(before, after))
	}
}
