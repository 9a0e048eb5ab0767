package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"keyward.dev/shared/problem"
	"keyward.dev/shared/testkit/certtest"
)

// TestWhoVouchesForClients binds mtls-auth on every level, and takes away by whom it goes.
func TestWhoVouchesForClients(t *testing.T) {
	t.Parallel()
	authorities := fmt.Sprintf("ca-certificates:\n  - {name: ca, certificates: %q}\n", certtest.CA(t, "ca").PEM())
	const (
		bound   = "policies: [{type: mtls-auth}]"
		named   = "policies: [{type: mtls-auth, config: {ca: ca}}]"
		demand  = "client_certificates: {ca: ca}"
		off     = "policies: [{type: mtls-auth, enabled: false}]"
		needed  = "is needed here: client_certificates do not say whom to believe, neither here nor above"
		nothing = "description: x"
	)
	settings := func(fields string) string {
		return "settings: {" + strings.ReplaceAll(fields, nothing, "require_https: false") + "}\n"
	}
	service := func(fields string) string {
		return "services:\n  - {name: s, url: \"http://a.test\", " + fields + "}\n"
	}
	route := func(fields string) string {
		return "routes:\n  - {name: r, service: s, hosts: a.test, " + fields + "}\n"
	}
	for _, tt := range []struct {
		name  string
		docs  []string
		fault string
	}{
		{"on the route, by name", []string{service(nothing) + route(named)}, ""},
		{"on the route, by nobody", []string{service(nothing) + route(bound)}, "routes[0].policies[0].config.ca: " + needed},
		{"on the route, switched off", []string{service(nothing) + route(off)}, ""},
		{"on the route, beside its demand", []string{service(nothing) + route(bound+", "+demand)}, ""},
		{"on the route, below that of the service", []string{service(demand) + route(bound)}, ""},
		{"on the route, below that of the settings", []string{settings(demand) + service(nothing) + route(bound)}, ""},
		{"on the service", []string{service(bound)}, "services[0].policies[0].config.ca: " + needed},
		{"on the service, beside its demand", []string{service(bound + ", " + demand)}, ""},
		{"on the service, below that of the settings", []string{settings(demand), service(bound)}, ""},
		{"in the settings", []string{settings(bound)}, "settings.policies[0].config.ca: " + needed},
		{"in the settings, beside their demand", []string{settings(bound + ", " + demand)}, ""},
		{
			"the service's demand goes",
			[]string{service(demand) + route(bound), service(nothing)},
			"services[0].client_certificates: is needed by mtls-auth of routes/r, which names no authorities",
		},
		{
			"the settings' demand goes",
			[]string{settings(demand) + service(nothing) + route(bound), settings(nothing)},
			"settings.client_certificates: is needed by mtls-auth of routes/r, which names no authorities",
		},
		{
			"the settings' demand goes from above a service",
			[]string{settings(demand) + service(bound), settings(nothing)},
			"settings.client_certificates: is needed by mtls-auth of services/s, which names no authorities",
		},
		{"the settings' demand goes, which nobody needs", []string{settings(demand) + service(nothing) + route(named), settings(nothing)}, ""},
		{"by authorities that are not there", []string{service(nothing) + route(strings.ReplaceAll(named, "ca: ca", "ca: x"))}, "routes[0].policies[0].config.ca: there is no ca-certificates/x"},
		{
			"by a file",
			[]string{service(nothing) + route(strings.ReplaceAll(named, "ca: ca", `ca: "gateway:/ca.pem"`))},
			"routes[0].policies[0].config.ca: is not the name of one of ca-certificates",
		},
		{"authorities in use go", []string{service(nothing) + route(named), "delete ca-certificates ca"}, "ca-certificates/ca is used by routes/r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			g.must("group: g\n" + authorities)
			last := len(tt.docs) - 1
			for _, doc := range tt.docs[:last] {
				g.must("group: g\n" + doc)
			}
			var vs []problem.Violation
			if what, ok := strings.CutPrefix(tt.docs[last], "delete "); ok {
				kind, name, _ := strings.Cut(what, " ")
				_, vs = g.remove(kind, name)
			} else {
				_, vs = g.apply("group: g\n"+tt.docs[last], false)
			}
			if got := reasons(vs); !strings.HasSuffix(got, tt.fault) || (got == "") != (tt.fault == "") {
				t.Errorf("%q, want %q", got, tt.fault)
			}
		})
	}
}

// TestNobodySharesACertificateName has two credentials that know certificates by one name, written in different ways.
func TestNobodySharesACertificateName(t *testing.T) {
	t.Parallel()
	consumer := func(name, config string) string {
		return "consumers:\n  - {name: " + name + ", credentials: [{name: k, type: mtls-auth, config: {" + config + "}}]}\n"
	}
	hash := strings.Repeat("0a", 32)
	for _, tt := range []struct {
		name, first, second string
		shared              bool
	}{
		{"fingerprint", "fingerprint: \"" + hash + "\"", "fingerprint: \"" + strings.TrimSuffix(strings.Repeat("0A:", 32), ":") + "\"", true},
		{"san", `san: "DNS:A.example"`, `san: "dns:a.example."`, true},
		{"subject", `subject: "CN=a, O=b"`, `subject: "cn=a,o=b"`, true},
		{"other san", `san: "DNS:a.example"`, `san: "DNS:b.example"`, false},
		{"other kind of san", `san: "DNS:a.example"`, `san: "URI:DNS:a.example"`, false},
		{"case of a value", `subject: "CN=a"`, `subject: "CN=A"`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, together := range []bool{false, true} {
				g := newGroup(t)
				doc := "group: g\n" + consumer("one", tt.first)
				if together {
					doc += strings.TrimPrefix(consumer("two", tt.second), "consumers:\n")
				} else {
					g.must(doc)
					doc = "group: g\n" + consumer("two", tt.second)
				}
				_, vs := g.apply(doc, false)
				if got := reasons(vs); strings.HasSuffix(got, "knows certificates by the same") != tt.shared || (got == "") == tt.shared {
					t.Errorf("together=%v: %q, want it refused %v", together, got, tt.shared)
				}
			}
			g := newGroup(t)
			g.must("group: g\n" + consumer("one", tt.first))
			g.must("group: g\n" + consumer("one", tt.first)) // it does not share with itself
		})
	}
}
