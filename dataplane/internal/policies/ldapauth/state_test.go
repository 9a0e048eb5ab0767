package ldapauth_test

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policies/ldapauth"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/certs"
	"keyward.dev/shared/testkit/certtest"
	"keyward.dev/shared/testkit/ldaptest"
)

// place is a directory and what policies of one process share.
type place struct {
	server   *ldaptest.Server
	services *hostsvc.Services
	people   *directory.Directory
	now      time.Time
	from     netip.Addr // of callers
}

func newPlace(t testing.TB) *place {
	t.Helper()
	return &place{
		server: ldaptest.Start(t), services: hostsvc.New(hostsvc.Config{}), now: time.Now(), from: netip.MustParseAddr("192.0.2.1"),
		people: consumers(directory.Consumer{UID: "1", Name: "a", Username: "alice", Groups: []string{"gold"}}, directory.Consumer{UID: "2", Name: "b", Username: "bob"}),
	}
}

func consumers(all ...directory.Consumer) *directory.Directory {
	edit := directory.New().Edit()
	for _, c := range all {
		edit.PutConsumer(c)
	}
	return edit.Directory()
}

func (p *place) config() *policyv1.LdapAuth {
	return &policyv1.LdapAuth{
		Server: &policyv1.LdapServer{
			Addresses: []string{p.server.TLSAddress}, Ca: []string{"directory"}, Timeout: durationpb.New(2 * time.Second),
		},
		Search: &policyv1.LdapSearch{
			BaseDn: ldaptest.PeopleDN, BindDn: ldaptest.ReaderDN,
			BindPassword: &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: ldaptest.ReaderPassword}},
		},
		Groups: &policyv1.LdapGroups{BaseDn: ldaptest.GroupsDN},
	}
}

// group believes one authority; without one it knows none.
type group struct{ ca *certtest.Cert }

func (g group) Authorities(string) ([]*x509.Certificate, error) {
	if g.ca == nil {
		return nil, errors.New("does not exist")
	}
	return []*x509.Certificate{g.ca.Cert}, nil
}

func (group) Certificate(string) ([]*certs.Version, error) { return nil, errors.New("does not exist") }

func (group) Versions(string) ([]*certs.Version, error) { return nil, errors.New("does not exist") }

func (group) Egress() *hostsvc.EgressRules { return nil }

func (group) Store(string) (*hostsvc.SharedStore, error) { return nil, errors.New("no stores") }

// build is what each push does.
func (p *place) build(t testing.TB, cfg *policyv1.LdapAuth, name string) policy.Policy {
	t.Helper()
	built, err := ldapauth.Build(proto.CloneOf(cfg), policy.Deps{
		Binding: policy.Identity{Type: "ldap-auth", Name: name, OwnerKind: "routes", OwnerUID: "uid"}, Host: p.services, Log: slog.New(slog.DiscardHandler),
		Group: group{p.server.CA},
	})
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// call makes a request; a login without a password presents none.
func (p *place) call(x *exchange.Exchange, pol policy.Policy, user, password string, later time.Duration) policy.Verdict {
	x.Reset()
	x.Timings.Received, x.Directory, x.Request.ClientIP = p.now.Add(later), p.people, p.from
	if password != "" {
		token := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		x.Request.Header.Add(exchange.Field("Authorization", "Basic "+token))
	}
	return pol.Request(x)
}

// want asks for a status, 0 for a request that passes, and the word in the access log.
func (p *place) want(t *testing.T, pol policy.Policy, user, password string, later time.Duration, status int, reason string) *exchange.Principal {
	t.Helper()
	x := &exchange.Exchange{}
	v := p.call(x, pol, user, password, later)
	r := x.Refusal()
	switch {
	case v == policy.Next && status != 0:
		t.Errorf("%s %s after %s passes, want %d", user, password, later, status)
	case v == policy.Next:
	case r.Status() != status || r.Reason() != reason:
		t.Errorf("%s %s after %s: %d %s, want %d %s", user, password, later, r.Status(), r.Reason(), status, reason)
	case (password == "") != r.IsAbsent():
		t.Errorf("%s %s: nothing presented = %v", user, password, r.IsAbsent())
	}
	return x.Principal
}

func TestCallersWhoAreRememberedNeedNoDirectory(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	pol := p.build(t, p.config(), "a")
	who := p.want(t, pol, "alice", "wonderland", 0, 0, "")
	if who == nil || who.Subject() != "uid=alice,"+ldaptest.PeopleDN || who.How != "ldap-auth" || who.Consumer != "a" || !who.Dynamic ||
		!slices.Equal(who.Groups, []string{"gold", "staff", "admins"}) {
		t.Fatalf("she is %+v", who)
	}
	p.server.Stop()
	if again := p.want(t, pol, "ALICE", "wonderland", 59*time.Second, 0, ""); again != who {
		t.Errorf("she is made anew: %+v", again)
	}
	p.want(t, pol, "alice", "guess", 0, 503, "ldap_unreachable") // nobody can know that it is wrong
	p.want(t, pol, "bob", "builder", 0, 503, "ldap_down")
	p.want(t, pol, "", "", 0, 401, "unauthenticated")
	p.want(t, pol, "alice", "wonderland", time.Minute, 503, "ldap_down")
}

func TestWhatIsRememberedOutlivesPushes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.build(t, p.config(), "a")
	p.want(t, first, "alice", "wonderland", 0, 0, "")
	p.server.Stop()
	p.want(t, p.build(t, p.config(), "a"), "alice", "wonderland", time.Second, 0, "")
	for name, change := range map[string]func(*policyv1.LdapAuth){
		"password of the account": func(c *policyv1.LdapAuth) {
			c.Search.BindPassword = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "x"}}
		},
		"groups":     func(c *policyv1.LdapAuth) { c.Groups = nil },
		"base":       func(c *policyv1.LdapAuth) { c.Search.BaseDn = ldaptest.BaseDN },
		"authority":  func(c *policyv1.LdapAuth) { c.Server.Ca = nil },
		"not at all": func(c *policyv1.LdapAuth) { c.CacheTtl = durationpb.New(0) },
	} {
		cfg := p.config()
		change(cfg)
		x := &exchange.Exchange{}
		if v := p.call(x, p.build(t, cfg, "a"), "alice", "wonderland", time.Second); v == policy.Next || x.Refusal().Status() != 503 {
			t.Errorf("another %s: she is still remembered", name)
		}
	}
	x := &exchange.Exchange{}
	if v := p.call(x, p.build(t, p.config(), "b"), "alice", "wonderland", time.Second); v == policy.Next {
		t.Error("another binding remembers her")
	}
	p.want(t, first, "alice", "wonderland", time.Second, 0, "")
}

func TestConsumersAreThoseOfTheRequest(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	pol := p.build(t, p.config(), "a")
	p.want(t, pol, "alice", "wonderland", 0, 0, "")
	p.people = consumers(directory.Consumer{UID: "1", Name: "a", Username: "alice", Groups: []string{"silver"}})
	if who := p.want(t, pol, "alice", "wonderland", 0, 0, ""); !slices.Equal(who.Groups, []string{"silver", "staff", "admins"}) {
		t.Errorf("groups %v", who.Groups)
	}
	p.people = consumers()
	p.want(t, pol, "alice", "wonderland", 0, 401, "no_consumer")
	edit := p.people.Edit()
	edit.SetLost(true)
	p.people = edit.Directory()
	p.want(t, pol, "alice", "wonderland", 0, 503, "unavailable")
	p.people = consumers(directory.Consumer{UID: "1", Name: "a", Username: "alice"})
	p.want(t, pol, "alice", "wonderland", 0, 0, "")
}

// TestBuildRefusesWhatItCannotEnforce: admission refuses these too, or normalises them away.
func TestBuildRefusesWhatItCannotEnforce(t *testing.T) {
	t.Parallel()
	p := &place{services: hostsvc.New(hostsvc.Config{}), server: &ldaptest.Server{TLSAddress: "192.0.2.1:636"}}
	for name, change := range map[string]func(*policyv1.LdapAuth){
		"no password": func(c *policyv1.LdapAuth) { c.Search.BindPassword = nil },
		"a reference": func(c *policyv1.LdapAuth) {
			c.Search.BindPassword = &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://a/b#c}"}}
		},
		"a reference as name": func(c *policyv1.LdapAuth) {
			c.Search.BindDn, c.Search.BindName = "", &configv1.Secret{Value: &configv1.Secret_Ref{Ref: "{vault://a/b#c}"}}
		},
		"a name that is kept": func(c *policyv1.LdapAuth) { c.Search.BindDn, c.Search.BindName = "", &configv1.Secret{Set: true} },
		"two names": func(c *policyv1.LdapAuth) {
			c.Search.BindName = &configv1.Secret{Value: &configv1.Secret_Plaintext{Plaintext: "a"}}
		},
		"{set: true}":       func(c *policyv1.LdapAuth) { c.Search.BindPassword = &configv1.Secret{Set: true} },
		"plaintext":         func(c *policyv1.LdapAuth) { c.Server.Tls, c.Server.Ca = policyv1.LdapTls_LDAP_TLS_NONE, nil },
		"a newer tls":       func(c *policyv1.LdapAuth) { c.Server.Tls = 99 },
		"a newer scope":     func(c *policyv1.LdapAuth) { c.Search.Scope = 99 },
		"a newer source":    func(c *policyv1.LdapAuth) { c.Groups.From = 99 },
		"a newer name":      func(c *policyv1.LdapAuth) { c.ConsumerBy = []policyv1.LdapConsumerBy{99} },
		"no base":           func(c *policyv1.LdapAuth) { c.Search.BaseDn = "nowhere" },
		"a filter for all":  func(c *policyv1.LdapAuth) { c.Search.Filter = "(uid=*)" },
		"a name for all":    func(c *policyv1.LdapAuth) { c.Search, c.Bind = nil, &policyv1.LdapBind{Dn: "uid=alice,dc=x"} },
		"realm":             func(c *policyv1.LdapAuth) { c.Realm = `a", Basic realm="b` },
		"unknown authority": func(c *policyv1.LdapAuth) { c.Server.Ca = []string{"none"} },
	} {
		cfg := p.config()
		cfg.Server.Ca = nil
		change(cfg)
		_, err := ldapauth.Build(cfg, policy.Deps{
			Host: p.services, Log: slog.New(slog.DiscardHandler), Group: group{},
		})
		if err == nil {
			t.Errorf("%s: it is built", name)
		}
	}
}

// FuzzLogin presents anything to a policy whose directory cannot be reached: nothing passes, and nothing is anything but a refusal.
func FuzzLogin(f *testing.F) {
	p := &place{services: hostsvc.New(hostsvc.Config{}), server: &ldaptest.Server{TLSAddress: "127.0.0.1:1"}, now: time.Now(), people: consumers()}
	cfg := p.config()
	cfg.Server.Tls, cfg.Server.Ca = policyv1.LdapTls_LDAP_TLS_NONE, nil
	pol := p.build(f, cfg, "a")
	f.Add([]byte("Basic YWxpY2U6d29uZGVybGFuZA=="))
	f.Add([]byte("Basic"))
	f.Add([]byte("basic  Og=="))
	f.Fuzz(func(t *testing.T, value []byte) {
		x := &exchange.Exchange{}
		x.Timings.Received, x.Directory = p.now, p.people
		x.Request.Header.Add(exchange.Header{Name: []byte("Authorization"), Value: value})
		if v := pol.Request(x); v == policy.Next || !slices.Contains([]int{401, 429, 503}, x.Refusal().Status()) {
			t.Errorf("%q: %v", value, v)
		}
		pol.(policy.Hider).Hide(x)
	})
}
