// Package conformance holds the gateway against RFC 9110, RFC 9112 and RFC 9113 with raw bytes on real sockets, in both
// directions and with both of its engines: framing is a security boundary, and what is ambiguous has to be refused, never
// repaired.
package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyward.dev/e2e/harness"
)

// site is a gateway with an engine in a group of its own, and what its document says.
type site struct {
	*harness.Edge
	engine           string
	services, routes []string
}

// serve adds a service and a route for a host. Fields are further fields of the two, as in a document.
func (s *site) serve(name, addr, service, route string) {
	s.services = append(s.services, fmt.Sprintf("  - {name: %s, targets: [%q], host_header: preserve%s}", name, addr, service))
	s.routes = append(s.routes, fmt.Sprintf("  - {name: %s, service: %s, hosts: [%s.test]%s}", name, name, name, route))
}

// forbid adds a route to a service that exists, at which everybody is refused.
func (s *site) forbid(name, path string) {
	s.routes = append(s.routes, fmt.Sprintf("  - {name: %s-forbidden, service: %s, hosts: [%s.test], paths: [%q], policies: [{type: ip-restriction, config: {deny: [0.0.0.0/0]}}]}",
		name, name, name, path))
}

// name is the engine's, as it can stand in other names.
func (s *site) name() string { return strings.ReplaceAll(s.engine, "/", "-") }

// start makes the group, applies the document and starts the gateway.
func (s *site) start(t *testing.T, c *harness.Cluster, policy string) {
	t.Helper()
	group := s.name() + "-" + policy
	c.CreateGroup(group)
	revision := c.Apply(fmt.Sprintf("group: %s\nsettings: {require_https: false, path_policy: %s}\nservices:\n%s\nroutes:\n%s\n",
		group, policy, strings.Join(s.services, "\n"), strings.Join(s.routes, "\n")))
	s.Edge = c.StartEdge(t, group, s.engine, "*.test", "localhost")
	s.AwaitRevision(revision)
}

// suite is a part of the conformance test. It adds what it needs to a site, and runs once the site stands.
type suite func(t *testing.T, s *site) func(t *testing.T)

// TestConformance runs every suite on every engine.
func TestConformance(t *testing.T) {
	t.Parallel()
	c := harness.New(t, harness.Options{})
	for _, engine := range harness.Engines() {
		runSuites(t, c, engine, "strict", []namedSuite{
			{"messages", messages},
			{"http2", http2Messages},
			{"upstreams", upstreams},
			{"paths", strictPaths},
			{"h2spec", h2spec},
		})
		runSuites(t, c, engine, "permissive", []namedSuite{{"paths", permissivePaths}})
	}
}

type namedSuite struct {
	name  string
	suite suite
}

// runSuites runs suites side by side on a site with a path policy.
func runSuites(t *testing.T, c *harness.Cluster, engine, policy string, suites []namedSuite) {
	t.Helper()
	s := &site{engine: engine}
	runs := map[string]func(t *testing.T){}
	for _, x := range suites {
		runs[x.name] = x.suite(t, s)
	}
	s.start(t, c, policy)
	t.Run(s.name()+"-"+policy, func(t *testing.T) {
		t.Parallel()
		for _, x := range suites {
			t.Run(x.name, func(t *testing.T) {
				t.Parallel()
				runs[x.name](t)
			})
		}
	})
}

// tables are the requirements that hold for every engine.
func tables() map[string][]requirement {
	return map[string][]requirement{
		"request syntax": requestSyntax(), "request targets": requestTargets(), "request fields": requestFields(),
		"request framing": requestFraming(), "chunks": requestChunks(), "connections": connections(),
		"forwarding": forwarding(), "response syntax": responseSyntax(), "response framing": responseFraming(),
		"responses": responseForwarding(),
	}
}

// messages runs the tables.
func messages(t *testing.T, s *site) func(t *testing.T) {
	t.Helper()
	w := harness.NewWitness(t)
	s.serve("a", w.Addr, "", "")
	return func(t *testing.T) {
		b := &bench{addr: s.HTTP, host: host, witness: w, lossy: s.engine == "net/http"}
		for name, requirements := range tables() {
			t.Run(name, func(t *testing.T) {
				for _, r := range requirements {
					for _, tr := range slices.Concat(r.accept, r.reject) {
						t.Run(tr.name, func(t *testing.T) {
							b.judge(t, tr, differences[s.engine][name+"/"+tr.name])
							if t.Failed() {
								t.Logf("%s: %s", r.section, r.says)
							}
						})
					}
				}
			})
		}
	}
}

// TestEveryRequirementHoldsBothWays looks at the tables themselves.
func TestEveryRequirementHoldsBothWays(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for table, requirements := range tables() {
		for _, r := range requirements {
			if len(r.accept) == 0 || len(r.reject) == 0 {
				t.Errorf("%s: %s has %d trials that pass and %d that do not; it needs both", table, r.section, len(r.accept), len(r.reject))
			}
			for _, tr := range slices.Concat(r.accept, r.reject) {
				if name := table + "/" + tr.name; names[name] {
					t.Errorf("two trials are called %s", name)
				} else {
					names[name] = true
				}
			}
		}
	}
	for engine, list := range differences {
		for name := range list {
			if !names[name] {
				t.Errorf("%s differs in %q, which is no trial", engine, name)
			}
		}
	}
}
