package server_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	credentialv1 "keyward.dev/proto/gen/keyward/credential/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit"
)

func certified(name, host string, ca ...string) statetest.Record {
	return record("routes", name, &configv1.Route{
		Name: name, Service: "up", Hosts: []string{host}, Policies: []*configv1.Binding{binding("mtls-auth", &policyv1.MtlsAuth{Ca: ca})},
	})
}

// known is a consumer who owns a certificate.
func known(t *testing.T, name string, c *tls.Certificate) []statetest.Record {
	t.Helper()
	cfg, err := anypb.New(&credentialv1.MtlsAuth{Identity: &credentialv1.MtlsAuth_Fingerprint{Fingerprint: certs.ID(c.Leaf.Raw)}})
	if err != nil {
		t.Fatal(err)
	}
	return []statetest.Record{
		record("consumers", name, &configv1.Consumer{Name: name}),
		record("credentials", name+"/k", &configv1.Credential{Name: "k", Consumer: name, Type: "mtls-auth", Config: cfg}),
	}
}

// TestConsumersAreKnownByCertificates has clients of all sorts come to routes that know consumers by certificates.
func TestConsumersAreKnownByCertificates(t *testing.T) { overEngines(t, testKnownByCertificates) }

func testKnownByCertificates(t *testing.T, e server.Engine) {
	p := newPartners(t)
	g := start(t, e, https(), server.Listener{Name: "http", Address: "127.0.0.1:0"})
	records := append(p.records(), certified("r1", "a.test", "partners"), hostRoute("r2", "/", nil, "open.test"),
		record("routes", "r3", &configv1.Route{
			Name: "r3", Service: "up", Hosts: []string{"demand.test"}, Policies: []*configv1.Binding{binding("mtls-auth", &policyv1.MtlsAuth{})},
			ClientCertificates: &configv1.RouteClientCertificates{Ca: []string{"partners"}, Allow: []string{"pinned"}},
		}))
	records = append(records, known(t, "alice", p.clients["valid"])...)
	g.everywhere(echo(t).URL, append(records, known(t, "bob", p.clients["other CA"])...)...)
	for _, tt := range []struct{ name, sni, host, who, want string }{
		{"her own", "a.test", "a.test", "valid", "200"},
		{"none", "a.test", "a.test", "none", "401"},
		{"of another authority", "a.test", "a.test", "other CA", "401"},
		{"for servers", "a.test", "a.test", "for servers", "401"},
		{"expired", "a.test", "a.test", "expired", "401"},
		{"revoked", "a.test", "a.test", "revoked", "401"},
		{"no name", "", "a.test", "valid", "200"},
		{"no name, none", "", "a.test", "none", "401"},
		{"from an open name", "open.test", "a.test", "valid", "421"},
		{"to an open name", "a.test", "open.test", "valid", "421"},
		{"an open name", "open.test", "open.test", "none", "200"},
		{"beside a demand", "demand.test", "demand.test", "valid", "200"},
		{"beside a demand, of nobody", "demand.test", "demand.test", "allow-listed", "401"},
		{"beside a demand, none", "demand.test", "demand.test", "none", "certificate required"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				t.Parallel()
				if got := g.visit(&visit{sni: tt.sni, host: tt.host, path: "/", cert: p.clients[tt.who], h2: h2}); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
	if resp, body := get(t, g.address("http"), "/", "Host", "a.test"); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "client_certificate_required") {
		t.Errorf("without TLS: %d %s", resp.StatusCode, body)
	}
}

// TestStreamsDoNotOutliveWhoVouches takes the authority away beneath a stream that it has let in, and then the credential.
func TestStreamsDoNotOutliveWhoVouches(t *testing.T) { overEngines(t, testVouching) }

func testVouching(t *testing.T, e server.Engine) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, strings.Repeat("x", 1024))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(endless.Close)
	p := newPartners(t)
	other := newIssuer(t, "partners")
	replaced := record(certs.KindCA, "partners", &configv1.CaCertificate{Name: "partners", Certificates: other.PEM()})
	base := append(p.records(), certified("r1", "a.test", "partners"))
	for _, tt := range []struct {
		name  string
		after []statetest.Record
		why   string
	}{
		{"the authority", append([]statetest.Record{replaced, certified("r1", "a.test", "partners")}, known(t, "alice", p.clients["valid"])...), "client_certificate"},
		{"the credential", append(slices.Clip(base), known(t, "alice", p.clients["valid"])[0]), "credential_revoked"},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", tt.name, h2), func(t *testing.T) {
				t.Parallel()
				g := start(t, e, https())
				g.everywhere(endless.URL, append(slices.Clip(base), known(t, "alice", p.clients["valid"])...)...)
				v := visit{sni: "a.test", host: "a.test", path: "/", cert: p.clients["valid"], h2: h2}
				c, err := g.shake(v.config())
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { _, err := g.request(c, &v); ended <- err }()
				testkit.Await(t, 10*time.Second, func() error {
					if g.server.Active() == 0 {
						return errors.New("no stream yet")
					}
					return nil
				})
				g.everywhere(endless.URL, tt.after...)
				<-ended
				<-g.log.got
				g.log.mu.Lock()
				defer g.log.mu.Unlock()
				if line := g.log.all[0]; !strings.Contains(line, tt.why) {
					t.Errorf("log line is %s, want it cut for %s", line, tt.why)
				}
			})
		}
	}
}
