// Package runtime is the compiled form of a gateway group's resources at one revision, as requests use it: where they go,
// which policies apply, who may call. A Runtime is immutable but for bounded caches of what follows from it, so any number
// of exchanges use it while the next one is made. It is built by compile only, and read by the server.
package runtime

import (
	"net/netip"
	goruntime "runtime"
	"sync/atomic"

	"keyward.dev/dataplane/internal/callerfields"
	"keyward.dev/dataplane/internal/challenge"
	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
	"keyward.dev/dataplane/internal/policy"
	"keyward.dev/dataplane/internal/policy/directory"
	"keyward.dev/dataplane/internal/revocation"
	"keyward.dev/dataplane/internal/router"
	"keyward.dev/dataplane/internal/shardmap"
	"keyward.dev/dataplane/internal/sni"
	"keyward.dev/dataplane/internal/state"
	"keyward.dev/dataplane/internal/ticketkeys"
	configv1 "keyward.dev/proto/gen/keyward/config/v1"
	"keyward.dev/shared/check/certmap"
)

// Runtime is everything a gateway needs to serve its group.
type Runtime struct {
	// Set is what the runtime was compiled from.
	Set *state.Set
	// Closed says why no request at all can be served; empty if they can.
	Closed string
	// Broken: Set could not be compiled, and what is here is not what it says. Nothing may be reused.
	Broken bool

	Settings *Settings
	Table    *router.Table
	// Held are the certificates by name, Certificates those of them that clients are shown.
	Held         *shardmap.Map[*sni.Certificate]
	Certificates *sni.Table
	// Tickets are the keys of session tickets that the gateways of the group share; nil: this one uses its own.
	Tickets *ticketkeys.Keys
	// Challenges are those of ACME authorities that can be answered now; nil: none.
	Challenges *challenge.Table
	// Authorities are CA certificates by name.
	Authorities *shardmap.Map[*Authority]
	// Clients are the demands that routes and credentials make of client certificates, by their keys.
	Clients *shardmap.Map[*Clients]
	// Asked is not for admitting anybody: it believes all authorities of which it is asked what they have revoked, for who wants
	// to wait for answers before it is known which of them count. nil: there are none.
	Asked *clientcert.Policy
	// Responders keep what they have said of clients' certificates.
	Responders *revocation.Cache
	Directory  *directory.Directory
	// Bound is how many credentials of a type are bound to certificates; types without any are left out.
	Bound     map[string]int
	Routes    *shardmap.Map[*Route]    // by uid
	Services  *shardmap.Map[*Service]  // by name
	Consumers *shardmap.Map[*Consumer] // by uid
	Groups    *shardmap.Map[*Owner]    // consumer groups by name
	// Users are the uids of the routes to a service, as package compile divides them.
	Users *shardmap.Map[[]string]
	// Versions are the uids of certificates by the ids of their versions, Dependents the uids of services by what their TLS is
	// made from, both as package compile divides them.
	Versions, Dependents *shardmap.Map[[]string]
	// Uses are the kinds and uids of what has policies or is a credential, by what these were made from beside their own
	// record; UsesOf is the other way round.
	Uses, UsesOf *shardmap.Map[[]string]
	// References are likewise the uids of certificates by the names of the records with what they refer to.
	References *shardmap.Map[[]string]
	// LostGroups are consumer groups of which not even the name is known, by uid.
	LostGroups map[string]struct{}
	// Files are the files of this machine from which certificates were read, by the names of what refers to them.
	Files map[string]File
	// Profiles are those of consumers without policies of their own, by the uids of their groups.
	Profiles *shardmap.Map[*Profile]
	// Sharing is between the policies and chains of all routes, as long as the settings stay.
	Sharing *policy.Sharing
	// Granted are those of callers whose groups a token or a directory says.
	Granted *Granted
	// Faults are what does not work, by kind and uid.
	Faults map[Key][]Fault
}

// Key identifies a record.
type Key struct{ Kind, UID string }

// Fault is something that does not work here; what it guards is closed.
type Fault struct {
	Kind, UID, Name, Reason string
}

// Settings are the group's settings.
type Settings struct {
	Owner        *Owner
	RequireHTTPS bool
	StrictPaths  bool
	Proxies      []netip.Prefix
	Egress       *hostsvc.EgressRules
	EgressKey    string // equal for equal rules
	// Identities says what the gateway proves itself with to upstreams for which their service says nothing.
	Identities    *certmap.Map
	IdentitiesKey string // equal for equal ones
	MaxHeaders    int
	MaxHead       int
	MaxURI        int
	MaxBody       int64
	// Upgrades: connections may be switched to other protocols where a route says so.
	Upgrades bool
	// MaxConns bounds the clients' connections to this gateway, MaxConnsPerClient those of one address; 0: no bound.
	MaxConns, MaxConnsPerClient int
	// Listeners is what the group says about listeners, by name.
	Listeners map[string]ListenerOptions
	AccessLog AccessLog
	// CallerFields tell services who calls, and are taken away from clients; nil: there are none.
	CallerFields *callerfields.Fields
	TLS          TLSOptions
	// Clients are demanded of whoever comes to services and routes that demand nothing themselves; nil: nothing is.
	Clients *Demand
}

// TLSOptions is what a group says about TLS with clients.
type TLSOptions struct {
	// DefaultCertificates are references to what is shown where no certificate is for the name.
	DefaultCertificates []string
	// Terms are for all names of which their certificates say nothing else.
	sni.Terms
	// Stapling says with which certificates answers of their responders are sent.
	Stapling configv1.OcspStapling
}

// ListenerOptions is what a group says about one listener.
type ListenerOptions struct {
	// ProxyProtocol: trusted proxies begin each connection with a PROXY header, version 1 or 2.
	ProxyProtocol bool
}

// AccessLog says what is written down of exchanges.
type AccessLog struct {
	// Sample is how many of a million exchanges below status 400 are logged; those from 400 on always are.
	Sample int
	// Redact are members of the line whose values are replaced.
	Redact map[string]struct{}
	// Headers are request header fields, in lower case, that are logged as well. Never those that carry credentials.
	Headers []string
	// ClientIP is how much of an address is shown.
	ClientIP ClientIPForm
}

// ClientIPForm is how much of a client's address is shown.
type ClientIPForm uint8

// Forms: whole; without its last octet or its last 80 bits; or as a hash under a key of the process.
const (
	ClientIPFull ClientIPForm = iota
	ClientIPTruncated
	ClientIPHashed
)

// Trusted reports whether the address belongs to a trusted proxy.
func (s *Settings) Trusted(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range s.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// TransportSecurity is what is put on responses over TLS for a host, nil if nothing is. Browsers take it for the host they ask,
// whatever the name that the connection was made under.
func (rt *Runtime) TransportSecurity(host []byte) *exchange.Header {
	if terms := rt.Certificates.Terms(host); terms != nil && terms.HSTS != nil {
		return terms.HSTS
	}
	return rt.Settings.TLS.HSTS
}

// Fits reports whether a request for a host may come over a connection that was made under another name: how TLS is spoken under
// the host's own is not evaded by asking for another one.
func (rt *Runtime) Fits(host []byte, p *clientcert.Peer) bool {
	if p == nil || rt.Certificates.Uniform() || string(host) == p.Name {
		return true
	}
	is := sni.Spoken{Version: p.Version, Suite: p.Suite, Curve: p.Curve, Protocol: p.Protocol}
	return is.Meets(&rt.Settings.TLS.Terms, rt.Certificates.Terms(host))
}

// Holder is the one place from which requests take the runtime.
type Holder struct {
	current     atomic.Pointer[Runtime]
	generations atomic.Int64
}

// Load returns the runtime, nil before the first.
func (h *Holder) Load() *Runtime { return h.current.Load() }

// Store makes rt the runtime of every request that begins from now on.
func (h *Holder) Store(rt *Runtime) {
	if h.current.Swap(rt) != rt {
		h.generations.Add(1)
		goruntime.AddCleanup(rt, func(n *atomic.Int64) { n.Add(-1) }, &h.generations)
	}
}

// Generations returns how many of the runtimes that were stored are still in memory: the one in force, those that something
// uses, and those that the collector has not come by yet.
func (h *Holder) Generations() int64 { return h.generations.Load() }
