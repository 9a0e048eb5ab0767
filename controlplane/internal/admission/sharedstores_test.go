package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/problem"
)

const nonces = `redis-stores: [{name: nonces, addresses: "redis.test:6379", password: p, tls: {server_name: redis.test}}]`

// TestAPasswordOfAStoreGoesNowhereElse has stores written again, without the password.
func TestAPasswordOfAStoreGoesNowhereElse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, doc, want string }{
		{"as it is", `{name: nonces, addresses: "redis.test:6379", tls: {server_name: redis.test}}`, ""},
		{"something else changes", `{name: nonces, addresses: "redis.test:6379", tls: {server_name: redis.test}, timeouts: {operation: 10ms}, password: {set: true}}`, ""},
		{"another address", `{name: nonces, addresses: "evil.test:6379", tls: {server_name: redis.test}}`, "give it again"},
		{"another address, kept", `{name: nonces, addresses: "evil.test:6379", tls: {server_name: redis.test}, password: {set: true}}`, "give it again"},
		{"another name", `{name: nonces, addresses: "redis.test:6379", tls: {server_name: evil.test}}`, "give it again"},
		{"without TLS", `{name: nonces, addresses: "redis.test:6379", tls: {enabled: false, insecure_plaintext: true}}`, "give it again"},
		{"as a cluster", `{name: nonces, mode: cluster, addresses: "redis.test:6379", tls: {server_name: redis.test}}`, "give it again"},
		{"another address and the password", `{name: nonces, addresses: "other.test:6379", password: p}`, ""},
		{"a user without a password", `{name: nonces, addresses: "redis.test:6379", tls: {server_name: redis.test}, username: u}`, ""},
		{"with sentinels", `{name: nonces, mode: sentinel, addresses: "redis.test:6379", sentinel: {master: m}, tls: {server_name: redis.test}}`, "give it again"},
		{"a new one for a user", `{name: new, addresses: "redis.test:6379", username: u}`, "required with username"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must(nonces)
			_, vs := g.put("redis-stores", tt.doc, nil)
			if tt.want == "" && len(vs) > 0 || tt.want != "" && (len(vs) != 1 || vs[0].Path != "password" || !strings.Contains(vs[0].Reason, tt.want)) {
				t.Errorf("%+v, want %q", vs, tt.want)
			}
		})
	}
}

// TestAStoreThatIsUsedStays tells who uses it, and which provider has its password.
func TestAStoreThatIsUsedStays(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(corp + `
redis-stores: [{name: nonces, addresses: "redis.test:6379", password: "{vault://corp/redis#password}"}]
services: [{name: s, url: "http://127.0.0.1:9", policies: [{type: hmac-auth, config: {replay_store: nonces}}]}]
settings: {policies: [{type: jwt-auth, config: {replay_store: nonces}}]}`)
	for name, want := range map[[2]string]string{
		{"redis-stores", "nonces"}:   "used by services/s, settings",
		{"secret-providers", "corp"}: "used by redis-stores/nonces",
	} {
		if _, vs := g.remove(name[0], name[1]); len(vs) != 1 || vs[0].Code != problem.Conflict || !strings.Contains(vs[0].Reason, want) {
			t.Errorf("%s may go: %v, want %q", name, vs, want)
		}
	}
}

func TestAGroupHasABoundedNumberOfSharedStores(t *testing.T) {
	t.Parallel()
	doc := "redis-stores:\n"
	for n := range 16 {
		doc += fmt.Sprintf("  - {name: s%d, addresses: \"redis.test:6379\"}\n", n)
	}
	g := newGroup(t)
	g.must(doc)
	if _, vs := g.put("redis-stores", `{name: more, addresses: "redis.test:6379"}`, nil); len(vs) != 1 || !strings.Contains(vs[0].Reason, "it may have 16") {
		t.Errorf("one more: %v", vs)
	}
	if _, vs := g.put("redis-stores", `{name: s1, addresses: "redis.test:6380"}`, nil); len(vs) > 0 {
		t.Errorf("one of them: %v", vs)
	}
}

// TestAPasswordOfSentinelsGoesNowhereElse does the same with that.
func TestAPasswordOfSentinelsGoesNowhereElse(t *testing.T) {
	t.Parallel()
	before := `{name: nonces, mode: sentinel, addresses: "a.test:26379", sentinel: {master: m, password: q}}`
	for doc, want := range map[string]bool{
		`{name: nonces, mode: sentinel, addresses: "a.test:26379", sentinel: {master: m}}`:                           true,
		`{name: nonces, mode: sentinel, addresses: "evil.test:26379", sentinel: {master: m}}`:                        false,
		`{name: nonces, mode: sentinel, addresses: "evil.test:26379", sentinel: {master: m, password: {set: true}}}`: false,
		`{name: nonces, mode: sentinel, addresses: "evil.test:26379", sentinel: {master: m, password: q}}`:           true,
		`{name: nonces, addresses: "redis.test:6379"}`:                                                               true,
	} {
		g := newGroup(t)
		g.must("redis-stores: [" + before + "]")
		_, vs := g.put("redis-stores", doc, nil)
		if told := len(vs) == 1 && vs[0].Path == "sentinel.password" && strings.Contains(vs[0].Reason, "give it again"); told == want || want != (len(vs) == 0) {
			t.Errorf("%s: %v", doc, vs)
		}
	}
}
