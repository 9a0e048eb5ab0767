package scenario_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

// TestLastUseOfCredentials has keys used and not used, and looks at what is known of that as long as they live.
func TestLastUseOfCredentials(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{Replicas: 2})
	g := c.StartGateway("default")
	document := func(extra string) string {
		return fmt.Sprintf(`group: default
settings: {require_https: false}
services: [{name: s, url: "http://%s"%s}]
routes: [{name: r, service: s, hosts: shop.test, policies: [{type: key-auth}, {type: acl, config: {deny: [blocked]}}]}]
consumers: [{name: alice}, {name: bob, groups: [blocked]}]
`, harness.Echo(t), extra)
	}
	g.AwaitRevision(c.Apply(document("")))
	began := time.Now().Truncate(time.Second)
	used := strings.TrimSpace(c.MustCLI("", "credential", "generate", "alice", "used"))
	blocked := strings.TrimSpace(c.MustCLI("", "credential", "generate", "bob", "blocked"))
	c.MustCLI("", "credential", "generate", "alice", "unused")
	g.AwaitRevision(c.Apply("group: default\nconsumers: [{name: alice, description: has keys}]\n"))
	for key, want := range map[string]int{used: http.StatusOK, blocked: http.StatusForbidden, used + "x": http.StatusUnauthorized} {
		if status, body := g.Get(t, "shop.test", "/", "X-API-Key", key); status != want {
			t.Fatalf("%d %s, want %d", status, body, want)
		}
	}
	revisions := func() string { return fmt.Sprint(c.Rows("select revision from heads order by group_uid")) }
	before := revisions()
	when := awaitUse(t, c, "alice/used")
	if when.Before(began) || when.After(time.Now().Add(time.Second)) {
		t.Errorf("used at %s, want it since %s", when, began)
	}
	awaitUse(t, c, "bob/blocked") // a credential that is good is used, whatever its owner may
	if after := revisions(); after != before {
		t.Errorf("revisions %s, before uses were written %s", after, before)
	}
	if at := lastUse(t, c, "alice/unused"); !at.IsZero() {
		t.Errorf("a key that nobody has was used at %s", at)
	}

	// Changes around it, and of itself by what was read, leave it as it is.
	g.AwaitRevision(c.Apply(document(", description: other")))
	const path = "/v1/groups/default/consumers/alice/credentials/used"
	read := c.REST(http.MethodGet, path, "")
	if put := c.REST(http.MethodPut, path, strings.Replace(string(read.Body), `"last_used":"2`, `"last_used":"3`, 1)); put.Status != http.StatusOK {
		t.Errorf("put what was read: %d %s", put.Status, put.Body)
	}
	if now := lastUse(t, c, "alice/used"); !now.Equal(when) {
		t.Errorf("last used %s after other changes, before %s", now, when)
	}
	listed(t, c, []string{"alice/unused", "alice/used", "bob/blocked"})
	listed(t, c, nil, "--unused-for", "90d")
	if said := c.CLI("", "credential", "list", "--unused-for", "90d").Stderr; !strings.Contains(said, "are recorded since") {
		t.Errorf("said of 90 days after some seconds: %s", said)
	}
	c.SQL(`update groups set uses_since = now() - interval '100 days'`)
	c.SQL(`update resources set created_at = now() - interval '100 days' where kind = 'credentials'`)
	listed(t, c, []string{"alice/unused"}, "--unused-for", "90d")
	c.SQL(`update credential_uses set used_at = now() - interval '95 days'`)
	listed(t, c, []string{"alice/unused", "alice/used", "bob/blocked"}, "--unused-for", "90d")

	c.MustCLI("", "delete", "credentials", "alice/used")
	if rows := c.Rows("select uid from credential_uses"); len(rows) != 1 {
		t.Errorf("uses of %v after one of two was deleted", rows)
	}
	c.MustCLI("", "delete", "credentials", "bob/blocked")
	if rows := c.Rows("select uid from credential_uses"); len(rows) != 0 {
		t.Errorf("uses of %v after all were deleted", rows)
	}
	c.StopDatabase()
	if a := c.REST(http.MethodGet, "/v1/groups/default/consumers/alice/credentials/unused", ""); a.Status != http.StatusOK {
		t.Errorf("a credential while the database is down: %d %s", a.Status, a.Body)
	}
	if a := c.REST(http.MethodGet, "/v1/groups/default/credentials?unused_for=2160h", ""); a.Status != http.StatusServiceUnavailable {
		t.Errorf("what nobody uses while the database is down: %d %s", a.Status, a.Body)
	}
}

// lastUse is when a credential was used last as the control plane knows, zero if it knows of no use.
func lastUse(t *testing.T, c *harness.Cluster, name string) (at time.Time) {
	t.Helper()
	consumer, credential, _ := strings.Cut(name, "/")
	var got struct {
		LastUsed time.Time `json:"last_used"`
	}
	a := c.REST(http.MethodGet, "/v1/groups/default/consumers/"+consumer+"/credentials/"+credential, "")
	if err := a.JSON(&got); err != nil {
		t.Fatalf("%s: %d %s: %v", name, a.Status, a.Body, err)
	}
	return got.LastUsed
}

// awaitUse waits until a use is known.
func awaitUse(t *testing.T, c *harness.Cluster, name string) (at time.Time) {
	t.Helper()
	testkit.Await(t, time.Minute, func() error {
		if at = lastUse(t, c, name); at.IsZero() {
			return fmt.Errorf("no use of %s is known", name)
		}
		return nil
	})
	return at
}

// listed holds that `keyward credential list` names these.
func listed(t *testing.T, c *harness.Cluster, want []string, args ...string) {
	t.Helper()
	var got []struct{ Consumer, Name string }
	if err := json.Unmarshal([]byte(c.MustCLI("", append([]string{"credential", "list", "-o", "json"}, args...)...)), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range got {
		names = append(names, g.Consumer+"/"+g.Name)
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("credential list %v: %v, want %v", args, names, want)
	}
}
