package runtime

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"keyward.dev/dataplane/internal/clientcert"
	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/revocation"
)

// Authority are the certificates of a CA certificate of the configuration; none if it cannot be used.
type Authority struct {
	UID          string
	Certificates []*x509.Certificate
	// Checker says what they have revoked; nil: nobody asks.
	Checker *revocation.Checker
}

// Demand is which clients a route wants: references to certificates, and names of CA certificates, sorted.
type Demand struct {
	// Key is equal for equal demands.
	Key       string
	Allow, CA []string
}

// NewDemand returns the demand for clients with one of these.
func NewDemand(allow, ca []string) *Demand {
	d := &Demand{Allow: clientcert.Names(allow), CA: clientcert.Names(ca)}
	d.Key = clientcert.Key(d.Allow, d.CA)
	return d
}

// Optional returns the demand for one of these certificates from clients that may go without.
func (d *Demand) Optional() *Demand {
	o := *d
	o.Key = optional + d.Key
	return &o
}

// Somebody returns the demand for a certificate, whoever issued it, from clients that may go without: d, which may be nil, is
// not all that they may show.
func (d *Demand) Somebody() *Demand {
	if d == nil {
		return &Demand{Key: optional + anyone}
	}
	return &Demand{Key: optional + anyone + d.Key}
}

// anyone is in the keys of demands that name nobody; no name begins with it.
const anyone = "*"

// optional is what the keys of demands begin with that nobody needs to meet; no name does.
const optional = "?"

// Needless reports whether the demand of a key is one that clients need not meet.
func Needless(key string) bool { return strings.HasPrefix(key, optional) }

// Or returns the demand that clients of either meet; other may be nil.
func (d *Demand) Or(other *Demand) *Demand {
	if other == nil {
		return d
	}
	return NewDemand(slices.Concat(d.Allow, other.Allow), slices.Concat(d.CA, other.CA))
}

// Asks is what authentication policies want of client certificates.
type Asks struct {
	// Demands are of the authorities that they name.
	Demands []*Demand
	// Own: one of them names none, and goes by what the route demands.
	Own bool
	// Types are those of the credentials that they take, which may be bound to certificates.
	Types []string
}

// Clients is a demand with what it comes to now.
type Clients struct {
	Demand *Demand
	Users  int // routes and credentials that make it
	Policy *clientcert.Policy
}

// Admits asks whether a peer meets the demand of a route, nil if so or if there is none. The demand is looked up by its key
// because what it comes to changes with the certificates, and the route does not. nil stands for a connection without TLS.
func (rt *Runtime) Admits(r *Route, p *clientcert.Peer, at time.Time) error {
	if r.Demand == nil {
		return nil
	}
	return rt.Vouched(r.Demand.Key, p, at)
}

// Vouched asks whether a peer meets the demand of a key; one that nothing makes nobody meets.
func (rt *Runtime) Vouched(key string, p *clientcert.Peer, at time.Time) error {
	c, ok := rt.Clients.Get(key)
	if !ok {
		return clientcert.ErrRefused
	}
	return p.Verify(c.Policy, at)
}

// Believed returns what a peer's certificate says if the authorities of a key vouch for it; the empty key stands for those of
// the route's demand.
func (rt *Runtime) Believed(r *Route, authorities string, p *clientcert.Peer, at time.Time) (*exchange.Certificate, exchange.Trust) {
	err := clientcert.ErrRefused
	switch {
	case authorities != "":
		err = rt.Vouched(authorities, p, at)
	case r.Demand != nil:
		err = rt.Admits(r, p, at)
	}
	switch {
	case errors.Is(err, clientcert.ErrMissing):
		return nil, exchange.Missing
	case errors.Is(err, clientcert.ErrUnsure):
		return nil, exchange.Unsure
	case err != nil:
		return nil, exchange.Distrusted
	default:
		return p.Names(), exchange.Trusted
	}
}
