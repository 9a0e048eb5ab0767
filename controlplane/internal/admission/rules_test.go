package admission_test

import (
	"slices"
	"strings"
	"testing"
)

const base = `
settings: {require_https: false}
services:
  - {name: s, url: "http://a.test"}
routes:
  - {name: r, service: s, hosts: [r.test]}
consumers:
  - name: alice
    groups: [gold]
    credentials: [{name: a1, type: key-auth, config: {key: "Zq7xV2mN9pL4tR8wB1cD5fG6"}}]
consumer-groups:
  - {name: gold}
`

// forwarding is added to base for rules about how requests are forwarded and logged.
const forwarding = `
settings: {require_https: false, access_log: {headers: X-Logged}}
services:
  - {name: up, url: "https://a.test"}
routes:
  - {name: up, service: up, hosts: [up.test], upgrade: websocket}
  - {name: keyed, service: s, hosts: [keyed.test], policies: [{type: key-auth, config: {header: X-Service-Key}}]}
`

// TestRules has, for each rule of admission, a document that keeps it and one that breaks it, both applied to base.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rule, accept, reject string
		paths                []string
		reason               string
	}{
		{"name", "services: [{name: x, url: http://a.test}]", "services: [{url: http://a.test}]", []string{"services[0].name"}, "required"},
		{"required fields", "routes: [{name: x, service: s}]", "routes: [{name: x}]", []string{"routes[0].service"}, "required"},
		{"cross-field rules", "services: [{name: x, targets: [\"a:1\"]}]", "services: [{name: x, url: http://a.test, targets: [\"a:1\"]}]", []string{"services[0]"}, "either url or targets"},
		{"neither", "services: [{name: x, targets: [\"a:1\"]}]", "services: [{name: x}]", []string{"services[0]"}, "either url or targets"},
		{"url with path", "services: [{name: x, url: http://a.test/p}]", "services: [{name: x, url: http://a.test, path: /p}]", []string{"services[0]"}, "url already says"},
		{"bounds", "services: [{name: x, url: http://a.test, timeouts: {connect: 10m}}]", "services: [{name: x, url: http://a.test, timeouts: {connect: 11m}}]", []string{"services[0].timeouts.connect"}, "600s"},
		{
			"bounds in configs", "settings: {policies: [{type: rate-limit, config: {windows: [{limit: 1, window: 1s}]}}]}",
			"settings: {policies: [{type: rate-limit, config: {windows: [{limit: 0, window: 1s}]}}]}",
			[]string{"settings.policies[0].config.windows[0].limit"},
			"greater than or equal to 1",
		},
		{"required in configs", "settings: {policies: [{type: acl, config: {allow: gold}}]}", "settings: {policies: [{type: acl}]}", []string{"settings.policies[0].config"}, "at least one of"},
		{
			"length in configs", "routes: [{name: x, service: s, policies: [{type: rate-limit, config: {windows: [{limit: 1, window: 1s}]}}]}]",
			"routes: [{name: x, service: s, policies: [{type: rate-limit}]}]",
			[]string{"routes[0].policies[0].config.windows"},
			"at least 1",
		},
		{
			"binding names", "routes: [{name: x, service: s, policies: [{type: key-auth}, {type: key-auth, name: b}]}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth}, {type: key-auth}]}]",
			[]string{"routes[0].policies[1].name"},
			"already is the name",
		},
		{"target addresses", "services: [{name: x, targets: [\"a:1\", \"a:2\"]}]", "services: [{name: x, targets: [\"a:1\", \"A:1\"]}]", []string{"services[0].targets[1]"}, "already is the address"},
		{
			"shared checks", "routes: [{name: x, service: s, paths: [/a], rewrite: {strip_prefix: true}}]",
			"routes: [{name: x, service: s, paths: [{exact: /a}], rewrite: {strip_prefix: true}}]",
			[]string{"routes[0].rewrite.strip_prefix"},
			"only for prefix",
		},
		{
			"binding sites", "consumers: [{name: x, policies: [{type: ip-restriction, config: {deny: 10.0.0.0/8}}]}]",
			"consumers: [{name: x, policies: [{type: key-auth}]}]",
			[]string{"consumers[0].policies[0].type"},
			"cannot be bound on a consumer",
		},
		{"references", "routes: [{name: x, service: s}]", "routes: [{name: x, service: t}]", []string{"routes[0].service"}, "there is no services/t"},
		{"references in the request", "services: [{name: t, url: http://a.test}]\nroutes: [{name: x, service: t}]", "routes: [{name: x, service: X}]", []string{"routes[0].service"}, "there is no"},
		{
			"references in configs", "settings: {policies: [{type: acl, config: {allow_consumers: alice}}]}",
			"settings: {policies: [{type: acl, config: {deny_consumers: [alice, bob]}}]}",
			[]string{"settings.policies[0].config.deny_consumers[1]"},
			"there is no consumers/bob",
		},
		{
			"owners", "credentials: [{name: a2, consumer: alice, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]",
			"credentials: [{name: a2, consumer: bob, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]",
			[]string{"credentials[0].consumer"},
			"there is no consumers/bob",
		},
		{"owners are named", "consumers: [{name: c}]", "credentials: [{name: a2, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]", []string{"credentials[0].consumer"}, "required"},
		{
			"names are unique", "services: [{name: x, url: http://a.test}, {name: y, url: http://a.test}]",
			"services: [{name: x, url: http://a.test}, {name: x, url: http://a.test}]",
			[]string{"services[1].name"},
			"already names",
		},
		{
			"keys are unique", "consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]}]",
			"consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG6}}]}]",
			[]string{"consumers[0].credentials[0].config.key"},
			"credentials/alice/a1 has the same key",
		},
		{
			"keys are unique in a request", "consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]}]",
			"consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}, {name: l, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}}]}]",
			[]string{"consumers[0].credentials[1].config.key"},
			"credentials/b/k has the same key",
		},
		{
			"strong keys", "consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: abc, allow_weak: true}}]}]",
			"consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: abc}}]}]",
			[]string{"consumers[0].credentials[0].config.key"},
			"at least 20",
		},
		{
			"a key at all", "consumers: [{name: alice, credentials: [{name: a1, type: key-auth}]}]",
			"consumers: [{name: alice, credentials: [{name: a2, type: key-auth}]}]",
			[]string{"consumers[0].credentials[0].config.key"},
			"required",
		},
		{
			"kept keys", "consumers: [{name: alice, credentials: [{name: a1, type: key-auth, config: {key: {set: true}}}]}]",
			"consumers: [{name: alice, credentials: [{name: a2, type: key-auth, config: {key: {set: true}}}]}]",
			[]string{"consumers[0].credentials[0].config.key"},
			"nothing is stored",
		},
		{
			"cleared keys", "consumers: [{name: alice, credentials: [{name: a1, type: key-auth, config: {allow_weak: true}}]}]",
			"consumers: [{name: alice, credentials: [{name: a1, type: key-auth, config: {key: null}}]}]",
			[]string{"consumers[0].credentials[0].config.key"},
			"cannot be cleared",
		},
		{
			"validity", "consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}, not_before: 2026-01-01T00:00:00Z, expires: 2026-01-02T00:00:00Z}]}]",
			"consumers: [{name: b, credentials: [{name: k, type: key-auth, config: {key: Zq7xV2mN9pL4tR8wB1cD5fG7}, not_before: 2026-01-02T00:00:00Z, expires: 2026-01-02T00:00:00Z}]}]",
			[]string{"consumers[0].credentials[0]"},
			"earlier than expires",
		},
		{
			"any_of names", "settings: {policies: [{type: key-auth, name: a}]}\nroutes: [{name: x, service: s, authn: {any_of: [[a]]}}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth, name: b}], authn: {any_of: [[b], [a, b]]}}]",
			[]string{"routes[0].authn.any_of[1][0]"},
			"no active authentication binding",
		},
		{
			"any_of names authentication", "routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {any_of: [[key-auth]]}}]",
			"routes: [{name: x, service: s, policies: [{type: cors, config: {allow_origins: \"*\"}}], authn: {any_of: [[cors]]}}]",
			[]string{"routes[0].authn.any_of[0][0]"},
			"no active authentication binding",
		},
		{
			"any_of names what is on", "routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {any_of: [[key-auth]]}}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth, enabled: false}], authn: {any_of: [[key-auth]]}}]",
			[]string{"routes[0].authn.any_of[0][0]"},
			"no active authentication binding",
		},
		{
			"any_of keeps locks", "settings: {policies: [{type: key-auth, locked: true}]}\nroutes: [{name: x, service: s, authn: {any_of: [[key-auth]]}}]",
			"settings: {policies: [{type: key-auth, locked: true}]}\nroutes: [{name: x, service: s, policies: [{type: key-auth, name: b}], authn: {any_of: [[b], [key-auth, b]]}}]",
			[]string{"routes[0].authn.any_of[0]"},
			"locked on settings",
		},
		{
			"told who calls in a field of keys", "settings: {identity_headers: {consumer: X-Consumer-Name}}\nroutes: [{name: x, service: s, policies: [{type: key-auth, config: {header: X-Consumer-Key}}]}]",
			"settings: {identity_headers: {consumer: X-Consumer-Key}}\nroutes: [{name: x, service: s, policies: [{type: key-auth, config: {header: x-consumer-key}}]}]",
			[]string{"settings.identity_headers.consumer"},
			"would find no credentials there",
		},
		{
			"anonymous is a consumer", "routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {anonymous: alice}}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {anonymous: nobody}}]",
			[]string{"routes[0].authn.anonymous"},
			"there is no consumers/nobody",
		},
		{
			"anonymous where credentials are asked for", "settings: {policies: [{type: key-auth}]}\nroutes: [{name: x, service: s, authn: {anonymous: alice}}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth, enabled: false}], authn: {anonymous: alice}}]",
			[]string{"routes[0].authn.anonymous"},
			"no authentication policy",
		},
		{
			"anonymous keeps locks", "routes: [{name: x, service: s, policies: [{type: key-auth, locked: true}], authn: {anonymous: alice}}]",
			"settings: {policies: [{type: key-auth, locked: true}]}\nroutes: [{name: x, service: s, authn: {anonymous: alice}}]",
			[]string{"routes[0].authn.anonymous"},
			"locked on settings",
		},
		{
			"authn says something", "routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {any_of: [[key-auth]], anonymous: alice}}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth}], authn: {any_of: []}}]",
			[]string{"routes[0].authn"},
			"give any_of, anonymous or both",
		},
		{
			"locks", "settings: {policies: [{type: rate-limit, locked: true, config: {windows: [{limit: 1, window: 1s}]}}]}\nroutes: [{name: x, service: s, policies: [{type: rate-limit, name: other, config: {windows: [{limit: 1, window: 1s}]}}]}]",
			"settings: {policies: [{type: rate-limit, locked: true, config: {windows: [{limit: 1, window: 1s}]}}]}\nroutes: [{name: x, service: s, policies: [{type: rate-limit, enabled: false, config: {windows: [{limit: 1, window: 1s}]}}]}]",
			[]string{"routes[0].policies[0]"},
			"locked on settings",
		},
		{
			"locks of ALL types only add", "settings: {policies: [{type: acl, locked: true, config: {allow: gold}}]}\nroutes: [{name: x, service: s, policies: [{type: acl, config: {allow: gold}}]}]",
			"settings: {policies: [{type: cors, locked: true, config: {allow_origins: \"*\"}}]}\nservices: [{name: s, url: http://a.test, policies: [{type: cors, config: {allow_origins: \"*\"}}]}]",
			[]string{"services[0].policies[0]"},
			"locked on settings",
		},
		{
			"locks of services", "services: [{name: s, url: http://a.test, policies: [{type: cors, locked: true, enabled: false, config: {allow_origins: \"*\"}}]}]\nroutes: [{name: x, service: s, policies: [{type: cors, config: {allow_origins: \"*\"}}]}]",
			"services: [{name: s, url: http://a.test, policies: [{type: cors, locked: true, config: {allow_origins: \"*\"}}]}]\nroutes: [{name: x, service: s, policies: [{type: cors, config: {allow_origins: \"*\"}}]}]",
			[]string{"routes[0].policies[0]"},
			"locked on services/s",
		},
		{
			"locks of consumer groups", "consumer-groups: [{name: gold, policies: [{type: rate-limit, locked: true, config: {windows: [{limit: 1, window: 1s}]}}]}]\nconsumers: [{name: bob, policies: [{type: rate-limit, config: {windows: [{limit: 1, window: 1s}]}}]}]",
			"consumer-groups: [{name: gold, policies: [{type: rate-limit, locked: true, config: {windows: [{limit: 1, window: 1s}]}}]}]\nconsumers: [{name: bob, groups: gold, policies: [{type: rate-limit, config: {windows: [{limit: 1, window: 1s}]}}]}]",
			[]string{"consumers[0].policies[0]"},
			"locked on consumer-groups/gold",
		},
		{"routes apart", "routes: [{name: x, service: s, hosts: r.test, priority: 1}]", "routes: [{name: x, service: s, hosts: r.test, paths: /}]", []string{"routes[0].paths"}, "routes/r has the same"},
		{"routes apart by conditions", "routes: [{name: x, service: s, hosts: r.test, methods: GET}]", "routes: [{name: x, service: s, hosts: [other.test, R.test]}]", []string{"routes[0].hosts[1]"}, "routes/r has the same"},
		{"routes apart in a request", "routes: [{name: x, service: s, paths: [/a, {exact: /a}]}]", "routes: [{name: x, service: s, paths: /a, methods: [GET, PUT]}, {name: y, service: s, paths: /%61, methods: [PUT, GET]}]", []string{"routes[1].paths"}, "routes/x has the same"},
		{"off is no excuse", "routes: [{name: x, service: s, hosts: x.test, enabled: false}]", "routes: [{name: x, service: s, hosts: r.test, enabled: false}]", []string{"routes[0].hosts"}, "routes/r has the same"},
		{
			"upgrades to services in HTTP/1.1", "routes: [{name: x, service: s, upgrade: websocket}]",
			"services: [{name: t, url: http://a.test, protocol: grpc}]\nroutes: [{name: x, service: t, upgrade: websocket}]",
			[]string{"routes[0].upgrade"},
			"services/t is spoken to in HTTP/2",
		},
		{
			"services of routes that upgrade", "services: [{name: s, url: https://a.test, protocol: h2}]",
			"services: [{name: up, url: https://a.test, protocol: h2}]",
			[]string{"services[0].protocol"},
			"routes/up",
		},
		{
			"logged headers without keys", "settings: {access_log: {headers: [X-Tenant]}}",
			"settings: {access_log: {headers: [X-Tenant, x-service-key]}}",
			[]string{"settings.access_log.headers[1]"},
			"key-auth of routes/keyed looks there",
		},
		{
			"keys out of logged headers", "routes: [{name: x, service: s, policies: [{type: key-auth, enabled: false, config: {header: X-Logged}}]}]",
			"routes: [{name: x, service: s, policies: [{type: key-auth, config: {header: [X-Key, x-logged]}}]}]",
			[]string{"routes[0].policies[0].config.header[1]"},
			"is logged",
		},
		{
			"tokens out of logged headers", "routes: [{name: x, service: s, policies: [{type: jwt-auth, enabled: false, config: {header: X-Logged}}]}]",
			"routes: [{name: x, service: s, policies: [{type: jwt-auth, config: {header: [X-Token, x-logged]}}]}]",
			[]string{"routes[0].policies[0].config.header[1]"},
			"is logged",
		},
		{"some health check", "services: [{name: x, url: http://a.test, health: {passive: {}}}]", "services: [{name: x, url: http://a.test, health: {}}]", []string{"services[0].health"}, "give active, passive or both"},
		{"tries", "services: [{name: x, url: http://a.test, retries: {attempts: 10}}]", "services: [{name: x, url: http://a.test, retries: {attempts: 11}}]", []string{"services[0].retries.attempts"}, "less than or equal to 10"},
		{"tries on a route", "routes: [{name: x, service: s, retries: {attempts: 1}}]", "routes: [{name: x, service: s, retries: {attempts: 0}}]", []string{"routes[0].retries.attempts"}, "greater than or equal to 1"},
		{"timeouts of a route", "routes: [{name: x, service: s, timeouts: {total: 0s}}]", "routes: [{name: x, service: s, timeouts: {idle: 0s}}]", []string{"routes[0].timeouts.idle"}, "greater than or equal to"},
		{"stream age", "routes: [{name: x, service: s, max_stream_age: 720h}]", "routes: [{name: x, service: s, max_stream_age: 721h}]", []string{"routes[0].max_stream_age"}, "less than or equal to"},
		{"body of a route", "routes: [{name: x, service: s, limits: {body: 1TiB}}]", "routes: [{name: x, service: s, limits: {body: 2TiB}}]", []string{"routes[0].limits.body"}, "less than or equal to"},
		{"statuses of probes", "services: [{name: x, url: http://a.test, health: {active: {statuses: [200, 599]}}}]", "services: [{name: x, url: http://a.test, health: {active: {statuses: [200, 600]}}}]", []string{"services[0].health.active.statuses[1]"}, "less than or equal to 599"},
		{"statuses of requests", "services: [{name: x, url: http://a.test, health: {passive: {statuses: 503}}}]", "services: [{name: x, url: http://a.test, health: {passive: {statuses: 101}}}]", []string{"services[0].health.passive.statuses"}, "greater than or equal to 200"},
		{"paths of probes", "services: [{name: x, url: http://a.test, health: {active: {path: /}}}]", "services: [{name: x, url: http://a.test, health: {active: {path: healthz}}}]", []string{"services[0].health.active.path"}, "begins with /"},
		{"probes that end", "services: [{name: x, url: http://a.test, health: {active: {interval: 2s}}}]", "services: [{name: x, url: http://a.test, health: {active: {interval: 1s}}}]", []string{"services[0].health.active.timeout"}, "longer than the interval"},
		{"connections", "settings: {limits: {connections: 10000000, connections_per_client: 100}}", "settings: {limits: {connections: 10000001}}", []string{"settings.limits.connections"}, "less than or equal to"},
		{"PROXY headers of somebody", "settings: {trusted_proxies: [10.0.0.0/8], listeners: {http: {proxy_protocol: true}}}", "settings: {listeners: {http: {proxy_protocol: true}}}", []string{"settings.listeners.http.proxy_protocol"}, "needs trusted_proxies"},
		{"hashes of something", "services: [{name: x, url: http://a.test, balancer: {algorithm: consistent-hash, hash_on: {by: cookie, name: sid}}}]", "services: [{name: x, url: http://a.test, balancer: {algorithm: consistent-hash, hash_on: cookie}}]", []string{"services[0].balancer.hash_on"}, "needs the name"},
		{"authorities", "services: [{name: x, url: https://a.test, tls: {ca: gateway:/etc/ca.pem}}]", "services: [{name: x, url: https://a.test, tls: {ca: /etc/ca.pem}}]", []string{"services[0].tls.ca"}, "gateway:/path"},
		{"output-only fields", "routes: [{name: r, service: s, hosts: [r.test], uid: uid-4, revision: 1, etag: \"1\"}]", "routes: [{name: r, service: s, hosts: [r.test], uid: uid-4, revision: 2}]", []string{"routes[0].revision"}, "set by the server"},
		{"output-only fields of new resources", "routes: [{name: x, service: s}]", "routes: [{name: x, service: s, uid: x}]", []string{"routes[0].uid"}, "set by the server"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must(base)
			g.must(forwarding)
			if tt.rule == "output-only fields" {
				r, _ := g.Get("routes", "r")
				tt.accept, tt.reject = strings.ReplaceAll(tt.accept, "uid-4", r.UID), strings.ReplaceAll(tt.reject, "uid-4", r.UID)
			}
			_, vs := g.apply(tt.reject, false)
			if !slices.Equal(pathsOf(vs), tt.paths) {
				t.Fatalf("%s\ngives %v, want paths %q", tt.reject, vs, tt.paths)
			}
			if !strings.Contains(vs[0].Reason, tt.reason) {
				t.Errorf("reason %q, want %q in it", vs[0].Reason, tt.reason)
			}
			if vs[0].Line == 0 {
				t.Errorf("%v has no position", vs[0])
			}
			if _, vs := g.apply(tt.accept, false); len(vs) > 0 {
				t.Errorf("%s\nis refused: %v", tt.accept, vs)
			}
		})
	}
}
