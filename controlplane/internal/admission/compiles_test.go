package admission_test

import (
	"os"
	"path/filepath"
	"testing"

	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	optionsv1 "keyward.dev/proto/gen/keyward/options/v1"

	"keyward.dev/shared/check/chain"
	"keyward.dev/shared/check/match"
)

func (g *group) options(typ string) *optionsv1.PolicyOptions {
	p, ok := g.cat.Policy(typ)
	if !ok {
		return nil
	}
	return &optionsv1.PolicyOptions{Type: p.Type, Phase: p.Phase, Combine: p.Combine, BindableOn: p.BindableOn, Body: p.Body}
}

func (g *group) owner(kind, name string) *chain.Owner {
	r, ok := g.Get(kind, name)
	if !ok {
		return nil
	}
	bound, _ := r.Message.(interface{ GetPolicies() []*configv1.Binding })
	return &chain.Owner{Kind: kind, UID: r.UID, Name: name, Bindings: bound.GetPolicies()}
}

// compiles holds what admission promises gateways: every admitted route can be matched and its chain can be run, for
// every consumer.
func (g *group) compiles(t *testing.T) {
	t.Helper()
	for r := range g.All("routes") {
		route, _ := r.Message.(*configv1.Route)
		for _, p := range match.Paths(route) {
			if re := p.GetRegex(); re != "" {
				if _, _, err := match.Regex(re); err != nil {
					t.Fatalf("%s: %v", r.Name, err)
				}
			}
		}
		if err := match.CheckConditions(route); err != nil {
			t.Fatal(err)
		}
		in := chain.Input{
			Settings: g.owner("settings", "settings"), Service: g.owner("services", route.GetService()),
			Route: g.owner("routes", r.Name), Authn: route.GetAuthn(),
		}
		g.chainRuns(t, in)
		for c := range g.All("consumers") {
			consumer, _ := c.Message.(*configv1.Consumer)
			in.Consumer, in.Groups = g.owner("consumers", c.Name), nil
			for _, label := range consumer.GetGroups() {
				if o := g.owner("consumer-groups", label); o != nil {
					in.Groups = append(in.Groups, o)
				}
			}
			g.chainRuns(t, in)
		}
	}
}

func (g *group) chainRuns(t *testing.T, in chain.Input) {
	t.Helper()
	c := chain.Effective(g.options, in)
	if why := c.Closed(); why != "" {
		t.Fatalf("admitted, but the chain of route %s cannot be run: %s", in.Route.Name, why)
	}
}

func TestWhatIsAdmittedCompiles(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.must(base)
	g.must(`
settings:
  policies:
    - {type: key-auth, name: all, locked: true}
    - {type: rate-limit, config: {windows: [{limit: 5, window: 60s}]}}
    - {type: acl, config: {allow: gold}}
routes:
  - name: x
    service: s
    paths: [{regex: "/[a-z]+"}]
    policies: [{type: key-auth, name: own}, {type: cors, config: {allow_origins: "*"}}]
    authn: {any_of: [[all, own], [all]]}
consumers:
  - name: bob
    groups: [gold, silver]
    policies: [{type: ip-restriction, config: {allow: 10.0.0.0/8}}, {type: rate-limit, enabled: false, config: {windows: [{limit: 5, window: 60s}]}}]
consumer-groups:
  - {name: gold, policies: [{type: rate-limit, config: {windows: [{limit: 50, window: 60s}]}}]}
`)
	g.compiles(t)
}

// TestExamplesAreAdmitted keeps what people copy first from becoming wrong.
func TestExamplesAreAdmitted(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../../docs/examples/*.yaml")
	if len(files) == 0 {
		t.Error("no examples")
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		g := newGroup(t)
		if _, vs := g.apply(string(doc), false); len(vs) > 0 {
			t.Errorf("%s: %v", file, vs)
		}
		g.must(string(doc))
		g.compiles(t)
	}
}
