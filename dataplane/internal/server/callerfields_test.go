package server_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// witness is a service that notes what it is told of callers, in the header and in the trailer.
func witness(t *testing.T) (url string, seen chan []string) {
	t.Helper()
	seen = make(chan []string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		var told []string
		for where, h := range map[string]http.Header{"": r.Header, "trailer ": r.Trailer} {
			for name, values := range h {
				if folded := strings.ReplaceAll(strings.ToLower(name), "_", "-"); strings.HasPrefix(folded, "x-who-") {
					told = append(told, where+folded+": "+strings.Join(values, "|"))
				}
			}
		}
		slices.Sort(told)
		seen <- told
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

// TestCallersCannotForgeWhoTheyAre sends what says who calls in all ways in which a service might believe it.
func TestCallersCannotForgeWhoTheyAre(t *testing.T) { overEngines(t, testForgery) }

func testForgery(t *testing.T, e server.Engine) {
	url, seen := witness(t)
	g := start(t, e, server.Listener{Name: "http", Address: "127.0.0.1:0"}, server.Listener{Name: "https", Address: "127.0.0.1:0", TLS: true})
	hidden := service(url)
	hidden.Name, hidden.HideIdentity = "hidden", true
	asks := []*configv1.Binding{binding("key-auth", &policyv1.KeyAuth{})}
	g.config(
		settings(&configv1.Settings{IdentityHeaders: &configv1.IdentityHeaders{Consumer: "X-Who-Name", Kind: "X-Who-Kind", Anonymous: "X-Who-Nobody", Groups: "X-Who-Groups"}}),
		record("services", "up", service(url)), record("services", "hidden", hidden),
		record("consumers", "guest", &configv1.Consumer{Name: "guest", Groups: []string{"a", "b"}}),
		record("routes", "told", &configv1.Route{Name: "told", Service: "up", Hosts: []string{"told.test"}, Policies: asks, Authn: &configv1.Authn{Anonymous: "guest"}}),
		record("routes", "hidden", &configv1.Route{Name: "hidden", Service: "hidden", Hosts: []string{"hidden.test"}, Policies: asks, Authn: &configv1.Authn{Anonymous: "guest"}}),
		record("routes", "open", &configv1.Route{Name: "open", Service: "up", Hosts: []string{"open.test"}}),
	)
	told := []string{"x-who-groups: a,b", "x-who-kind: anonymous", "x-who-name: guest", "x-who-nobody: true"}
	forged := "X-Who-Name: root\r\nx-who-name: root\r\nX_Who_Name: root\r\nX-WHO_GROUPS: root\r\nX-Who-Nobody:\r\nX-Who-Else: 1\r\n"
	for _, tt := range []struct {
		name, request string
		want          []string
	}{
		{"fields", "GET / HTTP/1.1\r\nHost: told.test\r\n" + forged + "Connection: close\r\n\r\n", append([]string{"x-who-else: 1"}, told...)},
		{"a service that is not told", "GET / HTTP/1.1\r\nHost: hidden.test\r\n" + forged + "Connection: close\r\n\r\n", []string{"x-who-else: 1"}},
		{"a route that asks nobody", "GET / HTTP/1.1\r\nHost: open.test\r\n" + forged + "Connection: close\r\n\r\n", []string{"x-who-else: 1"}},
		{"connection options", "GET / HTTP/1.1\r\nHost: told.test\r\nConnection: close, X-Who-Name, x-who-nobody\r\n" + forged + "\r\n", append([]string{"x-who-else: 1"}, told...)},
		{
			"a trailer",
			"POST / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Who-Name, X_Who_Groups, X-Who-Else\r\n\r\n" +
				"1\r\na\r\n0\r\nX-Who-Name: root\r\nX_Who_Groups: root\r\nX-Who-Else: 1\r\n\r\n",
			[]string{"trailer x-who-else: 1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if answer := raw(t, g.address("http"), tt.request); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
				t.Fatal(answer)
			}
			if diff := cmp.Diff(tt.want, announced(<-seen)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("http/2", func(t *testing.T) {
		protocols := new(http.Protocols)
		protocols.SetHTTP2(true)
		tr := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+g.address("https")+"/", io.MultiReader(strings.NewReader("a")))
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Trailer = "told.test", http.Header{"X-Who-Kind": {"root"}, "X-Who-Else": {"2"}}
		req.Header["x-who-name"], req.Header["x_who_groups"], req.Header["X-Who-Else"] = []string{"root", "root"}, []string{"root"}, []string{"1"}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := append([]string{"trailer x-who-else: 2", "x-who-else: 1"}, told...)
		if diff := cmp.Diff(want, announced(<-seen)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// announced leaves out trailer fields that were only announced.
func announced(told []string) []string {
	return slices.DeleteFunc(told, func(s string) bool { return strings.HasPrefix(s, "trailer ") && strings.HasSuffix(s, ": ") })
}
