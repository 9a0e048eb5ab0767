// Package ldapauth enforces the ldap-auth policy: it identifies a caller by a user name and a password that an LDAP directory
// takes. Connections to the directory are hostsvc's; what was found out is remembered for a while, under keyed hashes, and
// found again after a push that changes nothing of it.
package ldapauth

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	policyv1 "keyward.dev/proto/gen/keyward/policy/v1"
	"keyward.dev/shared/check"
)

// policyType is also how callers are said to have proved who they are.
const policyType = "ldap-auth"

type ldapAuth struct {
	headers   []string
	scheme    string
	hide      bool
	challenge exchange.Header

	find       finder
	groups     *groups // nil: those of the consumer
	by         []exchange.ConsumerBy
	optional   bool
	ttl        time.Duration
	remembered *memory
	// generations are of tables of consumers.
	generations generations
	proofs      *hostsvc.Verified // makes keyed hashes
	against     []byte            // what logins are proved against
	guard       *hostsvc.Guard
	scratch     sync.Pool
	ambiguous   *atomic.Uint64
}

// guardLimits bound guessing, as those of passwords that are kept here do.
var guardLimits = hostsvc.GuardLimits{Pair: 10, Address: 100, Account: 100, Window: 10 * time.Minute}

// Build makes the policy.
func Build(cfg *policyv1.LdapAuth, d policy.Deps) (policy.Policy, error) {
	if vs := check.Policy(cfg); len(vs) > 0 {
		return nil, errors.New(vs[0].Path + ": " + vs[0].Reason)
	}
	server, err := serverOf(cfg, d)
	if err != nil {
		return nil, err
	}
	p := &ldapAuth{
		headers: cfg.GetHeader(), scheme: "Basic", hide: cfg.HideCredentials == nil || cfg.GetHideCredentials(),
		optional: cfg.GetConsumerOptional(), ttl: time.Minute, proofs: d.Host.Logins.Verified, ambiguous: &d.Host.AmbiguousLogins,
	}
	if len(p.headers) == 0 {
		p.headers = []string{"Authorization"}
	}
	if cfg.GetScheme() == policyv1.LdapScheme_LDAP_SCHEME_LDAP {
		p.scheme = "ldap"
	}
	if cfg.GetCacheTtl() != nil {
		p.ttl = cfg.GetCacheTtl().AsDuration()
	}
	if p.challenge, err = challengeOf(p.scheme, cfg.GetRealm()); err != nil {
		return nil, err
	}
	if p.by, err = consumersBy(cfg); err != nil {
		return nil, err
	}
	if p.groups, err = groupsOf(cfg.GetGroups()); err != nil {
		return nil, err
	}
	if p.find, err = finderOf(cfg, p.groups, d.Host.LDAPPool(server, d.Log)); err != nil {
		return nil, err
	}
	key := identity(cfg, &server, d.Binding)
	p.against = []byte(key)
	p.remembered = hostsvc.Keep(&d.Host.Kept, key, newMemory)
	p.guard = d.Host.Logins.Guard.Bind(policyType+" "+strings.Join(server.Addresses, " "), guardLimits)
	return p, nil
}

func challengeOf(scheme, realm string) (exchange.Header, error) {
	if realm == "" {
		realm = "keyward"
	}
	if strings.ContainsAny(realm, "\"\\\r\n") {
		return exchange.Header{}, errors.New("realm has characters that a quoted string cannot carry")
	}
	value := scheme + ` realm="` + realm + `"`
	if scheme == "Basic" {
		value += `, charset="UTF-8"`
	}
	return exchange.Field("WWW-Authenticate", value), nil
}

func consumersBy(cfg *policyv1.LdapAuth) ([]exchange.ConsumerBy, error) {
	var by []exchange.ConsumerBy
	for _, b := range cfg.GetConsumerBy() {
		switch b {
		case policyv1.LdapConsumerBy_LDAP_CONSUMER_BY_USERNAME:
			by = append(by, exchange.ConsumerByUsername)
		case policyv1.LdapConsumerBy_LDAP_CONSUMER_BY_CUSTOM_ID:
			by = append(by, exchange.ConsumerByCustomID)
		case policyv1.LdapConsumerBy_LDAP_CONSUMER_BY_NAME:
			by = append(by, exchange.ConsumerByName)
		default:
			return nil, errors.New("consumer_by has a value that is not known")
		}
	}
	if len(by) == 0 {
		by = []exchange.ConsumerBy{exchange.ConsumerByUsername}
	}
	return by, nil
}

// Waits implements policy.Waiter.
func (p *ldapAuth) Waits() {}

// Invalid implements policy.Uniform.
func (p *ldapAuth) Invalid() *exchange.Refusal { return refuseInvalid }

// Challenge implements policy.Challenger.
func (p *ldapAuth) Challenge() exchange.Header { return p.challenge }

// CredentialFields implements policy.Bearer.
func (p *ldapAuth) CredentialFields() []string { return p.headers }

// Hide implements policy.Hider. What is of another scheme is not this policy's.
func (p *ldapAuth) Hide(x *exchange.Exchange) {
	if !p.hide {
		return
	}
	for _, name := range p.headers {
		for i := x.Request.Header.Index(name, 0); i >= 0; i = x.Request.Header.Index(name, i+1) {
			if _, ok := p.token(x.Request.Header[i].Value); ok {
				x.Request.Header.Del(name)
				break
			}
		}
	}
}

// Request implements policy.Policy.
func (p *ldapAuth) Request(x *exchange.Exchange) policy.Verdict {
	s, ok := p.scratch.Get().(*scratch)
	if !ok {
		s = &scratch{}
	}
	v := p.request(x, s)
	*s = scratch{} // a password is in it
	p.scratch.Put(s)
	return v
}

// scratch is the memory of a request.
type scratch struct {
	login   login
	proof   hostsvc.Proof
	attempt hostsvc.Attempt
	room    [hostsvc.AttemptRoom + maxLogin]byte
}

func (p *ldapAuth) request(x *exchange.Exchange, s *scratch) policy.Verdict {
	l := &s.login
	if r := p.presented(x, l); r != nil {
		return refuse(x, r)
	}
	if x.Directory == nil {
		return refuse(x, refuseIncomplete)
	}
	p.proofs.Proof(&s.proof, p.against, l.key, l.password)
	p.guard.Begin(&s.attempt, s.room[:0], l.key, x.Request.ClientIP, x.Timings.Received)
	if wait := s.attempt.Wait(); wait > 0 {
		return refuse(x, tooMany(wait))
	}
	who := p.remembered.get(&s.proof, x.Timings.Received)
	if who == nil {
		got := p.remembered.asked.Do(&s.proof, func() answer { return p.ask(s, x.Timings.Received) })
		switch {
		case got.refusal != nil:
			return refuse(x, got.refusal)
		case got.who == nil:
			return refuse(x, refuseIncomplete)
		}
		who = got.who
	}
	principal, r := p.principal(who, x.Directory)
	if r != nil {
		return refuse(x, r)
	}
	x.Principal = principal
	return policy.Next
}

// ask asks the directory, once for all that come with the same login now: a client that opens fifty connections while the
// directory is slow has guessed once. Guesses count, and what was found out does not.
func (p *ldapAuth) ask(s *scratch, now time.Time) answer {
	if who := p.remembered.get(&s.proof, now); who != nil { // found out meanwhile
		return answer{who: who}
	}
	if wait := s.attempt.Take(); wait > 0 {
		return answer{refusal: tooMany(wait)}
	}
	who, err := p.find(string(s.login.key), string(s.login.password))
	outage, down := errors.AsType[*hostsvc.LDAPOutage](err)
	switch {
	case down:
		s.attempt.Unsure(&s.proof)
		return answer{refusal: unavailable(outage)}
	case errors.Is(err, errAmbiguous):
		p.ambiguous.Add(1)
		return answer{refusal: refuseAmbiguous}
	case err != nil:
		return answer{refusal: refuseInvalid}
	}
	s.attempt.Right()
	if p.ttl > 0 {
		p.remembered.put(&s.proof, who, now.Add(p.ttl))
	}
	return answer{who: who}
}

func refuse(x *exchange.Exchange, r *exchange.Refusal) policy.Verdict {
	x.Refuse(r)
	return policy.Stop
}
