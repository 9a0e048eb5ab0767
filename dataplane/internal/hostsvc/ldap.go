package hostsvc

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAPSecurity says how connections to a directory are protected.
type LDAPSecurity uint8

// Ways of protection. The zero value is the strict one.
const (
	// LDAPS is TLS from the first byte.
	LDAPS LDAPSecurity = iota
	// LDAPStartTLS begins TLS before anything else is said; a server that does not is not spoken to.
	LDAPStartTLS
	// LDAPPlain is without protection.
	LDAPPlain
)

// LDAPServer says where a directory is, who answers there and as whom it is asked.
type LDAPServer struct {
	// Addresses are host:port. The first that works is used.
	Addresses []string
	Security  LDAPSecurity
	// ServerName is what its certificate has to be for; empty: the host of the address.
	ServerName string
	// Authorities vouch for its certificate; none: those of the system.
	Authorities []*x509.Certificate
	Egress      *EgressRules
	// BindDN and BindPassword are the account that Find asks as; empty: nobody.
	BindDN, BindPassword string
	// ConnectTimeout bounds name resolution, connecting and TLS together.
	ConnectTimeout time.Duration
	// MaxConnections bounds the connections that are in use at once and those that are kept.
	MaxConnections int
	// IdleTimeout is how long a connection is kept that nobody uses.
	IdleTimeout time.Duration
}

// key is equal for servers that are the same in everything.
func (s *LDAPServer) key() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "ldap %q %d %q %q %q %d %d %d", s.Addresses, s.Security, s.ServerName, s.BindDN, s.BindPassword,
		s.ConnectTimeout, s.MaxConnections, s.IdleTimeout)
	for _, c := range s.Authorities {
		fmt.Fprintf(sum, " %x", sha256.Sum256(c.Raw))
	}
	if s.Egress != nil {
		fmt.Fprintf(sum, " within %v %v", s.Egress.allow, s.Egress.deny)
	}
	return string(sum.Sum(nil))
}

// LDAPPool returns the connections to a server: the same as long as somebody uses them, whatever is pushed meanwhile.
func (s *Services) LDAPPool(server LDAPServer, log *slog.Logger) *LDAPPool {
	return Keep(&s.Kept, server.key(), func() *LDAPPool { return newLDAPPool(server, log) })
}

// LDAPScope says how far below its base a query looks.
type LDAPScope uint8

// Scopes.
const (
	LDAPSubtree LDAPScope = iota
	LDAPOneLevel
	LDAPBase
)

func (s LDAPScope) code() int {
	switch s {
	case LDAPBase:
		return ldap.ScopeBaseObject
	case LDAPOneLevel:
		return ldap.ScopeSingleLevel
	default:
		return ldap.ScopeWholeSubtree
	}
}

// LDAPQuery is what a directory is asked for.
type LDAPQuery struct {
	Base       string
	Scope      LDAPScope
	Filter     string
	Attributes []string
	// Limit is how many entries are wanted at most.
	Limit int
}

// LDAPFound is what a directory answers.
type LDAPFound struct {
	Entries []LDAPEntry
	// More says that there are more than the limit.
	More bool
	// NoBase says that there is no such base, or that it is hidden from who asks.
	NoBase bool
}

// LDAPEntry is an entry of a directory.
type LDAPEntry struct {
	DN         string
	attributes []*ldap.EntryAttribute
}

// Values returns the values of an attribute.
func (e *LDAPEntry) Values(name string) []string {
	for _, a := range e.attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Values
		}
	}
	return nil
}

// LDAPOutage is the error of everything that does not come from who wants to log in: whether they may cannot be told.
type LDAPOutage struct {
	// Reason is a word for logs, such as ldap_unreachable.
	Reason string
	// RetryAfter is when it may be worth while to ask again; at least a second.
	RetryAfter time.Duration

	err error
}

// Error implements error. It repeats nothing of what was sent.
func (o *LDAPOutage) Error() string {
	if o.err == nil {
		return o.Reason
	}
	return o.Reason + ": " + o.err.Error()
}

// Unwrap returns the cause, if there is one.
func (o *LDAPOutage) Unwrap() error { return o.err }

func outage(reason string, err error) *LDAPOutage {
	return &LDAPOutage{Reason: reason, RetryAfter: time.Second, err: err}
}
