package ldapauth

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check"
	"keyward.dev/shared/check/ldapname"
	"keyward.dev/shared/secret"
)

// person is what the directory says of who has logged in. It is never changed but for the principal that was made of it.
type person struct {
	dn string
	// name is what consumers are meant by.
	name   string
	groups []string // here; sorted as the directory lists them
	// outside says that none of the required groups is among those of the directory.
	outside bool
	made    made
}

var (
	errWrong     = errors.New("the directory does not take the login")
	errAmbiguous = errors.New("several entries have the user name")
)

// finder finds out who logs in with a user name and a password. Errors are errWrong, errAmbiguous and outages.
type finder func(user, password string) (*person, error)

// serverOf is where the directory is, from the configuration.
func serverOf(cfg *policyv1.LdapAuth, d policy.Deps) (hostsvc.LDAPServer, error) {
	c := cfg.GetServer()
	s := hostsvc.LDAPServer{
		Addresses: c.GetAddresses(), ServerName: c.GetServerName(), Egress: d.Group.Egress(), ConnectTimeout: 2 * time.Second,
		MaxConnections: int(cmp.Or(c.GetMaxConnections(), 32)), IdleTimeout: time.Minute,
		BindDN:       cmp.Or(cfg.GetSearch().GetBindDn(), cfg.GetSearch().GetBindName().GetPlaintext()),
		BindPassword: cfg.GetSearch().GetBindPassword().GetPlaintext(),
	}
	if secret.Stored(cfg.GetSearch().GetBindName()) && s.BindDN == "" {
		return s, errors.New("search.bind_name is not known")
	}
	if why := check.DirectoryPassword(cfg); why != "" || s.BindDN != "" && s.BindPassword == "" {
		return s, fmt.Errorf("search.bind_password %s", cmp.Or(why, "is not known"))
	}
	switch c.GetTls() {
	case policyv1.LdapTls_LDAP_TLS_UNSPECIFIED, policyv1.LdapTls_LDAP_TLS_LDAPS:
	case policyv1.LdapTls_LDAP_TLS_STARTTLS:
		s.Security = hostsvc.LDAPStartTLS
	case policyv1.LdapTls_LDAP_TLS_NONE:
		s.Security = hostsvc.LDAPPlain
	default:
		return s, errors.New("server.tls has a value that is not known")
	}
	for _, name := range c.GetCa() {
		list, err := d.Group.Authorities(name)
		if err != nil {
			return s, fmt.Errorf("server.ca: CA certificate %s %w", name, err)
		}
		s.Authorities = append(s.Authorities, list...)
	}
	if c.GetConnectTimeout() != nil {
		s.ConnectTimeout = c.GetConnectTimeout().AsDuration()
	}
	if c.GetIdleTimeout() != nil {
		s.IdleTimeout = c.GetIdleTimeout().AsDuration()
	}
	return s, nil
}

// identity is equal for policies that come to the same results: for one place, of one configuration, with the same directory.
func identity(cfg *policyv1.LdapAuth, s *hostsvc.LDAPServer, at policy.Identity) string {
	sum := sha256.New()
	text, _ := proto.MarshalOptions{Deterministic: true}.Marshal(cfg) // of what has been unmarshalled
	fmt.Fprintf(sum, "%s %q %q %q %x", policyType, at.OwnerKind, at.OwnerUID, at.Name, sha256.Sum256(text))
	for _, c := range s.Authorities {
		fmt.Fprintf(sum, " %x", sha256.Sum256(c.Raw))
	}
	return string(sum.Sum(nil))
}

func timeoutOf(cfg *policyv1.LdapAuth) time.Duration {
	if t := cfg.GetServer().GetTimeout(); t != nil {
		return t.AsDuration()
	}
	return 5 * time.Second
}

func finderOf(cfg *policyv1.LdapAuth, g *groups, pool *hostsvc.LDAPPool) (finder, error) {
	timeout := timeoutOf(cfg)
	attributes := g.attributes()
	if a := cfg.GetConsumerAttribute(); a != "" {
		attributes = append(attributes, a)
	}
	if b := cfg.GetBind(); b != nil {
		f := &binder{pool: pool, dn: b.GetDn(), groups: g, attributes: attributes, consumer: cfg.GetConsumerAttribute(), timeout: timeout}
		return f.find, nil
	}
	c := cfg.GetSearch()
	s := &searcher{
		pool: pool, groups: g, consumer: cfg.GetConsumerAttribute(), timeout: timeout,
		filter: cmp.Or(c.GetFilter(), "("+cmp.Or(c.GetAttribute(), "uid")+"="+ldapname.Placeholder+")"),
		query:  hostsvc.LDAPQuery{Base: c.GetBaseDn(), Attributes: attributes, Limit: 2},
	}
	switch c.GetScope() {
	case policyv1.LdapScope_LDAP_SCOPE_UNSPECIFIED, policyv1.LdapScope_LDAP_SCOPE_SUBTREE:
	case policyv1.LdapScope_LDAP_SCOPE_ONE_LEVEL:
		s.query.Scope = hostsvc.LDAPOneLevel
	default:
		return nil, errors.New("search.scope has a value that is not known")
	}
	return s.find, nil
}

// binder logs in with a name that is made from the user name, and asks the rest as that user.
type binder struct {
	pool       *hostsvc.LDAPPool
	dn         string
	groups     *groups
	attributes []string
	consumer   string
	timeout    time.Duration
}

func (b *binder) find(user, password string) (*person, error) {
	who := &person{dn: ldapname.FillDN(b.dn, user), name: user}
	ok, err := b.pool.Verify(who.dn, password, time.Now().Add(b.timeout), func(s *hostsvc.LDAPSession) error {
		var entry hostsvc.LDAPEntry
		if len(b.attributes) > 0 {
			found, err := s.Find(hostsvc.LDAPQuery{Base: who.dn, Scope: hostsvc.LDAPBase, Filter: "(objectClass=*)", Attributes: b.attributes, Limit: 1})
			if err != nil {
				return err
			}
			if len(found.Entries) == 1 {
				entry = found.Entries[0]
			}
		}
		if b.consumer != "" {
			who.name = only(entry.Values(b.consumer))
		}
		return b.groups.fill(who, user, &entry, s.Find)
	})
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errWrong
	}
	return who, nil
}

// searcher looks for the user's entry, and logs in with its name.
type searcher struct {
	pool     *hostsvc.LDAPPool
	filter   string
	query    hostsvc.LDAPQuery
	groups   *groups
	consumer string
	timeout  time.Duration
}

func (f *searcher) find(user, password string) (*person, error) {
	until := time.Now().Add(f.timeout)
	q := f.query
	q.Filter = ldapname.FillFilter(f.filter, user)
	found, err := f.pool.Find(q, until)
	switch {
	case err != nil:
		return nil, err
	case found.More || len(found.Entries) > 1:
		return nil, errAmbiguous
	case found.NoBase:
		return nil, &hostsvc.LDAPOutage{Reason: "ldap_no_base", RetryAfter: 10 * time.Second}
	case len(found.Entries) == 0:
		return nil, f.nobody(password, until)
	}
	entry := &found.Entries[0]
	who := &person{dn: entry.DN, name: user}
	if f.consumer != "" {
		who.name = only(entry.Values(f.consumer))
	}
	ok, err := f.pool.Verify(entry.DN, password, until, nil)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errWrong
	}
	return who, f.groups.fill(who, user, entry, func(q hostsvc.LDAPQuery) (hostsvc.LDAPFound, error) { return f.pool.Find(q, until) })
}

// nobody asks for a login that cannot succeed, so that users who do not exist take as many steps as those who do.
func (f *searcher) nobody(password string, until time.Time) error {
	if _, err := f.pool.Verify("cn="+rand.Text()+","+f.query.Base, password, until, nil); err != nil {
		return err
	}
	return errWrong
}

// only is the value of an attribute that has one; one of several names nobody.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// groups finds the groups of users.
type groups struct {
	attribute string // of users; empty: groups are searched for
	query     hostsvc.LDAPQuery
	member    string
	byName    bool // members are user names
	name      string
	base      ldapname.DN // nil: everywhere
	required  []string
	rename    map[string]string
	prefix    string
}

// maxGroups bounds the groups of a user.
const maxGroups = 1000

func groupsOf(c *policyv1.LdapGroups) (*groups, error) {
	if c == nil {
		return nil, nil
	}
	g := &groups{
		name: cmp.Or(c.GetNameAttribute(), "cn"), required: c.GetRequired(), rename: c.GetRename(), prefix: c.GetPrefix(),
	}
	if c.GetBaseDn() != "" {
		var ok bool
		if g.base, ok = ldapname.ParseDN(c.GetBaseDn()); !ok {
			return nil, errors.New("groups.base_dn is not a distinguished name")
		}
	}
	switch c.GetFrom() {
	case policyv1.LdapGroupSource_LDAP_GROUP_SOURCE_UNSPECIFIED, policyv1.LdapGroupSource_LDAP_GROUP_SOURCE_MEMBER_OF:
		g.attribute = cmp.Or(c.GetAttribute(), "memberOf")
	case policyv1.LdapGroupSource_LDAP_GROUP_SOURCE_SEARCH:
		g.member, g.byName = cmp.Or(c.GetMemberAttribute(), "member"), c.GetMember() == policyv1.LdapMember_LDAP_MEMBER_USERNAME
		g.query = hostsvc.LDAPQuery{Base: c.GetBaseDn(), Attributes: []string{g.name}, Limit: maxGroups}
	default:
		return nil, errors.New("groups.from has a value that is not known")
	}
	return g, nil
}

// attributes are those of the user's entry that groups are read from.
func (g *groups) attributes() []string {
	if g == nil || g.attribute == "" {
		return nil
	}
	return []string{g.attribute}
}

// fill fills in the groups of a user.
func (g *groups) fill(who *person, user string, entry *hostsvc.LDAPEntry, find func(hostsvc.LDAPQuery) (hostsvc.LDAPFound, error)) error {
	if g == nil {
		return nil
	}
	names, err := g.of(who.dn, user, entry, find)
	if err != nil {
		return err
	}
	who.outside = len(g.required) > 0 && !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(g.required, n) })
	for _, n := range names {
		if len(g.rename) > 0 {
			n = g.rename[n]
		}
		if n = g.prefix + n; n != g.prefix && !slices.Contains(who.groups, n) {
			who.groups = append(who.groups, n)
		}
	}
	return nil
}

// of returns what the directory calls the groups of a user.
func (g *groups) of(dn, user string, entry *hostsvc.LDAPEntry, find func(hostsvc.LDAPQuery) (hostsvc.LDAPFound, error)) ([]string, error) {
	var names []string
	if g.attribute != "" {
		values := entry.Values(g.attribute)
		if len(values) > maxGroups {
			return nil, &hostsvc.LDAPOutage{Reason: "ldap_many_groups", RetryAfter: 10 * time.Second}
		}
		for _, v := range values {
			parsed, ok := ldapname.ParseDN(v)
			if !ok || g.base != nil && !parsed.Below(g.base) {
				continue
			}
			if n, ok := parsed.Named(g.name); ok {
				names = append(names, n)
			}
		}
		return names, nil
	}
	q, member := g.query, dn
	if g.byName {
		member = user
	}
	q.Filter = "(" + g.member + "=" + ldapname.EscapeFilter(member) + ")"
	found, err := find(q)
	switch {
	case err != nil:
		return nil, err
	case found.More:
		return nil, &hostsvc.LDAPOutage{Reason: "ldap_many_groups", RetryAfter: 10 * time.Second}
	case found.NoBase:
		return nil, &hostsvc.LDAPOutage{Reason: "ldap_no_base", RetryAfter: 10 * time.Second}
	}
	for i := range found.Entries {
		names = append(names, found.Entries[i].Values(g.name)...)
	}
	return names, nil
}
