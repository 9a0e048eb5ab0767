package server_test

import (
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/compile"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// waiting is a policy that waits: it tells where it is called, and goes on when it is told to.
type waiting struct{ called, goOn chan string }

func (waiting) Waits() {}

func (w waiting) Request(*exchange.Exchange) policy.Verdict {
	w.called <- string(debug.Stack())
	<-w.goOn
	return policy.Next
}

// TestPoliciesWaitWhereNothingWaitsForThem has requests on a connection that has rested, and one behind the other: a policy
// that waits must not do so within the poller's read, where the connection could not even be closed.
func TestPoliciesWaitWhereNothingWaitsForThem(t *testing.T) {
	overEngines(t, testPoliciesWaitWhereNothingWaitsForThem)
}

func pathPrefix(p string) *configv1.PathMatch {
	return &configv1.PathMatch{Match: &configv1.PathMatch_Prefix{Prefix: p}}
}

func testPoliciesWaitWhereNothingWaitsForThem(t *testing.T, e server.Engine) {
	t.Parallel()
	g, up := start(t, e), echo(t)
	w := waiting{called: make(chan string), goOn: make(chan string)}
	factories := policies.All()
	for i := range factories {
		if factories[i].Type == "ip-restriction" {
			factories[i].Build = func(proto.Message, policy.Deps) (policy.Policy, error) { return w, nil }
		}
	}
	g.compiler = compile.New(compile.Deps{
		Factories: factories, Host: hostsvc.New(hostsvc.Config{}), Log: slog.New(slog.DiscardHandler), Group: "default",
	})
	plain, slow := route(), route()
	plain.Name, plain.Paths = "plain", []*configv1.PathMatch{pathPrefix("/plain")}
	slow.Name, slow.Paths, slow.Policies = "slow", []*configv1.PathMatch{pathPrefix("/slow")}, []*configv1.Binding{binding("ip-restriction", &policyv1.IpRestriction{Allow: []string{"10.0.0.0/8"}})}
	g.config(settings(&configv1.Settings{}), record("services", "up", service(up.URL)), record("routes", "plain", plain), record("routes", "slow", slow))

	c := dial(t, g.address("http"))
	answered := func(path string) {
		t.Helper()
		if resp, body := c.answer("GET"); resp.StatusCode != 200 || !strings.HasPrefix(body, "GET "+path+" ") {
			t.Fatalf("answer to %s: %d %q", path, resp.StatusCode, body)
		}
	}
	ask := func(paths ...string) {
		t.Helper()
		var all strings.Builder
		for _, p := range paths {
			all.WriteString("GET " + p + keepAlive + "\r\n")
		}
		c.send(all.String())
	}
	for range 2 {
		ask("/plain/1")
		answered("/plain/1")
		ask("/slow/2", "/plain/3", "/slow/4")
		for range 2 {
			if stack := <-w.called; strings.Contains(stack, "conn.(*Conn).Serve") {
				t.Errorf("a policy that waits is called within the poller's read:\n%s", stack)
			}
			w.goOn <- "on"
		}
		answered("/slow/2")
		answered("/plain/3")
		answered("/slow/4")
	}
}
