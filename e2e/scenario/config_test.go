// Package scenario tells what the product does for its users, through its public interfaces and with real processes.
package scenario_test

import (
	"net/http"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

const document = `group: default
settings:
  require_https: false
services:
  - name: hello
    url: http://UPSTREAM
routes:
  - name: hello
    service: hello
    hosts: [hello.test]
    policies:
      - {type: key-auth, config: {header: X-API-Key}}
      - {type: acl, config: {allow: [gold]}}
      - {type: rate-limit, config: {windows: [{limit: 5, window: 60s}], by: consumer}}
  - name: open
    service: hello
    hosts: [open.test]
consumers:
  - name: alice
    groups: [gold]
    credentials:
      - {name: alice-1, type: key-auth, config: {key: "alice-Zq7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aY"}}
  - name: bob
    credentials:
      - {name: bob-1, type: key-auth, config: {key: "bob-Ya0Sk3Jh6Gf5Dc1Bw8Rt4Lp9Nm2Vx7qZ"}}
`

func withUpstream(addr string) string { return strings.ReplaceAll(document, "UPSTREAM", addr) }

// TestExportAppliedAgainChangesNothing holds that what is exported is exactly what is stored.
func TestExportAppliedAgainChangesNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	first := c.Apply(withUpstream("127.0.0.1:9"))
	if again := c.Apply(withUpstream("127.0.0.1:9")); again != first {
		t.Errorf("applying the same document again made revision %d after %d", again, first)
	}
	export := c.REST(http.MethodGet, "/v1/groups/default:export", "")
	if export.Status != http.StatusOK {
		t.Fatalf("export: %d %s", export.Status, export.Body)
	}
	if again := c.Apply(string(export.Body)); again != first {
		t.Errorf("export and apply made revision %d after %d from\n%s", again, first, export.Body)
	}
	for _, canary := range []string{"Zq7xV2mN9", "Ya0Sk3Jh6"} {
		if strings.Contains(string(export.Body), canary) {
			t.Error("the export shows a key")
		}
	}
}
