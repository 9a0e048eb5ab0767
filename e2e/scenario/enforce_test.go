package scenario_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

const (
	goldKey   = "gold-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"
	silverKey = "silver-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"
)

// bindings is a table of what a narrower level tries against a policy of a wider one. Each is a group document of its own;
// hosts are h.test. The request is made as gold and as silver.
var bindings = []struct {
	name                     string
	settings, service, route string // policies
	gold, group              string // policies of consumer gold and of consumer group metal, which both consumers carry
	wantGold, wantSilver     int
}{
	{name: "nothing bound", wantGold: 200, wantSilver: 200},
	{
		name: "a route's acl cannot let in whom the settings' acl keeps out", settings: `{type: acl, config: {allow: [silvers]}}`,
		route: `{type: acl, config: {allow: [golds, silvers]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a consumer's acl cannot let itself in", route: `{type: acl, config: {deny_consumers: [gold]}}`,
		gold: `{type: acl, config: {allow_consumers: [gold]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a consumer group's acl cannot let its members in", service: `{type: acl, config: {deny: [golds]}}`,
		group: `{type: acl, config: {allow: [golds, silvers]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a route cannot switch the settings' acl off", settings: `{type: acl, config: {deny: [golds]}}`,
		route: `{type: acl, enabled: false, config: {deny: [nobody]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a consumer cannot switch the route's acl off", route: `{type: acl, config: {deny: [golds]}}`,
		gold: `{type: acl, enabled: false, config: {deny: [nobody]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a route cannot make the settings' acl a report", settings: `{type: acl, config: {deny: [golds]}}`,
		route: `{type: acl, mode: report, config: {deny: [golds]}}`, wantGold: 403, wantSilver: 200,
	},
	{
		name: "a report refuses nobody", route: `{type: acl, mode: report, config: {deny: [golds]}}`, wantGold: 200, wantSilver: 200,
	},
	{
		name: "narrower levels add", settings: `{type: acl, config: {deny: [nobody]}}`, gold: `{type: ip-restriction, config: {deny: [127.0.0.1]}}`,
		wantGold: 403, wantSilver: 200,
	},
	{
		name: "a consumer's ip-restriction cannot undo the route's", route: `{type: ip-restriction, config: {deny: [127.0.0.1]}}`,
		gold: `{type: ip-restriction, config: {allow: [127.0.0.1]}}`, wantGold: 403, wantSilver: 403,
	},
	{
		name: "a route's size limit cannot undo the settings'", settings: `{type: request-size-limit, config: {max: 0B, require_content_length: true}}`,
		route: `{type: request-size-limit, config: {max: 1MiB}}`, wantGold: 413, wantSilver: 413,
	},
	{
		name: "the most specific rate limit wins: consumer", settings: `{type: rate-limit, config: {windows: [{limit: 1, window: 60s}]}}`,
		gold: `{type: rate-limit, config: {windows: [{limit: 100, window: 60s}]}}`, wantGold: 200, wantSilver: 429,
	},
	{
		name: "the most specific rate limit wins: group over route", route: `{type: rate-limit, config: {windows: [{limit: 1, window: 60s}]}}`,
		group: `{type: rate-limit, config: {windows: [{limit: 100, window: 60s}]}}`, wantGold: 200, wantSilver: 200,
	},
	{
		name: "the most specific rate limit wins: route over settings", settings: `{type: rate-limit, config: {windows: [{limit: 100, window: 60s}]}}`,
		route: `{type: rate-limit, config: {windows: [{limit: 1, window: 60s}]}}`, wantGold: 429, wantSilver: 429,
	},
	{
		name: "a rate limit that is not locked can be switched off", settings: `{type: rate-limit, config: {windows: [{limit: 1, window: 60s}]}}`,
		gold: `{type: rate-limit, enabled: false, config: {windows: [{limit: 1, window: 60s}]}}`, wantGold: 200, wantSilver: 429,
	},
	{
		name: "rate limits of other names stack", settings: `{type: rate-limit, name: all, config: {windows: [{limit: 1, window: 60s}]}}`,
		gold: `{type: rate-limit, config: {windows: [{limit: 100, window: 60s}]}}`, wantGold: 429, wantSilver: 429,
	},
	{
		name: "a second key-auth asks too", settings: `{type: key-auth, name: other, config: {header: X-Other-Key}}`, wantGold: 401, wantSilver: 401,
	},
}

func bindingDocument(upstream, settings, service, route, gold, group string) string {
	return fmt.Sprintf(`group: default
settings: {require_https: false, policies: [%s]}
services: [{name: s, url: "http://%s", policies: [%s]}]
routes: [{name: r, service: s, hosts: [h.test], policies: [{type: key-auth, name: caller}%s]}]
consumer-groups: [{name: metal, policies: [%s]}]
consumers:
  - {name: gold, groups: [golds, metal], policies: [%s], credentials: [{name: k, type: key-auth, config: {key: %s}}]}
  - {name: silver, groups: [silvers, metal], credentials: [{name: k, type: key-auth, config: {key: %s}}]}
`, settings, upstream, service, prefixed(route), group, gold, goldKey, silverKey)
}

func prefixed(policies string) string {
	if policies == "" {
		return ""
	}
	return ", " + policies
}

// TestNoBindingWeakensAWiderOne sends requests through a real gateway under every combination of the table.
func TestNoBindingWeakensAWiderOne(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	upstream := harness.Echo(t)
	g := c.StartGateway("default")
	for _, tt := range bindings {
		t.Run(tt.name, func(t *testing.T) {
			// An empty group first, so that no counter of a rate limit is left.
			c.Prune("group: default\nsettings: {require_https: false}\n")
			g.AwaitRevision(c.Prune(bindingDocument(upstream, tt.settings, tt.service, tt.route, tt.gold, tt.group)))
			for _, who := range []struct {
				name, key string
				want      int
			}{{"gold", goldKey, tt.wantGold}, {"silver", silverKey, tt.wantSilver}} {
				var got int
				for range 2 {
					got, _ = g.Send(t, http.MethodPost, "h.test", "/", strings.NewReader("body"), "X-API-Key", who.key)
				}
				if got != who.want {
					t.Errorf("%s: %d, want %d", who.name, got, who.want)
				}
			}
		})
	}
}

// TestEqualSetsEnforceEqually takes two groups of gateways to the same configuration by different ways.
func TestEqualSetsEnforceEqually(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	upstream := harness.Echo(t)
	early := c.StartGateway("default")
	for i, tt := range bindings {
		if i%3 == 0 {
			early.AwaitRevision(c.Prune(bindingDocument(upstream, tt.settings, tt.service, tt.route, tt.gold, tt.group)))
		}
	}
	tt := bindings[2]
	revision := c.Prune(bindingDocument(upstream, tt.settings, tt.service, tt.route, tt.gold, tt.group))
	late := c.StartGateway("default")
	early.AwaitRevision(revision)
	late.AwaitRevision(revision)
	a, errA := early.State()
	b, errB := late.State()
	if errA != nil || errB != nil || a.Digest != b.Digest {
		t.Errorf("digests %s and %s (%v, %v)", a.Digest, b.Digest, errA, errB)
	}
	for _, key := range []string{goldKey, silverKey, "wrong", ""} {
		for _, target := range []string{"/", "/a/b", "/a%2Fb", "/a//b", "/a/../b"} {
			codeA, _ := early.Get(t, "h.test", target, "X-API-Key", key)
			codeB, _ := late.Get(t, "h.test", target, "X-API-Key", key)
			if codeA != codeB {
				t.Errorf("%s with %q: %d and %d", target, key, codeA, codeB)
			}
		}
	}
}
