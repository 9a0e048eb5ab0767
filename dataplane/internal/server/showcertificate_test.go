package server_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
)

// TestServicesAreToldTheCertificate looks at what a service sees of the client's certificate, and of what the client says of one.
func TestServicesAreToldTheCertificate(t *testing.T) { overEngines(t, testToldTheCertificate) }

func testToldTheCertificate(t *testing.T, e server.Engine) {
	seen := make(chan http.Header, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(up.Close)
	p := newPartners(t)
	records := append(p.records(), known(t, "alice", p.clients["valid"])...)
	told := service(up.URL)
	told.Name, told.ForwardClientCertificate = "told", true
	records = append(records, record("services", "told", told))
	for name, r := range map[string]*configv1.Route{
		"demand": {ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"partners"}}},
		"policy": {Policies: []*configv1.Binding{binding("mtls-auth", &policyv1.MtlsAuth{Ca: []string{"partners"}})}},
		"open":   {Paths: []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/open"}}}, Hosts: []string{"policy.test"}},
		"untold": {Service: "up", ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"partners"}}},
	} {
		r.Name = name
		if r.Service == "" {
			r.Service = "told"
		}
		if r.Hosts == nil {
			r.Hosts = []string{name + ".test"}
		}
		records = append(records, record("routes", name, r))
	}
	g := start(t, e, https())
	g.everywhere(up.URL, records...)
	own := ":" + base64.StdEncoding.EncodeToString(p.clients["valid"].Leaf.Raw) + ":"
	for _, tt := range []struct {
		name, host, path string
		want             []string
	}{
		{"let in by a demand", "demand.test", "/", []string{own}},
		{"let in by a policy", "policy.test", "/", []string{own}},
		{"shown, but nobody vouches", "policy.test", "/open", nil},
		{"to a service that does not ask", "untold.test", "/", nil},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				v := visit{sni: tt.host, host: tt.host, cert: p.clients["valid"], h2: h2}
				c, err := g.shake(v.config())
				if err != nil {
					t.Fatal(err)
				}
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!h2)
				protocols.SetHTTP2(h2)
				tr := &http.Transport{Protocols: protocols, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
				defer tr.CloseIdleConnections()
				for range 2 { // the field is made once for a connection
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+tt.host+tt.path, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header["Client-Cert"] = []string{":Zm9yZ2Vk:", ":Zm9yZ2Vk:"}
					req.Header["client-cert-chain"] = []string{":Zm9yZ2Vk:"}
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Fatalf("answered %d", resp.StatusCode)
					}
					h := <-seen
					if diff := cmp.Diff(tt.want, h["Client-Cert"]); diff != "" || h.Get("Client-Cert-Chain") != "" {
						t.Errorf("the chain is %q, the certificate (-want +got):\n%s", h.Get("Client-Cert-Chain"), strings.ReplaceAll(diff, own, "its own"))
					}
				}
			})
		}
	}
}

// A proxy in front that ends TLS may tell of the certificate itself, unless the service is to be told by the gateway.
func TestTrustedProxiesTellOfCertificates(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Client-Cert") }))
	t.Cleanup(up.Close)
	for _, tt := range []struct {
		name    string
		trusted []string
		forward bool
		want    string
	}{
		{"trusted", []string{"127.0.0.0/8"}, false, ":eA==:"},
		{"not trusted", nil, false, ""},
		{"trusted, but the gateway tells", []string{"127.0.0.0/8"}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, server.Keyward, server.Listener{Name: "http", Address: "127.0.0.1:0"})
			s := service(up.URL)
			s.ForwardClientCertificate = tt.forward
			g.config(settings(&configv1.Settings{TrustedProxies: tt.trusted}), record("services", "up", s), record("routes", "r", route()))
			get(t, g.address("http"), "/", "Client-Cert", ":eA==:")
			if got := <-seen; got != tt.want {
				t.Errorf("the service sees %q, want %q", got, tt.want)
			}
		})
	}
}
