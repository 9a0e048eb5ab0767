package proxybench

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what the Lua module has built in; nothing of the product uses it
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"
)

// Policies is the program of the nginx + Lua contender.
//
//go:embed policies.lua
var Policies string

// RandomScript makes wrk draw routes and keys; its arguments are path, routes, consumers, seed.
//
//go:embed random.lua
var RandomScript string

// PostScript makes wrk send a body of a KiB.
const PostScript = `wrk.method = "POST"
wrk.body = string.rep("b", 1024)
wrk.headers["Content-Type"] = "application/octet-stream"
`

// luaPepper is the one in policies.lua.
const luaPepper = "bench-pepper"

// ConsumerLine describes a consumer to the Lua policies.
func ConsumerLine(i int) string {
	mac := hmac.New(sha1.New, []byte(luaPepper))
	mac.Write([]byte(Key(i)))
	return hex.EncodeToString(mac.Sum(nil)) + " " + ConsumerName(i) + " gold\n"
}

// ConsumerFile describes all of them.
func ConsumerFile(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(ConsumerLine(i))
	}
	return b.String()
}

// batch is how many resources a document has, so that it stays small.
const batch = 20_000

// Documents configure the gateway for a row: the documents are applied in this order. With chain the requests pass key-auth, ACL, IP restriction and
// rate limit.
func Documents(group, upstream string, routes, consumers int, chain bool) []string {
	out := []string{fmt.Sprintf("group: %s\nsettings:\n  require_https: false\n  limits: {body: 20GiB}\n%sservices:\n  - {name: backend, url: \"http://%s\"}\n",
		group, groupPolicies(chain), upstream)}
	out = batched(out, group, "routes", routes, func(i int) string {
		acl := ""
		if chain {
			acl = ", policies: [{type: acl, config: {allow: [gold]}}]"
		}
		return fmt.Sprintf("{name: r%d, service: backend, hosts: [%s], paths: [\"/\"]%s}", i, HostName(i), acl)
	})
	if !chain {
		return out
	}
	return batched(out, group, "consumers", consumers, func(i int) string {
		return fmt.Sprintf("{name: %s, groups: [gold], credentials: [{name: k, type: key-auth, config: {key: %s}}]}", ConsumerName(i), Key(i))
	})
}

func groupPolicies(chain bool) string {
	if !chain {
		return ""
	}
	return `  policies:
    - {type: ip-restriction, config: {allow: ["127.0.0.0/8", "::1/128", "10.0.0.0/8"]}}
    - {type: key-auth, config: {header: X-API-Key}}
    - {type: rate-limit, config: {windows: [{limit: 1000000000, window: 60s}], by: consumer}}
`
}

func batched(out []string, group, kind string, n int, resource func(i int) string) []string {
	for first := 0; first < n; first += batch {
		var b strings.Builder
		fmt.Fprintf(&b, "group: %s\n%s:\n", group, kind)
		for i := first; i < min(n, first+batch); i++ {
			b.WriteString("  - " + resource(i) + "\n")
		}
		out = append(out, b.String())
	}
	return out
}
