package check

import (
	"net/netip"
	"strings"

	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check/ldapname"
	"keyward.dev/shared/problem"
	"keyward.dev/shared/secret"
)

func ldapAuth(cfg *policyv1.LdapAuth) violations {
	var vs violations
	for i, h := range cfg.GetHeader() {
		if framing(h) || strings.EqualFold(h, "Cookie") {
			vs.add(problem.Index("header", i), "%s cannot carry a login", h)
		}
	}
	sameFold(&vs, "header", cfg.GetHeader())
	attributeName(&vs, "consumer_attribute", cfg.GetConsumerAttribute())
	if len(cfg.GetConsumerBy()) > 0 && cfg.GetConsumerBy()[0] == policyv1.LdapConsumerBy_LDAP_CONSUMER_BY_UNSPECIFIED {
		vs.add("consumer_by[0]", "is no name of a consumer")
	}
	vs = append(vs, problem.Under("server", ldapServer(cfg.GetServer()))...)
	if b := cfg.GetBind(); b != nil && !ldapname.GoodTemplate(b.GetDn()) {
		vs.add("bind.dn", "is not a distinguished name with %s as a value or a part of one", ldapname.Placeholder)
	}
	if s := cfg.GetSearch(); s != nil {
		vs = append(vs, problem.Under("search", ldapSearch(s))...)
	}
	if g := cfg.GetGroups(); g != nil {
		vs = append(vs, problem.Under("groups", ldapGroups(g))...)
	}
	return vs
}

func ldapServer(s *policyv1.LdapServer) violations {
	var vs violations
	bare := s.GetTls() == policyv1.LdapTls_LDAP_TLS_NONE
	for i, a := range s.GetAddresses() {
		if bare && !s.GetInsecurePlaintext() && !onLoopback(a) {
			vs.add(problem.Index("addresses", i), "without TLS passwords would go over the network in the clear; say ldaps or starttls, or insecure_plaintext: true")
		}
	}
	switch {
	case bare && (len(s.GetCa()) > 0 || s.GetServerName() != ""):
		vs.add("tls", "none makes ca and server_name void; leave them out")
	case !bare && s.GetInsecurePlaintext():
		vs.add("insecure_plaintext", "is void with TLS; leave it out")
	}
	for i, ca := range s.GetCa() {
		if !authorityName(ca) {
			vs.add(problem.Index("ca", i), "is not the name of one of ca-certificates")
		}
	}
	return vs
}

// onLoopback reports whether an address leads to this machine and no further.
func onLoopback(address string) bool {
	ip, err := netip.ParseAddrPort(address)
	return err == nil && ip.Addr().IsLoopback() || strings.HasPrefix(address, "localhost:")
}

func ldapSearch(s *policyv1.LdapSearch) violations {
	var vs violations
	distinguishedName(&vs, "base_dn", s.GetBaseDn())
	distinguishedName(&vs, "bind_dn", s.GetBindDn())
	attributeName(&vs, "attribute", s.GetAttribute())
	switch f := s.GetFilter(); {
	case f != "" && s.GetAttribute() != "":
		vs.add("filter", "takes the place of attribute; leave one of them out")
	case f != "" && !ldapname.GoodFilter(f):
		vs.add("filter", "is not a filter (RFC 4515) with %s as a value or a part of one", ldapname.Placeholder)
	}
	return vs
}

// DirectoryPassword says what is wrong with the password with which a directory is searched; empty: nothing. It is for
// configurations of which it is known which secrets they keep.
func DirectoryPassword(cfg *policyv1.LdapAuth) string {
	search := cfg.GetSearch()
	given, named := secret.Stored(search.GetBindPassword()), search.GetBindDn() != "" || secret.Stored(search.GetBindName())
	switch {
	case search.GetBindDn() != "" && secret.Stored(search.GetBindName()):
		return "is of one account: bind_name takes the place of bind_dn; leave bind_dn out, or clear bind_name with null"
	case named && !given:
		return "required with bind_dn and bind_name: a login without a password is one as nobody"
	case !named && given:
		return "is void without bind_dn or bind_name; leave it out, or clear it with null"
	}
	return ""
}

func ldapGroups(g *policyv1.LdapGroups) violations {
	var vs violations
	distinguishedName(&vs, "base_dn", g.GetBaseDn())
	attributeName(&vs, "attribute", g.GetAttribute())
	attributeName(&vs, "member_attribute", g.GetMemberAttribute())
	attributeName(&vs, "name_attribute", g.GetNameAttribute())
	searched := g.GetFrom() == policyv1.LdapGroupSource_LDAP_GROUP_SOURCE_SEARCH
	switch {
	case searched && g.GetBaseDn() == "":
		vs.add("base_dn", "required with from: search")
	case searched && g.GetAttribute() != "":
		vs.add("attribute", "is for from: member-of; leave it out")
	case !searched && g.GetMemberAttribute() != "":
		vs.add("member_attribute", "is for from: search; leave it out")
	case !searched && g.GetMember() == policyv1.LdapMember_LDAP_MEMBER_USERNAME:
		vs.add("member", "is for from: search; leave it out")
	}
	return vs
}

func attributeName(vs *violations, path, name string) {
	if name != "" && !ldapname.Attribute(name) {
		vs.add(path, "is not the name of an attribute (RFC 4512)")
	}
}

func distinguishedName(vs *violations, path, dn string) {
	if dn == "" {
		return
	}
	if _, ok := ldapname.ParseDN(dn); !ok {
		vs.add(path, "is not a distinguished name (RFC 4514)")
	}
}
