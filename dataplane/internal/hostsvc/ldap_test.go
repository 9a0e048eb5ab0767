package hostsvc_test

import (
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/shared/testkit"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/ldaptest"
)

// directory is how tests reach one.
func directory(s *ldaptest.Server, change ...func(*hostsvc.LDAPServer)) hostsvc.LDAPServer {
	c := hostsvc.LDAPServer{
		Addresses: []string{s.TLSAddress}, Authorities: []*x509.Certificate{s.CA.Cert},
		BindDN: ldaptest.ReaderDN, BindPassword: ldaptest.ReaderPassword,
		ConnectTimeout: 5 * time.Second, MaxConnections: 4, IdleTimeout: time.Minute,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func startTLS(s *ldaptest.Server) func(*hostsvc.LDAPServer) {
	return func(c *hostsvc.LDAPServer) { c.Addresses, c.Security = []string{s.Address}, hostsvc.LDAPStartTLS }
}

func plain(s *ldaptest.Server) func(*hostsvc.LDAPServer) {
	return func(c *hostsvc.LDAPServer) { c.Addresses, c.Security = []string{s.Address}, hostsvc.LDAPPlain }
}

func open(t *testing.T, c hostsvc.LDAPServer) *hostsvc.LDAPPool {
	t.Helper()
	return hostsvc.New(hostsvc.Config{}).LDAPPool(c, testkit.Logger(t))
}

func soon() time.Time { return time.Now().Add(10 * time.Second) }

const alice, bob = "uid=alice," + ldaptest.PeopleDN, "uid=bob," + ldaptest.PeopleDN

func findUser(filter string) hostsvc.LDAPQuery {
	return hostsvc.LDAPQuery{Base: ldaptest.PeopleDN, Filter: filter, Attributes: []string{"mail", "memberOf"}, Limit: 2}
}

func TestADirectoryIsAskedAndVerifies(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	ways := map[string]hostsvc.LDAPServer{
		"TLS": directory(s), "StartTLS": directory(s, startTLS(s)), "plain": directory(s, plain(s)),
		"another name": directory(s, func(c *hostsvc.LDAPServer) { c.ServerName = "localhost" }),
		"second address": directory(s, func(c *hostsvc.LDAPServer) {
			c.Addresses = append([]string{testkit.Addr(t)}, c.Addresses...)
		}),
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, way)
			found, err := p.Find(findUser("(uid=alice)"), soon())
			if err != nil || found.More || len(found.Entries) != 1 || found.Entries[0].DN != alice {
				t.Fatalf("Find() = %+v, %v", found, err)
			}
			if mail := found.Entries[0].Values("MAIL"); !slices.Equal(mail, []string{"alice@example.test"}) {
				t.Errorf("mail %q", mail)
			}
			if groups := found.Entries[0].Values("memberOf"); len(groups) != 2 {
				t.Errorf("memberOf %q", groups)
			}
			for _, tt := range []struct {
				dn, password string
				want         bool
			}{
				{alice, "wonderland", true},
				{alice, "builder", false},
				{bob, "builder", true},
				{alice, "", false},
				{"", "x", false},
				{"", "", false},
				{"uid=nobody," + ldaptest.PeopleDN, "x", false},
				{"uid=locked," + ldaptest.PeopleDN, "x", false},
				{"no dn at all", "x", false},
				{strings.ToUpper(alice), "wonderland", true},
				{alice, "wonderland\x00", false},
			} {
				if ok, err := p.Verify(tt.dn, tt.password, soon(), nil); ok != tt.want || err != nil {
					t.Errorf("Verify(%q, %q) = %v, %v", tt.dn, tt.password, ok, err)
				}
			}
			// After all these it still asks as itself.
			if found, err := p.Find(findUser("(uid=bob)"), soon()); err != nil || len(found.Entries) != 1 {
				t.Errorf("Find() = %+v, %v", found, err)
			}
			if n := p.Idle(); n != 1 {
				t.Errorf("%d connections for one after the other, want 1", n)
			}
		})
	}
}

// TestNobodyAsksAsSomebodyElse has users log in on the connection of one who asks as nobody.
func TestNobodyAsksAsSomebodyElse(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	p := open(t, directory(s, func(c *hostsvc.LDAPServer) { c.BindDN, c.BindPassword = "", "" }))
	self := hostsvc.LDAPQuery{Base: alice, Scope: hostsvc.LDAPBase, Filter: "(objectClass=*)", Limit: 1}
	var own hostsvc.LDAPFound
	ok, err := p.Verify(alice, "wonderland", soon(), func(s *hostsvc.LDAPSession) (err error) {
		own, err = s.Find(self)
		return err
	})
	if !ok || err != nil || len(own.Entries) != 1 {
		t.Fatalf("as herself: %v, %v, %+v", ok, err, own)
	}
	found, err := p.Find(self, soon())
	if o, ok := errors.AsType[*hostsvc.LDAPOutage](err); !ok || o.Reason != "ldap_refused" || len(found.Entries) > 0 || p.Idle() != 1 {
		t.Errorf("as nobody, on the same of %d connections: %+v, %v", p.Idle(), found, err)
	}
}

func TestWhatIsFoundIsBounded(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	p := open(t, directory(s))
	for _, tt := range []struct {
		name string
		q    hostsvc.LDAPQuery
		n    int
		more bool
		base bool
	}{
		{"two of two", findUser("(mail=twins@example.test)"), 2, false, false},
		{"two of many", findUser("(objectClass=inetOrgPerson)"), 2, true, false},
		{"none", findUser("(uid=nobody)"), 0, false, false},
		{"no base", hostsvc.LDAPQuery{Base: "ou=no," + ldaptest.BaseDN, Filter: "(uid=alice)", Limit: 2}, 0, false, true},
		{"one level", hostsvc.LDAPQuery{Base: ldaptest.BaseDN, Scope: hostsvc.LDAPOneLevel, Filter: "(uid=alice)", Limit: 2}, 0, false, false},
	} {
		if found, err := p.Find(tt.q, soon()); err != nil || len(found.Entries) != tt.n || found.More != tt.more || found.NoBase != tt.base {
			t.Errorf("%s: %+v, %v", tt.name, found, err)
		}
	}
}

func TestWhoIsNotTheDirectoryIsNotAsked(t *testing.T) {
	t.Parallel()
	s := ldaptest.Start(t)
	stranger := certtest.CA(t, "a stranger")
	for _, tt := range []struct {
		name, reason string
		server       hostsvc.LDAPServer
	}{
		{"another authority", "ldap_tls", directory(s, func(c *hostsvc.LDAPServer) { c.Authorities = []*x509.Certificate{stranger.Cert} })},
		{"the system's authorities", "ldap_tls", directory(s, func(c *hostsvc.LDAPServer) { c.Authorities = nil })},
		{"another authority, StartTLS", "ldap_tls", directory(s, startTLS(s), func(c *hostsvc.LDAPServer) { c.Authorities = []*x509.Certificate{stranger.Cert} })},
		{"another name", "ldap_tls", directory(s, func(c *hostsvc.LDAPServer) { c.ServerName = "other.test" })},
		{"another name, StartTLS", "ldap_tls", directory(s, startTLS(s), func(c *hostsvc.LDAPServer) { c.ServerName = "other.test" })},
		{"LDAPS where there is none", "ldap_tls", directory(s, func(c *hostsvc.LDAPServer) { c.Addresses = []string{s.Address} })},
		{"StartTLS where TLS is", "ldap_unreachable", directory(s, startTLS(s), func(c *hostsvc.LDAPServer) { c.Addresses = []string{s.TLSAddress} })},
		{"denied", "ldap_denied", directory(s, func(c *hostsvc.LDAPServer) { c.Egress = egress(t, "127.0.0.0/8") })},
		{"nobody there", "ldap_unreachable", directory(s, func(c *hostsvc.LDAPServer) { c.Addresses = []string{testkit.Addr(t)} })},
		{"its password is wrong", "ldap_account_refused", directory(s, func(c *hostsvc.LDAPServer) { c.BindPassword = "wrong" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, tt.server).Find(findUser("(uid=alice)"), soon())
			if o, ok := errors.AsType[*hostsvc.LDAPOutage](err); !ok || o.Reason != tt.reason || o.RetryAfter < time.Second {
				t.Errorf("Find(): %v, want %s", err, tt.reason)
			}
		})
	}
}

func egress(t *testing.T, deny ...string) *hostsvc.EgressRules {
	t.Helper()
	r, err := hostsvc.NewEgressRules(nil, deny)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// talker is a server that says the same on every connection.
func talker(t *testing.T, say []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1024))
				for range 1000 {
					if _, err := c.Write(say); err != nil {
						return
					}
				}
				_, _ = c.Read(make([]byte, 1024))
			}()
		}
	}()
	return l.Addr().String()
}

func TestGarbageIsAnOutage(t *testing.T) {
	t.Parallel()
	huge := "\x30\x84\x7f\xff\xff\xff\x04\x84\x7f\xff\xff\xf0"
	deep := strings.Repeat("\x30\x80", 5000)
	for name, say := range map[string]string{
		"text": "HTTP/1.1 400 Bad Request\r\n\r\n", "zeros": strings.Repeat("\x00", 4096), "huge": huge + strings.Repeat("x", 8192), "deep": deep,
		"nothing": "", "another message": "\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
		"a refusal of TLS": "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00", "half": "\x30\x0c\x02\x01",
		"a result without anything": "\x30\x05\x02\x01\x01\x61\x00",
	} {
		address := talker(t, []byte(say))
		for _, security := range []hostsvc.LDAPSecurity{hostsvc.LDAPS, hostsvc.LDAPStartTLS, hostsvc.LDAPPlain} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := open(t, hostsvc.LDAPServer{Addresses: []string{address}, Security: security, ConnectTimeout: time.Second, IdleTimeout: time.Minute})
				begun := time.Now()
				ok, err := p.Verify(alice, "wonderland", begun.Add(500*time.Millisecond), nil)
				if _, outage := errors.AsType[*hostsvc.LDAPOutage](err); ok || !outage {
					t.Errorf("Verify() = %v, %v, want an outage", ok, err)
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("it took %s", took)
				}
				if o, _ := errors.AsType[*hostsvc.LDAPOutage](err); p.Idle() != 0 && o.Reason != "ldap_refused" {
					t.Errorf("the connection is kept: %v", err)
				}
			})
		}
	}
}
