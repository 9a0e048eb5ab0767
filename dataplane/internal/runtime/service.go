package runtime

import (
	"crypto/x509"
	"time"
)

// Service is a service of the group, and how it is called.
type Service struct {
	UID, Name string
	Owner     *Owner
	Closed    string // why its routes are answered 503
	// Key is equal as long as it is the same service whose targets are dialled in the same way: of its fields, uid,
	// Protocol and TLS. Connections, balancing and health live under it, for each target's
	// address; targets, their identities, weights, Call, Pool, Balancer, Active, Passive and Breaker may change beneath it.
	Key string
	// Refs are the resources that TLS and identities were made from, as package compile names them.
	Refs []string

	Targets  []Target
	Weight   int // of all targets together
	Protocol Protocol
	TLS      *TLS   // nil: plain TCP
	Path     string // prefix, without a slash at its end
	Host     HostHeader
	HostName string // with HostLiteral

	// Call is how its routes call it, but for what a route says itself.
	Call CallOptions

	Pool     Pool
	Balancer Balancer
	Active   *ActiveHealth  // nil: targets are not probed
	Passive  *PassiveHealth // nil: failures of requests do not count against a target
	Breaker  *Breaker       // nil: none

	// Clients are demanded of whoever comes to its routes, nil: what the settings say.
	Clients *Demand
	// ForwardCertificate: it is told the client's certificate.
	ForwardCertificate bool
	// HideIdentity: it is not told who calls.
	HideIdentity bool

	// Plain belongs to package compile; nil before a route needed it.
	Plain *Plain
}

// CallOptions are what service and route together say about one call.
type CallOptions struct {
	// Connect bounds dialling with its TLS handshake, ResponseHead the time from the end of the request to the head of
	// the response, Idle the time between two reads or writes of a body, Total everything; 0: no bound.
	Connect, ResponseHead, Idle, Total time.Duration
	Retry                              Retry
}

// Retry says when a request is sent once more, to another target if there is one.
type Retry struct {
	// Attempts are the tries in all; 1: no retries.
	Attempts int
	On       RetryOn
	// Methods that may be repeated although the upstream may have seen the request; nil: the idempotent ones of RFC 9110
	// section 9.2.2. A request of which nothing was sent may be repeated whatever its method.
	Methods []string
	// Budget is how many retries there may be for each hundred requests to the service, beside a few per second.
	Budget int
}

// RetryOn is a set of reasons to try again.
type RetryOn uint8

// Reasons to try again.
const (
	RetryConnect        RetryOn = 1 << iota // no connection was made
	RetryReset                              // the connection broke before a byte of the answer came
	RetryTimeout                            // no head came in time
	RetryBadGateway                         // 502
	RetryUnavailable                        // 503
	RetryGatewayTimeout                     // 504
)

// Target is an address of a service.
type Target struct {
	Address string // host:port
	Weight  int
	// Identity is what the gateway proves itself with over TLS, if it is asked; nil: nothing.
	Identity *Identity
}

// Protocol is what is spoken to targets.
type Protocol uint8

// Protocols.
const (
	HTTP1 Protocol = iota
	// HTTP2 over TLS with ALPN h2, or with prior knowledge over plain TCP.
	HTTP2
)

// TLS is how targets prove who they are.
type TLS struct {
	// Verify is off only if the user says so.
	Verify bool
	// CA are files of PEM certificates on this machine, below the roots of the process's settings. A file that cannot be
	// read closes the service. Authorities are believed beside them. If there are neither, those of the system are.
	CA          []string
	Authorities []*x509.Certificate
	// Depth is how many certificates there may be between the target's and the authority's; nil: any number.
	Depth *int
	// ServerName is sent as SNI and, without SANs, verified; empty: the target's host.
	ServerName string
	// SANs: the certificate must be for one of these instead.
	SANs []string
	// Pins are SHA-256 hashes of public keys (SPKI), one of which must be in the verified chain; nil: any.
	Pins [][32]byte
	// MinVersion and MaxVersion are crypto/tls's numbers; 0: 1.2 and the newest. Suites are its numbers of cipher suites for
	// TLS 1.2; nil: all that are safe.
	MinVersion, MaxVersion uint16
	Suites                 []uint16
}

// Pool bounds kept-alive connections, for each gateway and target.
type Pool struct {
	MaxIdle     int
	IdleTimeout time.Duration
	MaxConns    int // 0: no bound
}

// Algorithm chooses among targets.
type Algorithm uint8

// Algorithms.
const (
	RoundRobin Algorithm = iota
	LeastConnections
	PeakEWMA
	ConsistentHash
)

// HashSource is where a consistent hash takes its key from.
type HashSource uint8

// Sources. A request without the header or cookie is spread by its client address.
const (
	HashClientIP HashSource = iota
	HashHeader
	HashCookie
)

// Balancer says which target takes a request.
type Balancer struct {
	Algorithm Algorithm
	HashOn    HashSource
	HashName  string
	// SlowStart is how long a target that came (back) takes to reach its full share; 0: at once.
	SlowStart time.Duration
}

// ActiveHealth probes targets.
type ActiveHealth struct {
	Path               string
	Host               string // empty: as for requests
	Interval, Timeout  time.Duration
	Healthy, Unhealthy int // probes in a row that change the verdict
	// Statuses are what a healthy target answers; nil: 200 to 399.
	Statuses []int
}

// PassiveHealth takes targets out that fail requests.
type PassiveHealth struct {
	// Failures in a row (no connection, broken connection, timeout, or one of Statuses) take a target out for Ejection,
	// which grows with every time, but never more than MaxEjected percent of the targets at once.
	Failures   int
	Statuses   []int
	Ejection   time.Duration
	MaxEjected int
}

// Breaker stops calls to a service of which too many fail.
type Breaker struct {
	// FailureRatio of at least MinRequests within Window, in percent, opens it for Open; then Probes requests decide.
	FailureRatio, MinRequests int
	Window, Open              time.Duration
	Probes                    int
}

// HostHeader says which Host an upstream is sent.
type HostHeader int

// Forms of HostHeader.
const (
	HostUpstream HostHeader = iota
	HostPreserve
	HostLiteral
)
