package server_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
)

// speaks shakes hands with a client that offers protocols, and answers which one was agreed on, or why none was.
func (g *gateway) speaks(name string, version uint16, offers ...string) string {
	g.t.Helper()
	c, err := g.shake(&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: offers, MinVersion: version, MaxVersion: version})
	if err == nil {
		return c.ConnectionState().NegotiatedProtocol
	}
	_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	return alert
}

type negotiation struct{ has, offers, want string }

// negotiations are what comes of what a name has and what clients offer.
func negotiations() []negotiation {
	return []negotiation{
		{"", "h2,http/1.1", "h2"},
		{"", "http/1.1,h2", "h2"},
		{"", "http/1.1", "http/1.1"},
		{"", "", ""},
		{"", "h3,spdy/3", "no application protocol"},
		{"http/1.1,h2", "h2,http/1.1", "http/1.1"},
		{"http/1.1,h2", "h2", "h2"},
		{"http/1.1", "h2,http/1.1", "http/1.1"},
		{"http/1.1", "h2", "no application protocol"},
		{"http/1.1", "", ""},
		{"h2", "h2,http/1.1", "h2"},
		{"h2", "http/1.1", "no application protocol"},
		{"h2", "", "internal error"},
	}
}

func protocolsOf(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func TestProtocolsAreNegotiatedAsTheSettingsSay(t *testing.T) {
	overEngines(t, func(t *testing.T, e server.Engine) {
		shown, url := twoKeys(t), echo(t).URL
		g := startWith(t, server.Config{Engine: e, Listeners: []server.Listener{https()}})
		for _, tt := range negotiations() {
			s := settings(&configv1.Settings{Tls: &configv1.ServerTls{Alpn: protocolsOf(tt.has)}})
			g.config(append([]statetest.Record{s, record("services", "up", service(url)), record("routes", "r", route())}, shown...)...)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if got := g.speaks("a.test", version, protocolsOf(tt.offers)...); got != tt.want {
					t.Errorf("%q for a client of %s that offers %q: %q, want %q", tt.has, tls.VersionName(version), tt.offers, got, tt.want)
				}
			}
		}
	})
}
