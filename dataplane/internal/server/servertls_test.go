package server_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/ciphers"
)

// twoKeys are certificates for a.test, of ECDSA and of RSA.
func twoKeys(t *testing.T) []statetest.Record {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca := newIssuer(t, "ca")
	return []statetest.Record{
		shownFor(t, "ecdsa", ca.issue(issued{names: []string{"a.test"}}), "a.test"),
		shownFor(t, "rsa", ca.issue(issued{names: []string{"a.test"}, key: key}), "a.test"),
	}
}

// tlsGateway serves a.test with what the settings say.
func tlsGateway(t *testing.T, s *configv1.ServerTls, shown []statetest.Record, url string) *gateway {
	t.Helper()
	g := startWith(t, server.Config{Listeners: []server.Listener{https()}})
	g.config(append(shown, settings(&configv1.Settings{Tls: s}), record("services", "up", service(url)), record("routes", "r", route()))...)
	return g
}

// TestEveryVersionSuiteAndCurve shakes hands with clients that know one thing each.
func TestEveryVersionSuiteAndCurve(t *testing.T) {
	t.Parallel()
	shown, url := twoKeys(t), echo(t).URL
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	type client struct {
		name     string
		min, max uint16
		suite    uint16
		curve    tls.CurveID
	}
	var clients []client
	for v, name := range map[uint16]string{tls.VersionTLS10: "1.0", tls.VersionTLS11: "1.1", v12: "1.2", v13: "1.3"} {
		clients = append(clients, client{name: name, min: v, max: v})
	}
	for name, id := range ciphers.Suites() {
		clients = append(clients, client{name: name, max: v12, suite: id})
	}
	for _, weak := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA} {
		clients = append(clients, client{name: tls.CipherSuiteName(weak), max: v12, suite: weak})
	}
	for name, id := range ciphers.Curves() {
		clients = append(clients, client{name: name, curve: tls.CurveID(id)})
	}
	all := []string{"1.2", "1.3"}
	for name := range ciphers.Suites() {
		all = append(all, name)
	}
	for name := range ciphers.Curves() {
		all = append(all, name)
	}
	without := func(gone ...string) []string {
		var out []string
		for _, one := range all {
			keep := true
			for _, g := range gone {
				keep = keep && g != one
			}
			if keep {
				out = append(out, one)
			}
		}
		return out
	}
	curves := []string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "1.3"}
	suites := all[2:8]
	for _, tt := range []struct {
		name  string
		is    *configv1.ServerTls
		takes []string
	}{
		{"as if nothing was said", nil, all},
		{"1.3 at least", &configv1.ServerTls{MinVersion: "1.3"}, without(append([]string{"1.2"}, suites...)...)},
		{"1.2 at most", &configv1.ServerTls{MinVersion: "1.2", MaxVersion: "1.2"}, without(curves...)},
		{"one suite", &configv1.ServerTls{CipherSuites: suites[:1]}, without(suites[1:]...)},
		{"one curve", &configv1.ServerTls{Curves: []string{"X25519"}}, without("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "P-256", "P-384", "P-521")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := tlsGateway(t, tt.is, shown, url)
			takes := map[string]bool{}
			for _, name := range tt.takes {
				takes[name] = true
			}
			for _, c := range clients {
				config := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, MinVersion: c.min, MaxVersion: c.max}
				if c.suite != 0 {
					config.CipherSuites = []uint16{c.suite}
				}
				if c.curve != 0 {
					config.CurvePreferences = []tls.CurveID{c.curve}
				}
				conn, err := g.shake(config)
				if taken := err == nil; taken != takes[c.name] {
					t.Errorf("%s: %v, want it taken: %v", c.name, err, takes[c.name])
					continue
				}
				if err != nil {
					continue
				}
				got := conn.ConnectionState()
				if c.suite != 0 && got.CipherSuite != c.suite || c.curve != 0 && got.CurveID != c.curve {
					t.Errorf("%s: spoken are %s and %v", c.name, tls.CipherSuiteName(got.CipherSuite), got.CurveID)
				}
			}
		})
	}
}

func TestTheHybridKeyExchangeIsPreferred(t *testing.T) {
	t.Parallel()
	g := tlsGateway(t, nil, twoKeys(t), echo(t).URL)
	c, err := g.shake(&tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if s := c.ConnectionState(); s.CurveID != tls.X25519MLKEM768 || s.Version != tls.VersionTLS13 {
		t.Errorf("spoken are %v and %s", s.CurveID, tls.VersionName(s.Version))
	}
}

func TestSessionTicketsAreGivenAsTheSettingsSay(t *testing.T) {
	t.Parallel()
	shown, url := twoKeys(t), echo(t).URL
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			t.Parallel()
			g := tlsGateway(t, &configv1.ServerTls{SessionTickets: &on}, shown, url)
			client := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
			for i := range 2 {
				c, err := g.shake(client)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ask(t, c, "a.test", "/"); err != nil {
					t.Fatal(err)
				}
				if got, want := c.ConnectionState().DidResume, on && i > 0; got != want {
					t.Errorf("handshake %d resumed: %v, want %v", i, got, want)
				}
			}
		})
	}
}

func TestBrowsersAreToldToComeOverTLS(t *testing.T) { overEngines(t, testHSTS) }

func testHSTS(t *testing.T, e server.Engine) {
	const name = "Strict-Transport-Security"
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(name, "max-age=1") }))
	t.Cleanup(up.Close)
	g := start(t, e, https(), server.Listener{Name: "http", Address: "127.0.0.1:0"})
	year := durationpb.New(365 * 24 * time.Hour)
	for _, tt := range []struct {
		hsts      *configv1.Hsts
		want, raw string
		refused   string
	}{
		{nil, "max-age=1", "max-age=1", ""},
		{&configv1.Hsts{MaxAge: year}, "max-age=31536000", "max-age=1", "max-age=31536000"},
		{&configv1.Hsts{MaxAge: year, IncludeSubdomains: true, Preload: true}, "max-age=31536000; includeSubDomains; preload", "max-age=1", "max-age=31536000; includeSubDomains; preload"},
		{&configv1.Hsts{MaxAge: durationpb.New(0)}, "max-age=0", "max-age=1", "max-age=0"},
	} {
		r := route()
		r.Paths = []*configv1.PathMatch{{Match: &configv1.PathMatch_Prefix{Prefix: "/there"}}}
		g.config(settings(&configv1.Settings{Tls: &configv1.ServerTls{Hsts: tt.hsts}}), record("services", "up", service(up.URL)), record("routes", "r", r))
		for _, h2 := range []bool{false, true} {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!h2)
			protocols.SetHTTP2(h2)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols}}
			for url, want := range map[string]string{
				"https://" + g.address("https") + "/there": tt.want, "https://" + g.address("https") + "/": tt.refused, "http://" + g.address("http") + "/there": tt.raw,
			} {
				if h2 && url[:5] == "http:" {
					continue
				}
				resp, err := client.Get(url)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				got := resp.Header.Values(name)
				if fmt.Sprint(got) != fmt.Sprint([]string{want}) && (want != "" || len(got) > 0) {
					t.Errorf("%v, HTTP/2 %v, %s: %q, want %q", tt.hsts, h2, url, got, want)
				}
			}
			client.CloseIdleConnections()
		}
	}
}
