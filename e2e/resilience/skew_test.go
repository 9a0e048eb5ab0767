package resilience_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// previousRelease is the commit whose programs must work together with those of this tree.
//
//go:embed testdata/previous-release
var previousRelease string

func previous(t *testing.T, without ...string) harness.Release {
	t.Helper()
	return harness.Released(t, strings.TrimSpace(previousRelease), without...)
}

// TestGatewaysOfTheNeighbouringReleaseKeepWorking takes a gateway of one release through its life with a control plane of
// the other.
func TestGatewaysOfTheNeighbouringReleaseKeepWorking(t *testing.T) {
	t.Parallel()
	old, current := previous(t), harness.Release{}
	for _, tt := range []struct {
		name                  string
		controlPlane, gateway harness.Release
	}{
		{"older gateway, newer control plane", current, old},
		{"newer gateway, older control plane", old, current},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{"--certificate-ttl", "10s"}, Programs: tt.controlPlane})
			revision := c.Apply(baseDocument(t))
			c.Programs = tt.gateway
			g, other := c.StartGateway("default", "--identity-dir", t.TempDir()), c.StartGateway("default")
			c.Programs = tt.controlPlane
			g.AwaitRevision(revision)
			serves(t, "after joining", g)
			follows(t, c, g, "change")
			renews(t, c, g)

			// Replicas are drained and replaced, one after the other; the gateway goes on with what it has.
			for i, r := range c.Replicas {
				c.Replace(r)
				r.AwaitReady()
				c.UseReplica(i)
				follows(t, c, g, fmt.Sprintf("drain%d", i))
			}
			if said := string(g.Output()); !strings.Contains(said, "reconnecting as asked") || strings.Contains(said, "level=error") {
				t.Error("the gateway did not leave as it was asked to, or something went wrong")
			}
			appliedOnce(t, g)
			g.Stop(20 * time.Second)
			g.Start()
			g.AwaitReady()
			follows(t, c, g, "restart")
			revokes(t, c, other)
			serves(t, "at the end", g)
			noFaults(t, c)
		})
	}
}

// follows holds that a change gets to a gateway and is enforced.
func follows(t *testing.T, c *harness.Cluster, g *harness.Gateway, name string) {
	t.Helper()
	key := "Skew" + strings.Repeat(name, 8)[:8] + "2mN9pL4tR8wB1cD5fG6hJ"
	g.AwaitRevision(c.Apply(withConsumer(name, key)))
	if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != http.StatusOK {
		t.Errorf("%s: a new consumer is answered %d %s", name, code, body)
	}
	a := c.REST(http.MethodDelete, "/v1/groups/default/consumers/"+name+"/credentials/k", "")
	if a.Status/100 != 2 {
		t.Fatalf("%s: delete the key: %d %s", name, a.Status, a.Body)
	}
	testkit.Await(t, 20*time.Second, func() error {
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != http.StatusUnauthorized {
			return fmt.Errorf("%s: a deleted key is answered %d %s", name, code, body)
		}
		return nil
	})
}

// renews waits until every gateway has another certificate, without a stream that ended.
func renews(t *testing.T, c *harness.Cluster, g *harness.Gateway) {
	t.Helper()
	first := map[string]time.Time{}
	for _, info := range c.Gateways("default") {
		first[info.ID] = info.CertificateExpires
	}
	testkit.Await(t, 20*time.Second, func() error {
		for _, info := range c.Gateways("default") {
			if !info.CertificateExpires.After(first[info.ID]) {
				return fmt.Errorf("gateway %s has the certificate it had", info.ID)
			}
		}
		return nil
	})
	if strings.Contains(string(g.Output()), "no connection to the control plane") {
		t.Error("renewing ended a stream")
	}
}

// appliedOnce holds that a gateway was never sent again what it had.
func appliedOnce(t *testing.T, g *harness.Gateway) {
	t.Helper()
	seen := map[string]int{}
	for _, m := range regexp.MustCompile(`msg="configuration applied".* revision=(\d+)`).FindAllStringSubmatch(string(g.Output()), -1) {
		seen[m[1]]++
	}
	if len(seen) < 4 {
		t.Errorf("the gateway says that it applied %v", seen)
	}
	for revision, n := range seen {
		if n > 1 {
			t.Errorf("revision %s was applied %d times: the gateway did not go on from what it had", revision, n)
		}
	}
}

// revokes refuses the gateway that enrolled last for good.
func revokes(t *testing.T, c *harness.Cluster, g *harness.Gateway) {
	t.Helper()
	all := c.Gateways("default")
	a := c.REST(http.MethodPost, "/v1/groups/default/gateways/"+all[len(all)-1].ID+":revoke", `{reason: lost}`)
	if a.Status != http.StatusOK {
		t.Fatalf("revoke: %d %s", a.Status, a.Body)
	}
	g.AwaitOutput(10*time.Second, "revoked")
	revision := c.Apply(withConsumer("after", "Late7xV2mN9pL4tR8wB1cD5fG6hJ3kS0aYq"))
	if s, err := g.State(); err != nil || s.Revision >= revision {
		t.Errorf("the revoked gateway is at revision %d of %d: %v", s.Revision, revision, err)
	}
}

// noFaults waits until every gateway can run everything: what one of the previous release cannot, and no user wrote, is taken away
// once it is connected.
func noFaults(t *testing.T, c *harness.Cluster) {
	t.Helper()
	testkit.Await(t, 30*time.Second, func() error {
		for _, info := range c.Gateways("default") {
			if len(info.Faults) > 0 {
				return fmt.Errorf("gateway %s cannot run %v", info.ID, info.Faults)
			}
		}
		return nil
	})
}

// TestWhatOnlyTheControlPlaneUsesDoesNotHinderAnOlderGateway stages changes, which the previous release knows nothing of.
func TestWhatOnlyTheControlPlaneUsesDoesNotHinderAnOlderGateway(t *testing.T) {
	t.Parallel()
	old := previous(t)
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	c.Programs = old
	g := c.StartGateway("default")
	c.Programs = harness.Release{}
	revision := c.Apply("group: default\nsettings: {require_https: false, rollout: {stages: [{percent: 100%, soak: 1s}]}}\n")
	g.AwaitRevision(revision)
	serves(t, "with staged changes", g)
	noFaults(t, c)
	if out := c.MustCLI("", "get", "settings", "-o", "json"); !strings.Contains(out, "rollout") {
		t.Errorf("the settings say nothing of stages: %s", out)
	}
	follows(t, c, g, "staged")
}

// TestCertificatesDoNotHinderAnOlderGateway stores certificates, a kind of which the previous release knows nothing: it says so,
// and serves on.
func TestCertificatesDoNotHinderAnOlderGateway(t *testing.T) {
	t.Parallel()
	old := previous(t)
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	c.Programs = old
	g := c.StartGateway("default")
	c.Programs = harness.Release{}
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf")
	revision := c.Apply(fmt.Sprintf("group: default\ncertificates: [{name: web, current: %q}]\nca-certificates: [{name: ca, certificates: %q}]\n",
		leaf.PEM()+leaf.KeyPEM(t), ca.PEM()))
	g.AwaitRevision(revision)
	serves(t, "with certificates", g)
	id := c.Gateways("default")[0].ID
	testkit.Await(t, 10*time.Second, func() error {
		if said := c.MustCLI("", "gateways", "describe", id); strings.Count(said, "this gateway does not know resources of this kind") != 2 {
			return fmt.Errorf("gateways describe says\n%s", said)
		}
		return nil
	})
	follows(t, c, g, "certificates")
}

const corsDocument = `group: default
routes:
  - name: shared
    service: hello
    hosts: [shared.test]
    policies: [{type: cors, config: {allow_origins: ["https://app.test"]}}]
`

// TestWhatAGatewayCannotRunIsClosedThereAndWarnedOf binds a policy of a type that one of two gateways does not have.
func TestWhatAGatewayCannotRunIsClosedThereAndWarnedOf(t *testing.T) {
	t.Parallel()
	old := previous(t, "cors")
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	able := c.StartGateway("default")
	c.Programs = old
	unable := c.StartGateway("default")
	c.Programs = harness.Release{}
	id := c.Gateways("default")[1].ID
	want := fmt.Sprintf("connected gateways that do not know the policy type cors will answer 503 for what it guards; there are 1: %s", id)
	testkit.Await(t, 10*time.Second, func() error { // what a gateway says of itself is written a moment later
		if out := c.CLI(corsDocument, "apply", "-f", "-", "--dry-run"); out.Code != 0 || !strings.Contains(out.Stderr, want) {
			return fmt.Errorf("dry run: exit %d\n%s%s, want a warning %q", out.Code, out.Stdout, out.Stderr, want)
		}
		return nil
	})
	out := c.CLI(corsDocument, "apply", "-f", "-", "--wait")
	if out.Code != 1 || !strings.Contains(out.Stderr, want) || !strings.Contains(out.Stdout+out.Stderr, "shared") {
		t.Errorf("apply: exit %d\n%s%s, want 1, a warning %q and the route", out.Code, out.Stdout, out.Stderr, want)
	}
	for _, tt := range []struct {
		name string
		on   *harness.Gateway
		want int
	}{{"the gateway with cors", able, http.StatusOK}, {"the gateway without", unable, http.StatusServiceUnavailable}} {
		if code, body := tt.on.Get(t, "shared.test", "/"); code != tt.want {
			t.Errorf("%s answers %d %s, want %d", tt.name, code, body, tt.want)
		}
		serves(t, tt.name, tt.on)
	}
	if said := c.MustCLI("", "gateways", "describe", id); !strings.Contains(said, "policy cors: this gateway does not know the policy type") {
		t.Errorf("gateways describe says\n%s", said)
	}
	revision := c.Apply(corsDocument) // nothing changes
	c.MustCLI("", "delete", "routes", "shared")
	if out := c.CLI("", "rollback", "--to", fmt.Sprint(revision), "--dry-run"); out.Code != 0 || !strings.Contains(out.Stderr, want) {
		t.Errorf("rollback: exit %d\n%s%s, want a warning %q", out.Code, out.Stdout, out.Stderr, want)
	}
}

// TestCertificatesDoNotOpenOlderGateways gives certificates to a gateway that does not know them, and then has a route ask
// clients for one.
func TestCertificatesDoNotOpenOlderGateways(t *testing.T) {
	t.Parallel()
	old := previous(t)
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	c.Programs = old
	g := c.StartGateway("default")
	c.Programs = harness.Release{}
	ca := certtest.CA(t, "ca")
	leaf := ca.Issue(t, "leaf", certtest.Names("hello.test"))
	g.AwaitRevision(c.Apply(fmt.Sprintf("group: default\ncertificates: [{name: web, snis: [hello.test], current: %q}]\nca-certificates: [{name: ca, certificates: %q}]\n",
		leaf.PEM()+leaf.KeyPEM(t), ca.PEM())))
	serves(t, "with certificates", g)
	id := c.Gateways("default")[0].ID
	if said := c.MustCLI("", "gateways", "describe", id); !strings.Contains(said, "this gateway does not know resources of this kind") {
		t.Errorf("gateways describe says\n%s", said)
	}
	const mutual = "group: default\nroutes: [{name: mutual, service: hello, hosts: [mutual.test], client_certificates: {ca: ca}}]\n"
	if out := c.CLI(mutual, "apply", "-f", "-", "--dry-run"); !strings.Contains(out.Stderr, "Route.client_certificates") || !strings.Contains(out.Stderr, id) {
		t.Errorf("the dry run says %s, want a warning that names the field and the gateway", out.Stderr)
	}
	revision := c.Apply(mutual)
	g.AwaitRevision(revision)
	for _, host := range []string{"mutual.test", "hello.test"} { // it does not know which requests such a route would take
		if code, body := g.Get(t, host, "/"); code != http.StatusServiceUnavailable {
			t.Errorf("with a route that asks for a certificate %s answers %d %s, want 503", host, code, body)
		}
	}
	c.MustCLI("", "delete", "routes", "mutual")
	g.AwaitRevision(revision + 1)
	serves(t, "after the route is gone", g)
}

// TestBoundKeysAreOfNoUseAtOlderGateways binds one of two keys to a certificate, of which a gateway knows nothing.
func TestBoundKeysAreOfNoUseAtOlderGateways(t *testing.T) {
	t.Parallel()
	old := previous(t)
	c := harness.New(t, harness.Options{})
	c.Apply(baseDocument(t))
	leaf := certtest.CA(t, "ca").Issue(t, "laptop")
	c.Apply(fmt.Sprintf("group: default\ncertificates: [{name: laptop, current: %q}]\n", leaf.PEM()))
	c.Programs = old
	g := c.StartGateway("default")
	c.Programs = harness.Release{}
	const key = "Zq7xV2mN9pL4tR8wB1cD5fG9"
	document := func(bound string) string {
		return "group: default\nconsumers: [{name: bob, groups: [gold], credentials: [{name: k, type: key-auth, config: {key: " + key + "}" + bound + "}]}]\n"
	}
	presents := func(want int) {
		t.Helper()
		if code, body := g.Get(t, "hello.test", "/", "X-API-Key", key); code != want {
			t.Errorf("the key: %d %s, want %d", code, body, want)
		}
	}
	g.AwaitRevision(c.Apply(document("")))
	presents(http.StatusOK)
	id := c.Gateways("default")[0].ID
	tied := document(", bound_certificate: laptop")
	if out := c.CLI(tied, "apply", "-f", "-", "--dry-run"); !strings.Contains(out.Stderr, "Credential.bound_certificate") || !strings.Contains(out.Stderr, id) {
		t.Errorf("the dry run says %s, want a warning that names the field and the gateway", out.Stderr)
	}
	g.AwaitRevision(c.Apply(tied))
	presents(http.StatusUnauthorized)
	serves(t, "with another key", g)
}

// TestTheCommandLineOfTheNeighbouringReleaseWorks runs what people and pipelines run.
func TestTheCommandLineOfTheNeighbouringReleaseWorks(t *testing.T) {
	t.Parallel()
	old, current := previous(t), harness.Release{}
	for _, tt := range []struct {
		name              string
		controlPlane, cli harness.Release
	}{
		{"older command line, newer control plane", current, old},
		{"newer command line, older control plane", old, current},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t, harness.Options{Programs: tt.controlPlane})
			g := c.StartGateway("default")
			c.Programs = tt.cli
			document := baseDocument(t)
			c.MustCLI(document, "apply", "-f", "-", "--dry-run")
			c.MustCLI(document, "apply", "-f", "-", "--wait")
			serves(t, "after apply", g)
			exported := c.MustCLI("", "export")
			if out := c.MustCLI(exported, "apply", "-f", "-", "-o", "json"); !strings.Contains(out, `"changed": false`) && strings.Contains(out, `"changed": true`) {
				t.Errorf("what was exported is not what is there: %s", out)
			}
			var route struct{ Name string }
			if err := json.Unmarshal([]byte(c.MustCLI("", "get", "routes", "hello", "-o", "json")), &route); err != nil || route.Name != "hello" {
				t.Errorf("get answers %+v: %v", route, err)
			}
			id := c.Gateways("default")[0].ID
			for _, args := range [][]string{{"get", "routes"}, {"gateways", "list"}, {"gateways", "describe", id}, {"whoami"}, {"revisions"}, {"audit", "list"}} {
				if out := c.MustCLI("", args...); strings.TrimSpace(out) == "" {
					t.Errorf("keyward %s says nothing", strings.Join(args, " "))
				}
			}
			c.MustCLI("", "delete", "routes", "hello")
			testkit.Await(t, 10*time.Second, func() error {
				if code, _ := g.Get(t, "hello.test", "/"); code != http.StatusNotFound {
					return fmt.Errorf("a deleted route is answered %d", code)
				}
				return nil
			})
		})
	}
}

// TestReplicasOfTwoReleasesShareADatabase migrates under the replicas of the previous release and replaces them one by
// one, and back.
func TestReplicasOfTwoReleasesShareADatabase(t *testing.T) {
	t.Parallel()
	old, current := previous(t), harness.Release{}
	c := harness.New(t, harness.Options{Replicas: 2, Programs: old, Mixed: true})
	c.Apply(baseDocument(t))
	g := c.StartGateway("default")
	steps := []struct {
		name string
		do   func()
	}{
		{"migrated", func() { c.Programs = current; c.Migrate() }},
		{"an older replica started again", func() { c.Programs = old; c.Replace(c.Replicas[1]) }},
		{"one of each", func() { c.Programs = current; c.Replace(c.Replicas[0]) }},
		{"two newer", func() { c.Replace(c.Replicas[1]) }},
		{"one taken back", func() { c.Programs = old; c.Replace(c.Replicas[0]) }},
	}
	for n, step := range steps {
		step.do()
		for i, r := range c.Replicas {
			r.AwaitReady()
			c.UseReplica(i)
			follows(t, c, g, fmt.Sprintf("step%dr%d", n, i))
		}
		serves(t, step.name, g)
		if t.Failed() {
			t.Fatalf("at: %s", step.name)
		}
	}
	c.Programs = current
	if said, good := c.CheckDB(); !good {
		t.Errorf("check-db: %s", said)
	}
	noFaults(t, c)
}
