package resilience_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
)

const twoRoutes = `group: default
settings: {require_https: false}
services:
  - {name: hello, url: "http://%s"}
routes:
  - {name: target, service: hello, hosts: [target.test], policies: [{type: key-auth}]}
  - {name: other, service: hello, hosts: [other.test], policies: [{type: key-auth}, {type: rate-limit, config: {windows: [{limit: 1000, window: 1s}]}}]}
  - {name: bystander, service: hello, hosts: [bystander.test]}
consumers:
  - name: load
    credentials: [{name: k, type: key-auth, config: {key: "%s"}}]
`

const (
	ofTarget = ` where kind = 'routes' and name = 'target'`
	flip     = `set_byte(sealed, length(sealed) / 2, get_byte(sealed, length(sealed) / 2) # 1)`
)

// verdicts are the answers to requests with the key for target.test, other.test, bystander.test and nobody.test. In order
// they are 403, 200, 200 and 404.
type verdicts [4]int

// keyUnknown is what they are when nobody can say whose the key is: not that it is none, and other routes are not concerned.
var keyUnknown = verdicts{403, 503, 200, 404}

// tampering is what somebody with write access to the database may do, and what has to come of it.
var tampering = []struct {
	name, sql string
	// prepare runs before the configuration is changed a last time: what somebody kept of an older state.
	prepare string
	// says is what check-db has to name.
	says string
	// want is what a gateway answers then; nothing if left out: where a route without its content belongs, nobody knows.
	want verdicts
	// group: nothing of the group is to be trusted, nothing of it is served; else it is about the one row.
	group bool
}{
	{name: "bit flipped", sql: `update resources set sealed = ` + flip + ofTarget, says: "target"},
	{name: "emptied", sql: `update resources set sealed = ''` + ofTarget, says: "target"},
	{name: "another row's content", sql: `update resources set sealed = (select sealed from resources where name = 'other')` + ofTarget, says: "target"},
	{
		name: "swapped names", says: "target",
		sql: `begin; update resources set name = 'x'` + ofTarget + `; update resources set name = 'target' where name = 'other'; update resources set name = 'other' where name = 'x'; commit`,
	},
	{name: "renamed", sql: `update resources set name = 'renamed'` + ofTarget, says: "renamed"},
	{name: "labelled", sql: `update resources set labels = '{"a":"b"}'` + ofTarget, says: "target"},
	{
		name: "rolled back", says: "target",
		prepare: `create table kept as select uid, sealed, revision from resources` + ofTarget,
		sql:     `update resources r set sealed = k.sealed, revision = k.revision from kept k where k.uid = r.uid`,
	},
	{name: "removed", sql: `delete from resources` + ofTarget, says: "target"},
	{name: "put into another group", sql: `update resources set group_uid = (select uid from groups where name = 'second')` + ofTarget, says: "target"},
	{
		name: "an older head", says: "default", group: true,
		prepare: `create table kept as select * from heads where group_uid = (select uid from groups where name = 'default')`,
		sql:     `update heads h set epoch = k.epoch, revision = k.revision, resource_count = k.resource_count, digest = k.digest, audit_seq = k.audit_seq, audit_head = k.audit_head, mac = k.mac from kept k where k.group_uid = h.group_uid`,
	},
	{name: "the head's revision", sql: `update heads set revision = revision - 1 where group_uid = (select uid from groups where name = 'default')`, says: "default", group: true},
	{name: "the group's keyring", sql: `update keyrings set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1) where group_uid = (select uid from groups where name = 'default')`, says: "default", group: true},
	{
		name: "another group's keyring", says: "default", group: true,
		sql: `update keyrings set wrapped = (select wrapped from keyrings k join groups g on g.uid = k.group_uid where g.name = 'second') where group_uid = (select uid from groups where name = 'default')`,
	},
	{name: "the key's consumer", sql: `update resources set sealed = ` + flip + ` where kind = 'consumers' and name = 'load'`, says: "load", want: keyUnknown},
	{name: "the key", sql: `update resources set sealed = ` + flip + ` where kind = 'credentials' and name = 'load/k'`, says: "load/k", want: keyUnknown},
	{name: "the pepper", sql: `update resources set sealed = ` + flip + ` where kind = 'pepper-terms' and group_uid = (select uid from groups where name = 'default')`, says: "pepper-terms", want: keyUnknown},
	{name: "the service", sql: `update resources set sealed = ` + flip + ` where kind = 'services' and name = 'hello'`, says: "hello", want: verdicts{503, 503, 503, 404}},
	{name: "the settings", sql: `update resources set sealed = ` + flip + ` where kind = 'settings'`, says: "settings"},
	{name: "an older version of the keyring", sql: `update keyrings set version = version + 1 where group_uid = (select uid from groups where name = 'default')`, says: "default", group: true},
}

// TestTamperedRowsAreNamedAndNotEnforced changes the database past the control plane, then starts the control plane again
// with a gateway that has never seen the group.
func TestTamperedRowsAreNamedAndNotEnforced(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.CreateGroup("second")
	upstream := harness.Nginx(t)
	first := fmt.Sprintf(twoRoutes, upstream, loadKey)
	last := strings.Replace(first, "policies: [{type: key-auth}]}", "policies: [{type: key-auth}, {type: ip-restriction, config: {deny: [127.0.0.1]}}]}", 1)
	c.Apply(first)
	token := c.JoinToken("default", 100)
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			c.Apply(first)
			if tt.prepare != "" {
				c.SQL(`drop table if exists kept`)
				c.SQL(tt.prepare)
			}
			revision := c.Apply(last)
			r := c.Replicas[0]
			r.Stop(10 * time.Second)
			restore := keep(c)
			defer func() {
				r.Stop(10 * time.Second)
				restore()
				r.Start()
				r.AwaitReady()
			}()
			c.SQL(tt.sql)
			if out, ok := c.CheckDB(); ok || !strings.Contains(out, tt.says) {
				t.Errorf("check-db: ok = %t, does not name %q:\n%s", ok, tt.says, out)
			}
			r.Start()
			g := c.NewGateway(token)
			g.Start()
			defer g.Kill()
			testkit.Await(t, 10*time.Second, func() error { return g.Answers() })
			if tt.group {
				refusedAsAWhole(t, c, g)
				return
			}
			r.AwaitReady()
			g.AwaitReady()
			g.AwaitRevision(revision)
			closedAlone(t, c, g, tt.want)
		})
	}
}

// keep copies what tampering touches, and what the control plane writes meanwhile, and returns how to put it back.
func keep(c *harness.Cluster) (restore func()) {
	tables := []string{"resources", "heads", "keyrings", "changes", "audit"}
	c.SQL(`create schema safe`)
	for _, table := range tables {
		c.SQL(fmt.Sprintf(`create table safe.%[1]s as table %[1]s`, table))
	}
	return func() {
		for _, table := range tables {
			c.SQL(fmt.Sprintf(`delete from %[1]s; insert into %[1]s select * from safe.%[1]s`, table))
		}
		c.SQL(`drop schema safe cascade`)
	}
}

func refusedAsAWhole(t *testing.T, c *harness.Cluster, g *harness.Gateway) {
	t.Helper()
	r := c.Replicas[0]
	testkit.Await(t, 20*time.Second, func() error {
		a, err := c.TryREST(r, http.MethodGet, "/v1/groups/default/routes")
		if !r.Running() || (err == nil && a.Status >= 500) {
			return nil
		}
		return fmt.Errorf("the admin API answers %d %s, %w", a.Status, a.Body, err)
	})
	// What must not happen has no moment at which it has not happened: it gets a while.
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if why, err := g.NotReady(); err != nil {
			t.Fatalf("a gateway got a group that cannot be trusted (%s)", why)
		}
		if code, body := g.Get(t, "bystander.test", "/"); code != http.StatusServiceUnavailable {
			t.Fatalf("a gateway serves a group that cannot be trusted: %d %s", code, body)
		}
		if a, err := c.TryREST(r, http.MethodGet, "/v1/groups/default/routes"); err == nil && a.Status < 500 {
			t.Fatalf("the admin API answers %d %s", a.Status, a.Body)
		}
	}
}

func closedAlone(t *testing.T, c *harness.Cluster, g *harness.Gateway, want verdicts) {
	t.Helper()
	if want == (verdicts{}) {
		want = verdicts{503, 503, 503, 503}
	}
	var got verdicts
	for i, host := range []string{"target.test", "other.test", "bystander.test", "nobody.test"} {
		got[i], _ = g.Get(t, host, "/", "X-API-Key", loadKey)
	}
	if got != want {
		t.Errorf("the gateway answers %v, want %v", got, want)
	}
	testkit.Await(t, 10*time.Second, func() error {
		for _, info := range c.Gateways("default") {
			if info.State == "rejecting" && len(info.Faults) > 0 {
				return nil
			}
		}
		return fmt.Errorf("no gateway is shown as rejecting: %+v", c.Gateways("default"))
	})
}

// TestTamperedAuditRowsAreFound alters, removes and cuts the chain.
func TestTamperedAuditRowsAreFound(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	for i := range 6 {
		c.Apply(withConsumer(fmt.Sprintf("c%d", i), fmt.Sprintf("Chn%07dxV2mN9pL4tR8wB1cD5fG6hJ3kS0", i)))
	}
	const ours = ` where group_uid = (select uid from groups where name = 'default')`
	intact := c.MustCLI("", "audit", "verify")
	last := len(c.Rows(`select seq from audit` + ours))
	c.SQL(`create table safe as select * from audit` + ours)
	for _, tt := range []struct {
		name, sql string
		says      string
	}{
		{"actor altered", `update audit set actor = 'somebody else'` + ours + ` and seq = 3`, "3"},
		{"time altered", `update audit set at = at - interval '1 day'` + ours + ` and seq = 3`, "3"},
		{"subjects altered", `update audit set subjects = '{routes/other}'` + ours + ` and seq = 3`, "3"},
		{"one removed", `delete from audit` + ours + ` and seq = 3`, "3"},
		{"two swapped", `update audit set seq = case seq when 3 then 1004 else 1003 end` + ours + ` and seq in (3, 4); update audit set seq = seq - 1000` + ours + ` and seq > 1000`, "3"},
		{"the first cut off", `delete from audit` + ours + ` and seq = 1`, "1"},
		{"the last cut off", fmt.Sprintf(`delete from audit%s and seq = %d`, ours, last), fmt.Sprint(last)},
		{"all cut off", `delete from audit` + ours, fmt.Sprint(1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for statement := range strings.SplitSeq(tt.sql, ";") {
				c.SQL(statement)
			}
			out := c.CLI("", "audit", "verify")
			if out.Code != 1 || !strings.Contains(out.Stdout+out.Stderr, tt.says) {
				t.Errorf("audit verify: exit %d, does not name %s: %s%s", out.Code, tt.says, out.Stdout, out.Stderr)
			}
			c.SQL(`delete from audit` + ours)
			c.SQL(`insert into audit select * from safe`)
			if again := c.MustCLI("", "audit", "verify"); again != intact {
				t.Errorf("put back: %s", again)
			}
		})
	}
}

// TestRuntimeRoleOnlyAddsToTheAudit holds that the control plane itself cannot rewrite history.
func TestRuntimeRoleOnlyAddsToTheAudit(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	c.Apply(withConsumer("c", "Chn7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYqz"))
	if err := c.SQLAsRuntime(`select count(*) from audit`); err != nil {
		t.Errorf("reading the audit: %v", err)
	}
	for _, statement := range []string{
		`update audit set actor = 'x'`, `delete from audit`, `truncate audit`, `drop table audit`, `alter table audit drop constraint audit_pkey`,
		`create table mine ()`, `update schema_version set version = 99`,
	} {
		if err := c.SQLAsRuntime(statement); err == nil {
			t.Errorf("the runtime role may %q", statement)
		}
	}
	c.MustCLI("", "audit", "verify")
}

// TestApplyWaitNamesWhatAGatewayRefuses makes a gateway refuse a route and waits for the next revision.
func TestApplyWaitNamesWhatAGatewayRefuses(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	document := fmt.Sprintf(twoRoutes, harness.Nginx(t), loadKey)
	c.Apply(document)
	g := c.StartGateway("default")
	r := c.Replicas[0]
	r.Stop(10 * time.Second)
	c.SQL(`update resources set sealed = ` + flip + ofTarget)
	r.Start()
	r.AwaitReady()
	testkit.Await(t, 20*time.Second, func() error {
		if info := c.Gateways("default"); info[0].State != "rejecting" {
			return fmt.Errorf("the gateway is %s", info[0].State)
		}
		return nil
	})
	out := c.CLI(withConsumer("late", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"), "apply", "-f", "-", "--wait", "--timeout", "20s")
	if out.Code != 1 {
		t.Errorf("exit %d, want 1", out.Code)
	}
	for _, word := range []string{c.Gateways("default")[0].ID, "routes/target", "could not open"} {
		if !strings.Contains(out.Stderr, word) {
			t.Errorf("apply --wait does not name %q:\n%s", word, out.Stderr)
		}
	}
	// The way out is to write the route again.
	if out := c.CLI(document, "apply", "-f", "-", "--wait", "--timeout", "20s"); out.Code != 0 {
		t.Errorf("apply of the whole document: exit %d %s", out.Code, out.Stderr)
	}
	if code, body := g.Get(t, "target.test", "/", "X-API-Key", loadKey); code != http.StatusOK {
		t.Errorf("the route that was written again: %d %s", code, body)
	}
}
