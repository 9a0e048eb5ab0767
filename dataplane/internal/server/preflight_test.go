package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestPreflightIsMatchedByTheMethodItAsksFor lets browsers ask about a route that takes GET only, and lets nothing else
// get past the route's methods.
func TestPreflightIsMatchedByTheMethodItAsksFor(t *testing.T) {
	overEngines(t, testPreflightIsMatchedByTheMethodItAsksFor)
}

func testPreflightIsMatchedByTheMethodItAsksFor(t *testing.T, e server.Engine) {
	t.Parallel()
	g := start(t, e)
	up := echo(t)
	shared := route()
	shared.Name, shared.Hosts, shared.Methods = "shared", []string{"cors.test"}, []string{http.MethodGet}
	shared.Policies = []*configv1.Binding{
		binding("cors", &policyv1.Cors{AllowOrigins: []string{"https://app.test"}}),
		binding("key-auth", &policyv1.KeyAuth{}),
	}
	plain := route()
	plain.Name, plain.Hosts, plain.Methods = "plain", []string{"plain.test"}, []string{http.MethodGet}
	guarded := route()
	guarded.Name, guarded.Hosts, guarded.Policies = "guarded", []string{"guarded.test"}, []*configv1.Binding{binding("key-auth", &policyv1.KeyAuth{})}
	either := route()
	either.Name, either.Hosts, either.Policies = "either", []string{"either.test"}, []*configv1.Binding{
		binding("key-auth", &policyv1.KeyAuth{}),
		{Type: "key-auth", Name: "other", Config: binding("key-auth", &policyv1.KeyAuth{Header: []string{"X-Other"}}).GetConfig()},
		binding("cors", &policyv1.Cors{AllowOrigins: []string{"https://app.test"}}), // behind them as written, before them in time
	}
	g.config(settings(&configv1.Settings{}), record("services", "up", service(up.URL)),
		record("routes", "shared", shared), record("routes", "plain", plain), record("routes", "guarded", guarded), record("routes", "either", either))
	const ask = "Origin: https://app.test\r\nAccess-Control-Request-Method: "
	tests := []struct {
		name, host, method, fields string
		status                     int
		contains                   string
	}{
		{"asks for what the route takes", "cors.test", "OPTIONS", ask + "GET\r\n", 204, "Access-Control-Allow-Origin: https://app.test"},
		{"asks for what it does not take", "cors.test", "OPTIONS", ask + "DELETE\r\n", 405, ""},
		{"an OPTIONS that is no preflight", "cors.test", "OPTIONS", "Origin: https://app.test\r\n", 405, ""},
		{"a route without cors", "plain.test", "OPTIONS", ask + "GET\r\n", 405, ""},
		{"without cors it needs a key like others", "guarded.test", "OPTIONS", ask + "GET\r\n", 401, `ApiKey realm="keyward"`},
		{"with cors it needs nothing of several policies", "either.test", "OPTIONS", ask + "GET\r\n", 204, "Access-Control-Allow-Origin: https://app.test"},
		{"an OPTIONS that is no preflight needs a key", "either.test", "OPTIONS", "Origin: https://app.test\r\n", 401, ""},
		{"the request itself still needs its key", "cors.test", "GET", "Origin: https://app.test\r\n", 401, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answer := raw(t, g.address("http"), tt.method+" / HTTP/1.1\r\nHost: "+tt.host+"\r\nConnection: close\r\n"+tt.fields+"\r\n")
			if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) || !strings.Contains(answer, tt.contains) {
				t.Errorf("want %d with %q, got\n%s", tt.status, tt.contains, answer)
			}
		})
	}
}
