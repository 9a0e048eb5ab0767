package exchange

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"keyward.dev/dataplane/internal/lastuse"
)

// Exchange is one request and its answer. It is owned by one goroutine at a time.
type Exchange struct {
	Request  Request
	Response Response

	// Principal is who calls; nil until authentication has passed, and on routes without authentication.
	Principal *Principal
	// Route is what the request matched.
	Route RouteInfo
	// Directory holds the credentials of the runtime that serves this exchange. The server sets it with the runtime, so
	// that policies always look into the newest table, also when they themselves were built for an earlier one.
	Directory Directory
	// Client is what is known of the client's certificate. The server sets it; nil stands for a connection without TLS.
	Client Client
	// Bodies reads the request's body for Body. The server sets it.
	Bodies BodyReader
	// Vouched are the keys of the authorities, as Client knows them, by which authentication has believed a certificate. What
	// lasts longer than the request ends when they vouch no more.
	Vouched []string
	// Proofs are the credentials by which authentication has let the request in: one for each policy of the alternative that
	// passed. What lasts longer ends when one of them does.
	Proofs []*Principal
	// Spent is what this request has used up that counts once.
	Spent []Spent
	// Minted names the header field that carries a token which the gateway has made for the upstream; empty: none does. It is
	// never written down.
	Minted  string
	Timings Timings
	// Trace is what other servers know the exchange by.
	Trace Trace

	// StoppedBy is the binding that refused or answered the request; nil if none did.
	StoppedBy *PolicyRef
	// Reports are refusals by bindings in report mode, which let the request pass.
	Reports []Report

	// Progress belongs to the policy chain runner: one entry for the route half, one for the overlay half.
	Progress [2]Progress

	refusal   *Refusal
	id        ID
	arena     arena
	saved     *saved // nil: Save was never called
	current   *Slot
	body      []byte // unless bodyState is bodyUnread
	bodyState bodyState
}

// Request is what the client asked for. Policies may change Header and Query; what they leave is forwarded.
type Request struct {
	Method []byte
	// RawTarget is the request target as received.
	RawTarget []byte
	// Authority is the host with its port as the client named them.
	Authority []byte
	// Path is the normalised path, without query: what is matched and what is forwarded.
	Path []byte
	// Query is everything after the first '?', without it; nil if there is none.
	Query []byte
	// Host is the normalised host: lower case, without port and trailing dot.
	Host   []byte
	Header Headers
	// Scheme is "http" or "https".
	Scheme string
	// Proto is the protocol version: 10, 11 or 20.
	Proto int
	// ContentLength is the declared length of the body; 0 without a body, -1 if unknown (chunked, HTTP/2 without length).
	ContentLength int64
	RemoteAddr    netip.AddrPort
	// ClientIP is the client's address after trusted proxies.
	ClientIP netip.Addr
	TLS      bool
}

// Response is what is answered. Local says that the gateway answers it itself, with Body.
type Response struct {
	Status int
	Header Headers
	Body   []byte
	Local  bool
}

// PrincipalKind says what sort of caller a principal is.
type PrincipalKind uint8

// Kinds of principals.
const (
	KindAnonymous PrincipalKind = iota
	KindUser
	KindMachine
)

// Principal is who calls. It is built once per credential and shared by exchanges: it is never changed.
type Principal struct {
	// What requests with a credential look at comes first: of a million principals each line of memory that is looked at shows.

	Kind PrincipalKind
	// Dynamic says that Groups are not, or not only, those that the consumer is configured with, or that there is no consumer:
	// what applies to the caller is found by them then.
	Dynamic bool
	// Standing is what the consumer has in common with others to whom the same applies; nil: it has to be looked up what does. Only
	// the runtime knows what it is. It is true of principals from the directory that the request is served with: whoever keeps one
	// for other requests keeps it without.
	Standing any
	// Consumer and ConsumerUID name the consumer; empty without one.
	Consumer, ConsumerUID string
	// Credential is the credential's name below its consumer.
	Credential string
	// How is the credential type that proved it, e.g. "key-auth".
	How string
	// Used notes when the credential was last accepted; nil: nobody wants to know.
	Used *lastuse.Mark
	// Groups are the caller's groups in the order of their precedence: as listed with the consumer, or as a token or directory
	// says.
	Groups []string
	// Expires is when the credential stops being valid; zero: never. Long-lived exchanges are cut then.
	Expires       time.Time
	CredentialUID string
	// Attributes are what else is known of the caller; nil: nothing. Principals share them, see Own.
	Attributes *Attributes
}

// Spent is something that counts once, among what a key or issuer has made, in a table of such.
type Spent struct {
	In      any
	Key, ID string
}

// RouteInfo names what a request matched.
type RouteInfo struct {
	Name, UID, Service, ServiceUID, Group string
}

// Timings are the moments of an exchange; zero if not reached. Received carries a monotonic reading and is the clock of
// every policy: one exchange has one time.
type Timings struct {
	Received, UpstreamStarted, UpstreamHead, HeadSent, Done time.Time
}

// Now returns the time, counted on from Received: that reads one clock where time.Now reads two.
func (t *Timings) Now() time.Time { return t.Received.Add(time.Since(t.Received)) }

// PolicyRef identifies a binding: it is the key of state that survives a push and the name in logs and metrics.
type PolicyRef struct {
	Type, Name                     string
	OwnerKind, OwnerUID, OwnerName string
}

// Report is a refusal that was not enforced.
type Report struct {
	By      *PolicyRef
	Refusal *Refusal
}

// Directory finds who owns a presented credential.
type Directory interface {
	// Credential returns the credential of this type whose secret was presented, or nil. Validity times are the
	// caller's to check.
	Credential(typ string, presented []byte) *Credential
	// Complete is false while something of what credentials of this type are found by cannot be read, such as one of them or
	// its consumer: then one that is not found may be known all the same. The empty type stands for consumers.
	Complete(typ string) bool
	// Knows reports whether everything is known that is in a credential store, so that what is not found is not there.
	Knows(store string) bool
	// Identified returns the credential of this type that says something which is no secret, by the hash of it, or nil.
	// Several: more than one does, and nobody can tell which of them is meant. Validity times are the caller's to check.
	Identified(typ string, hash *[32]byte) (c *Credential, several bool)
	// Consumer returns who is known by this name, nil if nobody is; a principal of its own, without a credential.
	Consumer(by ConsumerBy, name []byte) *Principal
}

// ConsumerBy says by which of its names a consumer is meant.
type ConsumerBy uint8

// Names of consumers. No two consumers have the same name of one sort.
const (
	ConsumerByName ConsumerBy = iota
	ConsumerByUsername
	ConsumerByCustomID
)

// NameHash is the hash by which Directory.Identified finds the credential of a type that is known by a name.
func NameHash(typ string, name []byte) (sum [32]byte) {
	var buf [256]byte
	b := append(append(append(buf[:0], typ...), 0), name...)
	return sha256.Sum256(b)
}

// Client is who has made the connection, as far as a certificate tells.
type Client interface {
	// Certificate returns the client's certificate and whether the authorities of that key vouch for it now; the empty key
	// stands for those that the route asks for. It is not nil only if they do.
	Certificate(authorities string) (*Certificate, Trust)
	// Proves reports whether the client has proved to have one of the certificates of that key, which are what they were
	// then: an expired one counts no more.
	Proves(certificates string) bool
}

// Trust says what became of asking for a client's certificate.
type Trust uint8

// Trust. The zero value is that of nobody.
const (
	// Missing: the client has shown none.
	Missing Trust = iota
	// Distrusted: nobody vouches for it, or not any more.
	Distrusted
	// Trusted: it may be believed.
	Trusted
	// Unsure: it cannot be found out now whether it is revoked.
	Unsure
)

// Certificate is what a certificate says of its owner, by the hashes that Directory.Identified takes. It is shared by the
// requests of a connection and never changed.
type Certificate struct {
	Fingerprint, SANs, Subjects [][32]byte
}

// Credential is a stored credential as policies see it. It is shared and never changed.
type Credential struct {
	Principal *Principal
	// NotBefore is when it begins to be valid; zero: at once. When it ends its principal says.
	NotBefore time.Time
	// Material is what presented proof is compared with, of a type that the policy of the credential's type knows. Nil: finding
	// the credential proves it; or, for types that need some, it is not known now, as what it refers to has not been read: that
	// is an outage, not a refusal.
	Material any
}

// ValidAt says whether the credential may be used at t.
func (c *Credential) ValidAt(t time.Time) bool {
	ends := c.Principal.Expires
	return !t.Before(c.NotBefore) && (ends.IsZero() || t.Before(ends))
}

// Slot is what one policy keeps for one exchange between its calls. It is zero when the exchange begins.
type Slot struct {
	N     int64
	Bytes []byte
}

// Progress is how far one half of a policy chain got.
type Progress struct {
	// Ran counts the links whose Request was called.
	Ran   int
	Slots []Slot
	// Due are those of them that are to see the response.
	Due []Due
}

// Due is a policy that is to see the response.
type Due struct {
	Policy Responder
	// Chain and Link are where it stands; only the chain runner knows what a chain is.
	Chain any
	Link  int
}

// Responder sees the head of a response before it is sent.
type Responder interface {
	Response(x *Exchange)
}

// Slot returns what the running policy keeps for this exchange.
func (x *Exchange) Slot() *Slot { return x.current }

// UseSlot makes s the running policy's. Only the chain runner calls it.
func (x *Exchange) UseSlot(s *Slot) { x.current = s }

// Reset makes the exchange ready for another request; nothing of the last one can be reached through it.
func (x *Exchange) Reset() {
	req, resp, reports := x.Request.Header, x.Response.Header, x.Reports
	clear(req)
	clear(resp)
	clear(reports)
	clear(x.Proofs)
	clear(x.Spent)
	for i := range x.Progress {
		p := &x.Progress[i]
		clear(p.Slots[:cap(p.Slots)])
		clear(p.Due[:cap(p.Due)])
		p.Ran, p.Slots, p.Due = 0, p.Slots[:0], p.Due[:0]
	}
	if x.saved != nil {
		x.saved.reset()
	}
	x.arena.reset()
	// Field by field: a composite literal would be made on the stack first, which is deep enough already.
	progress, memory, vouched, saved := x.Progress, x.arena, x.Vouched[:0], x.saved
	proofs, spent := x.Proofs[:0], x.Spent[:0]
	*x = Exchange{}
	x.Proofs, x.Spent = proofs, spent
	x.Progress, x.arena, x.Vouched, x.saved = progress, memory, vouched, saved
	x.Request.Header, x.Response.Header, x.Reports = req[:0], resp[:0], reports[:0]
}

// saved is a copy of everything a policy may change, for those whose changes must not show.
type saved struct {
	request   Request
	response  Response
	principal *Principal
	reqHead   Headers
	respHead  Headers
	body      []byte
	bodyState bodyState
}

func (s *saved) reset() {
	clear(s.reqHead)
	clear(s.respHead)
	*s = saved{reqHead: s.reqHead[:0], respHead: s.respHead[:0]}
}

// Save remembers request, response and principal. There is one level: a second Save replaces the first.
func (x *Exchange) Save() {
	if x.saved == nil {
		x.saved = new(saved)
	}
	s := x.saved
	s.reqHead = append(s.reqHead[:0], x.Request.Header...)
	s.respHead = append(s.respHead[:0], x.Response.Header...)
	s.request, s.response, s.principal = x.Request, x.Response, x.Principal
	s.body, s.bodyState = x.body, x.bodyState
}

// Restore undoes every change since Save.
func (x *Exchange) Restore() {
	s := x.saved
	req, resp := x.Request.Header, x.Response.Header
	x.Request, x.Response, x.Principal = s.request, s.response, s.principal
	x.body, x.bodyState = s.body, s.bodyState
	x.Request.Header = append(req[:0], s.reqHead...)
	x.Response.Header = append(resp[:0], s.respHead...)
}
