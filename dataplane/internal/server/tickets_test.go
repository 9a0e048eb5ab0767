package server_test

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/dataplane/internal/server"
	"keyward.dev/dataplane/internal/state/statetest"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	systemv1 "keyward.dev/proto/gen/keyward/system/v1"
	"keyward.dev/shared/check/certs"
)

// sealingSince is a key by its name that seals since some hours ago, or in some hours if that is negative.
type sealingSince struct {
	name  byte
	hours int
}

func ticketRecord(keys ...sealingSince) statetest.Record {
	m := &systemv1.TicketKeys{}
	for _, k := range keys {
		from := time.Now().Add(-time.Duration(k.hours) * time.Hour)
		m.Keys = append(m.Keys, &systemv1.TicketKey{
			Key: bytes.Repeat([]byte{k.name}, 32), From: timestamppb.New(from), Until: timestamppb.New(from.Add(3 * time.Hour)),
		})
	}
	return record("session-ticket-keys", "keys", m)
}

// group are gateways that serve the same.
type group struct {
	gateways []*gateway
	client   *tls.Certificate // is let in under clients.test
	records  []statetest.Record
}

func newTicketGroup(t *testing.T, n int) *group {
	t.Helper()
	ca := newIssuer(t, "ca")
	speaking := func(name string, own *configv1.ServerNameTls) statetest.Record {
		v := version(t, ca.issue(issued{names: []string{name + ".test"}}))
		return record(certs.Kind, name, &configv1.Certificate{Name: name, Snis: []string{name + ".test"}, Current: v, Tls: own})
	}
	demanding := route()
	demanding.Name, demanding.Hosts, demanding.ClientCertificates = "d", []string{"clients.test"}, &configv1.RouteClientCertificates{Ca: []string{"ca"}}
	g := &group{client: ca.issue(issued{}), records: []statetest.Record{
		settings(&configv1.Settings{}), record("services", "up", service(echo(t).URL)), record("routes", "r", route()), record("routes", "d", demanding),
		record(certs.KindCA, "ca", &configv1.CaCertificate{Name: "ca", Certificates: ca.PEM()}),
		speaking("a", nil), speaking("b", nil), speaking("clients", nil), speaking("off", &configv1.ServerNameTls{SessionTickets: new(false)}),
		speaking("other", &configv1.ServerNameTls{Alpn: []string{"http/1.1"}}),
	}}
	for range n {
		g.gateways = append(g.gateways, startWith(t, server.Config{Listeners: []server.Listener{https()}}))
	}
	return g
}

func (g *group) serve(tickets ...statetest.Record) {
	for _, one := range g.gateways {
		one.config(append(tickets, g.records...)...)
	}
}

// anyName keeps one session, whatever the name it was made under.
type anyName struct{ tls.ClientSessionCache }

func (c anyName) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("") }
func (c anyName) Put(_ string, s *tls.ClientSessionState)    { c.ClientSessionCache.Put("", s) }

func ticketClient(version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ClientSessionCache: anyName{tls.NewLRUClientSessionCache(1)}}
}

// resumes makes a connection and a request, and reports whether the session was resumed.
func (g *gateway) resumes(client *tls.Config, name string) bool {
	g.t.Helper()
	c := client.Clone()
	c.ServerName = name
	conn, err := g.shake(c)
	if err != nil {
		g.t.Fatalf("%s: %v", name, err)
	}
	if _, err := ask(g.t, conn, name, "/"); err != nil { // the ticket of TLS 1.3 comes with the answer
		g.t.Fatalf("%s: %v", name, err)
	}
	return conn.ConnectionState().DidResume
}

func overVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Helper()
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

// TestSessionsGoOnAtOtherGatewaysOfTheGroup visits three gateways one after the other, with keys that rotate meanwhile.
func TestSessionsGoOnAtOtherGatewaysOfTheGroup(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		g := newTicketGroup(t, 3)
		client := ticketClient(version)
		now, next := sealingSince{'a', 0}, sealingSince{'b', -1}
		g.serve(ticketRecord(next, now))
		if g.gateways[0].resumes(client, "a.test") {
			t.Error("a session is resumed that nobody has made")
		}
		for i, one := range g.gateways {
			if !one.resumes(client, "a.test") {
				t.Errorf("gateway %d did not resume", i)
			}
		}
		g.gateways[0].config(append(g.records, ticketRecord(sealingSince{'c', -1}, sealingSince{'b', 0}, sealingSince{'a', 1}))...)
		if !g.gateways[0].resumes(client, "a.test") {
			t.Error("a ticket under the key of before is not taken")
		}
		if !g.gateways[1].resumes(client, "a.test") {
			t.Error("a ticket under the next key is not taken where its time has not come")
		}
		g.serve(ticketRecord(sealingSince{'d', -1}, sealingSince{'c', 0}, sealingSince{'b', 1}))
		if g.gateways[2].resumes(client, "a.test") {
			t.Error("a ticket is taken whose key is gone")
		}
	})
}

func TestTicketsEndWithTheirKey(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		g := newTicketGroup(t, 1)
		client := ticketClient(version)
		g.serve(ticketRecord(sealingSince{'a', 2}))
		g.gateways[0].resumes(client, "a.test")
		if !g.gateways[0].resumes(client, "a.test") {
			t.Fatal("not resumed")
		}
		g.serve(ticketRecord(sealingSince{'b', 0}, sealingSince{'a', 3}))
		if g.gateways[0].resumes(client, "a.test") {
			t.Error("a key opens tickets after its time")
		}
	})
}

// TestSessionsStayWhereTheyWereMade offers a session of one name under others.
func TestSessionsStayWhereTheyWereMade(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		g := newTicketGroup(t, 2)
		g.serve(ticketRecord(sealingSince{'b', -1}, sealingSince{'a', 0}))
		for _, tt := range []struct {
			first, then string
			resumed     bool
		}{
			{"a.test", "a.test", true},
			{"a.test", "b.test", true}, // nothing is said of either
			{"other.test", "other.test", true},
			{"a.test", "other.test", false},
			{"other.test", "a.test", false},
			{"off.test", "off.test", false},
			{"a.test", "off.test", false},
			{"clients.test", "clients.test", false},
			{"a.test", "clients.test", false},
		} {
			client := ticketClient(version)
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return g.client, nil }
			g.gateways[0].resumes(client, tt.first)
			if got := g.gateways[1].resumes(client, tt.then); got != tt.resumed {
				t.Errorf("a session of %s is resumed under %s: %v, want %v", tt.first, tt.then, got, tt.resumed)
			}
		}
	})
}

// TestWithoutSharedKeysEachGatewayHasItsOwn takes the keys away, as a control plane that knows none has never given any.
func TestWithoutSharedKeysEachGatewayHasItsOwn(t *testing.T) {
	overVersions(t, func(t *testing.T, version uint16) {
		for name, tickets := range map[string][]statetest.Record{"no record": nil, "an old one": {ticketRecord(sealingSince{'a', 3})}} {
			g := newTicketGroup(t, 2)
			client := ticketClient(version)
			g.serve(tickets...)
			g.gateways[0].resumes(client, "a.test")
			if !g.gateways[0].resumes(client, "a.test") {
				t.Errorf("%s: the gateway itself did not resume", name)
			}
			if g.gateways[1].resumes(client, "a.test") {
				t.Errorf("%s: another gateway resumed", name)
			}
		}
	})
}
