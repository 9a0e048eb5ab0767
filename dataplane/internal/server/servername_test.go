package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/server"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certs"
)

// ownName is the name of which certificates say something; a.test is spoken as the settings say.
const ownName = "own.test"

// ownTerms serves ownName as its certificate says, beside a.test and x.test, which find it as the default.
func ownTerms(t *testing.T, e server.Engine, s *configv1.ServerTls, own *configv1.ServerNameTls) *gateway {
	t.Helper()
	g := startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}})
	ca := newIssuer(t, "ca")
	if s == nil {
		s = &configv1.ServerTls{}
	}
	s.DefaultCertificate = []string{"own"}
	held := &configv1.Certificate{
		Name: "own", Snis: []string{ownName, "*." + ownName}, Current: version(t, ca.issue(issued{names: []string{ownName, "*." + ownName}})), Tls: own,
	}
	g.config(append(twoKeys(t), record(certs.Kind, "own", held), settings(&configv1.Settings{Tls: s}), record("services", "up", service(echo(t).URL)), record("routes", "r", route()))...)
	return g
}

// TestEachTermOfAServerName shakes hands under a name of which a certificate says something, under another one, and under one
// that is shown the same certificate as the default.
func TestEachTermOfAServerName(t *testing.T) {
	t.Parallel()
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	gcm, chacha := uint16(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), uint16(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)
	suite := func(id uint16) *tls.Config { return &tls.Config{MaxVersion: v12, CipherSuites: []uint16{id}} }
	curve := func(id tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: []tls.CurveID{id}} }
	only := func(v uint16) *tls.Config { return &tls.Config{MinVersion: v, MaxVersion: v} }
	for _, tt := range []struct {
		name        string
		is          *configv1.ServerTls
		own         *configv1.ServerNameTls
		client      *tls.Config
		under, rest bool // whether the handshake succeeds
	}{
		{"1.3 at least", nil, &configv1.ServerNameTls{MinVersion: "1.3"}, only(v12), false, true},
		{"1.3 at least, for one who can", nil, &configv1.ServerNameTls{MinVersion: "1.3"}, only(v13), true, true},
		{"1.2 at most", nil, &configv1.ServerNameTls{MaxVersion: "1.2"}, only(v13), false, true},
		{"less than the settings", &configv1.ServerTls{MinVersion: "1.3"}, &configv1.ServerNameTls{MinVersion: "1.2"}, only(v12), true, false},
		{"never less than 1.2", nil, &configv1.ServerNameTls{MinVersion: "1.2"}, only(tls.VersionTLS11), false, false},
		{"one suite", nil, &configv1.ServerNameTls{CipherSuites: []string{tls.CipherSuiteName(gcm)}}, suite(chacha), false, true},
		{"another suite", &configv1.ServerTls{CipherSuites: []string{tls.CipherSuiteName(gcm)}}, &configv1.ServerNameTls{CipherSuites: []string{tls.CipherSuiteName(chacha)}}, suite(chacha), true, false},
		{"one curve", nil, &configv1.ServerNameTls{Curves: []string{"P-384"}}, curve(tls.X25519), false, true},
		{"another curve", &configv1.ServerTls{Curves: []string{"P-384"}}, &configv1.ServerNameTls{Curves: []string{"X25519"}}, curve(tls.X25519), true, false},
		{"nothing", nil, nil, only(v12), true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := ownTerms(t, server.Keyward, tt.is, tt.own)
			for name, want := range map[string]bool{ownName: tt.under, "below." + ownName: tt.under, "a.test": tt.rest, "x.test": tt.rest, "": tt.rest} {
				c := tt.client.Clone()
				c.ServerName, c.InsecureSkipVerify = name, true
				if _, err := g.shake(c); (err == nil) != want {
					t.Errorf("%q: %v, want it taken: %v", name, err, want)
				}
			}
		})
	}
}

func TestTicketsAreGivenAsTheServerNameSays(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		is         *bool
		own        *bool
		under, all bool
	}{
		"off under the name": {nil, new(false), false, true}, "on under the name": {new(false), new(true), true, false}, "nothing said": {nil, nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := ownTerms(t, server.Keyward, &configv1.ServerTls{SessionTickets: tt.is}, &configv1.ServerNameTls{SessionTickets: tt.own, MinVersion: "1.2"})
			for name, want := range map[string]bool{ownName: tt.under, "a.test": tt.all} {
				client := &tls.Config{ServerName: name, InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				for i := range 2 {
					c, err := g.shake(client)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := ask(t, c, name, "/"); err != nil {
						t.Fatal(err)
					}
					if got, want := c.ConnectionState().DidResume, want && i > 0; got != want {
						t.Errorf("%s: handshake %d resumed: %v, want %v", name, i, got, want)
					}
				}
			}
		})
	}
}

func TestProtocolsAreNegotiatedAsTheServerNameSays(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		for _, tt := range negotiations() {
			g := ownTerms(t, e, nil, &configv1.ServerNameTls{Alpn: protocolsOf(tt.has), MinVersion: "1.2"})
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if got := g.speaks(ownName, version, protocolsOf(tt.offers)...); got != tt.want {
					t.Errorf("%q for a client of %s that offers %q: %q, want %q", tt.has, tls.VersionName(version), tt.offers, got, tt.want)
				}
			}
			if got := g.speaks("a.test", tls.VersionTLS13, "h2", "http/1.1"); got != "h2" {
				t.Errorf("%q under another name: %q is spoken", tt.has, got)
			}
		}
	})
}

// TestRequestsUnderANameWithoutHTTP2 makes requests under two names of one gateway with a client that prefers HTTP/2, and looks
// what it is told for each.
func TestRequestsUnderANameWithoutHTTP2(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		hsts := func(seconds int64) *configv1.Hsts {
			return &configv1.Hsts{MaxAge: &durationpb.Duration{Seconds: seconds}}
		}
		g := ownTerms(t, e, &configv1.ServerTls{Hsts: hsts(1)}, &configv1.ServerNameTls{Alpn: []string{"http/1.1"}, Hsts: hsts(2)})
		to := func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, g.address("https"))
		}
		client := &http.Client{Transport: &http.Transport{DialContext: to, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		t.Cleanup(client.CloseIdleConnections)
		for host, want := range map[string][2]string{ownName: {"HTTP/1.1", "max-age=2"}, "a.test": {"HTTP/2.0", "max-age=1"}} {
			resp, err := client.Get("https://" + host + "/")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := [2]string{resp.Proto, resp.Header.Get("Strict-Transport-Security")}; resp.StatusCode != http.StatusOK || got != want {
				t.Errorf("%s answers %d %q, want %q", host, resp.StatusCode, got, want)
			}
		}
	})
}

// TestWhatIsSaidOfANameIsNotEvadedUnderAnother asks for a host over connections for other names, and for none.
func TestWhatIsSaidOfANameIsNotEvadedUnderAnother(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		g := ownTerms(t, e, nil, &configv1.ServerNameTls{MinVersion: "1.3", Alpn: []string{"http/1.1"}})
		for _, tt := range []struct {
			name, host string
			version    uint16
			h2         bool
			want       int
		}{
			{ownName, ownName, tls.VersionTLS13, false, http.StatusOK},
			{ownName, "a.test", tls.VersionTLS13, false, http.StatusOK},
			{"a.test", "x.test", tls.VersionTLS12, false, http.StatusOK},
			{"a.test", ownName, tls.VersionTLS13, false, http.StatusOK},
			{"a.test", ownName, tls.VersionTLS12, false, http.StatusMisdirectedRequest},
			{"a.test", "below." + ownName, tls.VersionTLS12, false, http.StatusMisdirectedRequest},
			{"", ownName, tls.VersionTLS12, false, http.StatusMisdirectedRequest},
			{"", ownName, tls.VersionTLS13, false, http.StatusOK},
			{"a.test", "x.test", tls.VersionTLS13, true, http.StatusOK},
			{"a.test", ownName, tls.VersionTLS13, true, http.StatusMisdirectedRequest},
		} {
			dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
				c := &tls.Config{ServerName: tt.name, InsecureSkipVerify: true, MaxVersion: tt.version, NextProtos: []string{"http/1.1"}}
				if tt.h2 {
					c.NextProtos = []string{"h2"}
				}
				return (&tls.Dialer{Config: c}).DialContext(ctx, network, g.address("https"))
			}
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!tt.h2)
			protocols.SetHTTP2(tt.h2)
			client := &http.Client{Transport: &http.Transport{DialTLSContext: dial, Protocols: protocols}}
			resp, err := client.Get("https://" + tt.host + "/")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			client.CloseIdleConnections()
			if resp.StatusCode != tt.want {
				t.Errorf("%s over %s of %q, HTTP/2 %v: %d, want %d", tt.host, tls.VersionName(tt.version), tt.name, tt.h2, resp.StatusCode, tt.want)
			}
		}
	})
}
