package scenario_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyward.dev/e2e/harness"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
)

// sessions is a client that keeps its newest session, whichever gateway gave it.
type sessions struct {
	roots   *x509.CertPool
	version uint16
	kept    tls.ClientSessionCache
}

func newSessions(roots *x509.CertPool, version uint16) *sessions {
	return &sessions{roots: roots, version: version, kept: tls.NewLRUClientSessionCache(1)}
}

// frozen offers the session that is kept now, and keeps no other.
func (s *sessions) frozen() *sessions {
	session, _ := s.kept.Get("shop.test")
	return &sessions{roots: s.roots, version: s.version, kept: onlySession{session}}
}

// onlySession is a cache of one session, which stays.
type onlySession struct{ session *tls.ClientSessionState }

func (o onlySession) Get(string) (*tls.ClientSessionState, bool) { return o.session, o.session != nil }
func (o onlySession) Put(string, *tls.ClientSessionState)        {}

// visit makes a request on a connection of its own, and reports whether the session was resumed.
func (s *sessions) visit(ctx context.Context, addr string) (resumed bool, err error) {
	d := &tls.Dialer{Config: &tls.Config{
		RootCAs: s.roots, ServerName: "shop.test", MinVersion: s.version, MaxVersion: s.version, ClientSessionCache: s.kept,
	}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	secure, _ := conn.(*tls.Conn)
	if err := secure.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return false, err
	}
	if _, err := fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return false, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("answered %d", resp.StatusCode)
	}
	return secure.ConnectionState().DidResume, nil
}

// ticketEdge is two gateways of a group that serve shop.test.
type ticketEdge struct {
	*harness.Cluster
	addrs []string
	roots *x509.CertPool
}

func newTicketEdge(t *testing.T, rotation time.Duration) *ticketEdge {
	t.Helper()
	c := harness.New(t, harness.Options{Replicas: 2, ReplicaArgs: []string{"--session-ticket-rotation", rotation.String()}})
	ca := certtest.CA(t, "shop")
	leaf := ca.Issue(t, "shop", certtest.Names("shop.test"))
	revision := c.Apply(fmt.Sprintf(`group: default
certificates: [{name: shop, snis: [shop.test], current: %q, tls: {min_version: "1.2", alpn: http/1.1}}]
services: [{name: s, url: "http://%s"}]
routes: [{name: r, service: s, hosts: [shop.test]}]
`, leaf.ChainPEM()+leaf.KeyPEM(t), harness.Echo(t)))
	e := &ticketEdge{Cluster: c, roots: poolOf(ca)}
	for range 2 {
		addr := testkit.Addr(t)
		c.StartGateway("default", "--listen", "https="+addr).AwaitRevision(revision)
		e.addrs = append(e.addrs, addr)
	}
	return e
}

// TestSessionsAreResumedAtEveryGateway goes from one gateway to the other while keys rotate, and comes back with a ticket whose
// key has gone.
func TestSessionsAreResumedAtEveryGateway(t *testing.T) {
	t.Parallel()
	const rotation = 4 * time.Second
	e := newTicketEdge(t, rotation)
	generations := func() int {
		rows := e.Rows(`select count(*) from changes where summary::text like '%session ticket keys%'`)
		n := 0
		_, _ = fmt.Sscan(rows[0][0], &n)
		return n
	}
	clients := map[string]*sessions{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		clients[tls.VersionName(version)] = newSessions(e.roots, version)
	}
	visitBoth := func() (missed []string) {
		for name, client := range clients {
			for i, addr := range e.addrs {
				resumed, err := client.visit(t.Context(), addr)
				if err != nil {
					t.Fatalf("%s, gateway %d: %v", name, i, err)
				}
				if !resumed {
					missed = append(missed, fmt.Sprintf("%s, gateway %d", name, i))
				}
			}
		}
		return missed
	}
	testkit.Await(t, 30*time.Second, func() error { // until the job has taken the keys of the first revision for its period
		if generations() < 1 {
			return errors.New("no rotation yet")
		}
		return nil
	})
	visitBoth()
	first := map[string]*sessions{}
	for name, client := range clients {
		first[name] = client.frozen()
	}
	begun, visits := generations(), 0
	testkit.Await(t, 90*time.Second, func() error {
		if missed := visitBoth(); len(missed) > 0 {
			t.Errorf("not resumed: %v", missed)
		}
		visits++
		if n := generations() - begun; n < 4 {
			return fmt.Errorf("%d rotations", n)
		}
		return nil
	})
	t.Logf("%d rounds over %d generations of keys", visits, generations()-begun)
	for name, old := range first {
		testkit.Await(t, 30*time.Second, func() error {
			resumed, err := old.visit(t.Context(), e.addrs[0])
			if err == nil && resumed {
				err = errors.New("a ticket is taken whose key is gone")
			}
			return err
		})
		if resumed, err := old.visit(t.Context(), e.addrs[1]); resumed || err != nil {
			t.Errorf("%s: an old ticket is taken at the other gateway: %v, %v", name, resumed, err)
		}
	}
}

// TestARevokedGatewayOpensNoNewTickets revokes one of three, which has seen the keys, and looks that nobody is told of them.
func TestARevokedGatewayOpensNoNewTickets(t *testing.T) {
	t.Parallel()
	e := newTicketEdge(t, 12*time.Hour)
	lost := e.StartGateway("default")
	lost.AwaitReady()
	clients := map[string]*sessions{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := newSessions(e.roots, version)
		clients[tls.VersionName(version)] = client
		for i, want := range []bool{false, true, true} {
			if resumed, err := client.visit(t.Context(), e.addrs[i%2]); resumed != want || err != nil {
				t.Fatalf("%s: visit %d resumed: %v, %v, want %v", tls.VersionName(version), i, resumed, err, want)
			}
		}
	}
	gateways := e.Gateways("default")
	e.MustCLI("", "gateways", "revoke", gateways[len(gateways)-1].ID, "--reason", "lost")
	for name, client := range clients {
		old := client.frozen()
		for _, addr := range e.addrs {
			testkit.Await(t, 60*time.Second, func() error {
				resumed, err := old.visit(t.Context(), addr)
				if err == nil && resumed {
					err = errors.New("a ticket is taken that the revoked gateway can open")
				}
				return err
			})
		}
		for i, want := range []bool{false, true} {
			if resumed, err := client.visit(t.Context(), e.addrs[i]); resumed != want || err != nil {
				t.Errorf("%s: visit %d afterwards resumed: %v, %v, want %v", name, i, resumed, err, want)
			}
		}
	}
	for _, said := range []string{e.MustCLI("", "export"), e.MustCLI("", "revisions", "show", "1"), e.MustCLI("", "diff", "1..")} {
		if strings.Contains(said, "ticket-keys") {
			t.Errorf("keys of tickets are told of: %s", said)
		}
	}
}
